package arm64

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/arch/arm64/arm64asm"

	"github.com/patch-integration-engine/pie/internal/address"
)

const at = address.Addr(0x401234)

// TestDecode holds words, as an assembler makes them, beside what they are.
func TestDecode(t *testing.T) {
	for _, c := range []struct {
		word uint32
		text string
		want Inst
	}{
		{0xd503201f, "nop", Inst{Kind: Hint}},
		{0xd503245f, "bti c", Inst{Kind: Hint}},
		{0xd503233f, "paciasp", Inst{Kind: Hint}},
		{0x97fffffe, "bl .-8", Inst{Flow: FlowCall, Target: at - 8, Writes: 1 << 30}},
		{0x14000004, "b .+16", Inst{Flow: FlowJump, Target: at + 16}},
		{0x54000041, "b.ne .+8", Inst{Flow: FlowCond, Target: at + 8}},
		{0xb4000043, "cbz x3, .+8", Inst{Flow: FlowCond, Target: at + 8, Reads: 1 << 3}},
		{0x37280040, "tbnz w0, #5, .+8", Inst{Flow: FlowCond, Kind: Number, Imm: 32, Target: at + 8, Reads: 1}},
		{0xb7f80040, "tbnz x0, #63, .+8", Inst{Flow: FlowCond, Kind: Number, Imm: -1 << 63, Target: at + 8, Reads: 1}},
		{0xd61f0220, "br x17", Inst{Flow: FlowIndirectJump, Reads: 1 << 17}},
		{0xd63f0020, "blr x1", Inst{Flow: FlowIndirectCall, Reads: 1 << 1, Writes: 1 << 30}},
		{0xd65f03c0, "ret", Inst{Flow: FlowReturn, Reads: 1 << 30}},
		{0xd65f0bff, "retaa", Inst{Flow: FlowReturn, Reads: 1 << 30}},
		{0xd4207d00, "brk #0x3e8", Inst{Flow: FlowStop}},
		{0xd4000001, "svc #0", Inst{}},
		{0x0000dead, "udf #57005", Inst{Flow: FlowStop}},
		{0xb0000000, "adrp x0, .+0x1000", Inst{Kind: Page, Dest: 0, Target: 0x402000, Writes: 1}},
		{0x10000083, "adr x3, .+16", Inst{Kind: Address, Dest: 3, Target: at + 16, Writes: 1 << 3}},
		{0x58000041, "ldr x1, .+8", Inst{Kind: Literal, Dest: 1, Target: at + 8, Writes: 1 << 1}},
		{0x91004020, "add x0, x1, #16", Inst{Kind: Add, Dest: 0, Base: 1, Imm: 16, Reads: 1 << 1, Writes: 1}},
		{0x91400420, "add x0, x1, #1, lsl #12", Inst{Kind: Add, Dest: 0, Base: 1, Imm: 4096, Reads: 1 << 1, Writes: 1}},
		{0xd10083ff, "sub sp, sp, #32", Inst{Kind: Number, Dest: SP, Base: SP, Imm: 32}},
		{0x7101fc1f, "cmp w0, #127", Inst{Kind: Number, Base: 0, Imm: 127, Reads: 1}},
		{0x92401c20, "and x0, x1, #255", Inst{Kind: Number, Imm: 255, Reads: 1 << 1, Writes: 1}},
		{0x3201f3e0, "mov w0, #0xaaaaaaaa", Inst{Kind: Move, Dest: 0, Imm: 0xaaaaaaaa, Writes: 1}},
		{0x52824680, "mov w0, #0x1234", Inst{Kind: Move, Dest: 0, Imm: 0x1234, Writes: 1}},
		{0x12800060, "mov w0, #-4", Inst{Kind: Move, Dest: 0, Imm: -4, Writes: 1}},
		{0x72a00020, "movk w0, #1, lsl #16", Inst{Kind: Insert, Dest: 0, Imm: 1, Shift: 16, Reads: 1, Writes: 1}},
		{0xf9400c41, "ldr x1, [x2, #24]", Inst{Kind: Memory, Dest: 1, Base: 2, Imm: 24, Reads: 1 << 2, Writes: 1 << 1}},
		{0xb9000c41, "str w1, [x2, #12]", Inst{Kind: Memory, Dest: NoReg, Base: 2, Imm: 12, Reads: 3 << 1}},
		{0xf85f8041, "ldur x1, [x2, #-8]", Inst{Kind: Memory, Dest: 1, Base: 2, Imm: -8, Reads: 1 << 2, Writes: 1 << 1}},
		{0xf8408c41, "ldr x1, [x2, #8]!", Inst{Kind: Memory, Dest: 1, Base: 2, Imm: 8, Reads: 1 << 2, Writes: 3 << 1}},
		{0xf8637841, "ldr x1, [x2, x3, lsl #3]", Inst{Kind: Memory, Dest: 1, Base: 2, Index: true, Reads: 3 << 2, Writes: 1 << 1}},
		{0xa9bf7bfd, "stp x29, x30, [sp, #-16]!", Inst{Kind: Memory, Dest: NoReg, Base: SP, Imm: -16, Reads: 3 << 29}},
		{0xa9410440, "ldp x0, x1, [x2, #16]", Inst{Kind: Memory, Dest: NoReg, Base: 2, Imm: 16, Reads: 1 << 2, Writes: 3}},
		{0x6d010400, "stp d0, d1, [x0, #16]", Inst{Kind: Memory, Dest: NoReg, Base: 0, Imm: 16, Reads: 1}},
		{0x3dc00400, "ldr q0, [x0, #16]", Inst{Kind: Memory, Dest: NoReg, Base: 0, Imm: 16, Reads: 1}},
		{0x8b020020, "add x0, x1, x2", Inst{Reads: 3 << 1, Writes: 1}},
		{0x9b020c20, "madd x0, x1, x2, x3", Inst{Reads: 7 << 1, Writes: 1}},
		{0x1a820020, "csel w0, w1, w2, eq", Inst{Reads: 3 << 1, Writes: 1}},
		{0x9e670020, "fmov d0, x1", Inst{Reads: 1 << 1}},
		{0x1e380020, "fcvtzs w0, s1", Inst{Writes: 1}},
		{0x885f7c41, "ldxr w1, [x2]", Inst{Kind: Memory, Dest: NoReg, Base: 2, Reads: 1 << 2, Writes: 1 << 1}},
	} {
		code := binary.LittleEndian.AppendUint32(nil, c.word)
		got, ok := Decode(code, at)
		c.want.Word, c.want.At, c.want.Operation = c.word, at, got.Operation
		if c.want.Kind != Move && c.want.Kind != Insert && c.want.Kind != Add && c.want.Kind != Memory && c.want.Kind != Page && c.want.Kind != Address && c.want.Kind != Literal && c.want.Dest != SP {
			c.want.Dest = NoReg
		}
		if c.want.Kind != Add && c.want.Kind != Memory && c.want.Base == 0 && got.Base != 0 {
			c.want.Base = NoReg
		}
		if !ok || got != c.want {
			t.Errorf("%08x %s:\n got %+v\nwant %+v", c.word, c.text, got, c.want)
		}
	}
	for _, word := range []uint32{0x02000000, 0x06000000, 0xe2ffffff} {
		if in, ok := Decode(binary.LittleEndian.AppendUint32(nil, word), at); ok {
			t.Errorf("%08x is no instruction: %+v", word, in)
		}
	}
}

// TestAgainstArm64asm compares where control goes, and what is addressed, with the Go
// project's disassembler, for random words.
func TestAgainstArm64asm(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[Flow]int{}
	addresses := 0
	for range 500_000 {
		word := random.Uint32()
		code := binary.LittleEndian.AppendUint32(nil, word)
		theirs, err := arm64asm.Decode(code)
		if err != nil {
			continue // it knows fewer
		}
		ours, ok := Decode(code, at)
		if !ok {
			t.Fatalf("%08x is %v, and is not read", word, theirs)
		}
		if want := flowOf(theirs); ours.Flow != want {
			t.Fatalf("%08x %v: flow %d, want %d", word, theirs, ours.Flow, want)
		}
		seen[ours.Flow]++
		for _, arg := range theirs.Args {
			distance, ok := arg.(arm64asm.PCRel)
			if !ok {
				continue
			}
			addresses++
			want := at.Add(int64(distance))
			if theirs.Op == arm64asm.ADRP {
				want = (at &^ 0xfff).Add(int64(distance))
			}
			if ours.Target != want {
				t.Fatalf("%08x %v: at %v, want %v", word, theirs, ours.Target, want)
			}
		}
	}
	for f := FlowNext; f <= FlowStop; f++ {
		if seen[f] == 0 && f != FlowReturn && f != FlowIndirectJump && f != FlowIndirectCall { // one word in a hundred million
			t.Errorf("flow %d was never met", f)
		}
	}
	if addresses < 10000 {
		t.Errorf("%d addresses were compared", addresses)
	}
}

func flowOf(in arm64asm.Inst) Flow {
	switch in.Op {
	case arm64asm.B:
		if c, ok := in.Args[0].(arm64asm.Cond); ok {
			if c.Value&^1 != 14 {
				return FlowCond
			}
		}
		return FlowJump
	case arm64asm.BL:
		return FlowCall
	case arm64asm.CBZ, arm64asm.CBNZ, arm64asm.TBZ, arm64asm.TBNZ:
		return FlowCond
	case arm64asm.BR:
		return FlowIndirectJump
	case arm64asm.BLR:
		return FlowIndirectCall
	case arm64asm.RET:
		return FlowReturn
	case arm64asm.BRK, arm64asm.HLT, arm64asm.ERET, arm64asm.DRPS:
		return FlowStop
	}
	return FlowNext
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x1f, 0x20, 0x03, 0xd5, 0xfe, 0xff, 0xff, 0x97})
	f.Fuzz(func(t *testing.T, code []byte) {
		in, ok := Decode(code, at)
		if ok && len(code) < Size {
			t.Fatalf("%x was read: %+v", code, in)
		}
		ReadAtEntry(code)
	})
}
