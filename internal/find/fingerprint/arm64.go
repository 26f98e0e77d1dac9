package fingerprint

import (
	"debug/elf"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/arm64"
)

// arm64Machine reads A64 code. An address takes two instructions there, a page and
// what is added to it or accessed at it, so what the registers hold is followed
// along the code, in the order of addresses.
type arm64Machine struct{}

// isArm64 is set in every arguments feature of arm64 code, which so tells of what
// machine a fingerprint is.
const isArm64 = 1 << 39

// arm64Reader is a bodyReader with what its registers hold.
type arm64Reader struct {
	*bodyReader
	pages   [32]address.Vaddr // of adrp; 0 for nothing known
	pending arm64.Inst        // a move that inserts may follow
	value   uint64            // moved so far
}

func (arm64Machine) read(b *bodyReader) bool {
	r := arm64Reader{bodyReader: b}
	code := b.m.image.code(b.at, b.size)
	for off := uint64(0); off+arm64.Size <= uint64(len(code)); off += arm64.Size {
		if b.m.left--; b.m.left < 0 {
			return false
		}
		in, ok := arm64.Decode(code[off:], address.Addr(b.at.Add(int64(off))))
		if !ok {
			return false
		}
		r.instruction(&in)
	}
	r.moved()
	return uint64(len(code)) == b.size
}

func (r *arm64Reader) instruction(in *arm64.Inst) {
	const padding = 0 // udf #0
	if in.Kind == arm64.Hint || in.Word == padding {
		return
	}
	if in.Kind != arm64.Insert || in.Dest != r.pending.Dest {
		r.moved()
	}
	r.b.insns++
	r.control(in)
	r.exactly(in)
	r.operands(in)
	r.operation(arm64Token(in))
	r.follow(in)
}

func (r *arm64Reader) control(in *arm64.Inst) {
	to := address.Vaddr(in.Target)
	switch in.Flow {
	case arm64.FlowCall:
		r.calls++
		r.refer(to)
	case arm64.FlowIndirectCall:
		r.calls++
	case arm64.FlowCond, arm64.FlowJump:
		if in.Flow == arm64.FlowCond {
			r.jumps++
		}
		switch {
		case !r.inside(to):
			r.refer(to)
			r.away = append(r.away, departure{to, in.Flow == arm64.FlowCond})
		case in.Target <= in.At:
			r.loops++
		}
	}
}

// exactly adds the instruction to the hash of the code, without what the linker
// fills in: targets outside, pages, and what is added to a page.
func (r *arm64Reader) exactly(in *arm64.Inst) {
	word := in.Word
	switch {
	case in.Flow == arm64.FlowCall, (in.Flow == arm64.FlowJump || in.Flow == arm64.FlowCond) && !r.inside(address.Vaddr(in.Target)):
		word = in.Operation
	case in.Kind == arm64.Page, in.Kind == arm64.Address, in.Kind == arm64.Literal:
		word = in.Operation | uint32(in.Dest)
	case r.page(in) != 0:
		word &^= 0xfff << 10
	}
	r.hash = (r.hash ^ uint64(word)) * 0x100000001b3
}

// page returns the page that the instruction adds to, or accesses memory in.
func (r *arm64Reader) page(in *arm64.Inst) address.Vaddr {
	if in.Base == arm64.NoReg || in.Kind != arm64.Add && in.Kind != arm64.Memory || in.Index {
		return 0
	}
	return r.pages[in.Base]
}

// operands adds what the numbers in the instruction tell.
func (r *arm64Reader) operands(in *arm64.Inst) {
	page := r.page(in)
	switch in.Kind {
	case arm64.Address:
		r.address(address.Vaddr(in.Target), false)
	case arm64.Literal:
		r.address(address.Vaddr(in.Target), true)
	case arm64.Add, arm64.Memory:
		switch {
		case page != 0:
			r.address(page.Add(in.Imm), in.Kind == arm64.Memory)
		case in.Kind == arm64.Add && in.Base != arm64.SP && in.Base != arm64.FP:
			r.number(in.Imm)
		case in.Kind == arm64.Memory && in.Imm != 0 && in.Base != arm64.SP && in.Base != arm64.FP:
			r.add(numberFeature(KindField, uint64(in.Imm)))
		}
	case arm64.Number:
		if in.Dest != arm64.SP { // the size of the frame, which every compiler chooses anew
			r.number(in.Imm)
		}
	case arm64.Move:
		r.pending, r.value = *in, uint64(in.Imm)
	case arm64.Insert:
		if in.Dest == r.pending.Dest && r.pending.Kind == arm64.Move {
			r.value = r.value&^(0xffff<<in.Shift) | uint64(in.Imm)<<in.Shift
		} else {
			r.number(in.Imm)
		}
	}
}

// moved adds the number that one or several moves made.
func (r *arm64Reader) moved() {
	if r.pending.Kind == arm64.Move {
		r.number(int64(r.value))
	}
	r.pending = arm64.Inst{Dest: arm64.NoReg}
}

func (r *arm64Reader) number(v int64) {
	if v < -1 || v > 1 {
		r.add(numberFeature(KindImmediate, uint64(v)))
	}
}

// follow keeps the pages up to date.
func (r *arm64Reader) follow(in *arm64.Inst) {
	const changedByCalls = 0x4007ffff // x0 to x18 and the link register (AAPCS64, 6.1.1)
	gone := in.Writes
	if in.Flow == arm64.FlowCall || in.Flow == arm64.FlowIndirectCall {
		gone |= changedByCalls
	}
	for n := range arm64.SP {
		if gone>>n&1 != 0 {
			r.pages[n] = 0
		}
	}
	if in.Kind == arm64.Page && in.Dest < arm64.SP {
		r.pages[in.Dest] = address.Vaddr(in.Target)
	}
}

// arm64Token is the operation with the kind of its operand in memory.
func arm64Token(in *arm64.Inst) uint64 {
	t := uint64(in.Operation)
	switch {
	case in.Kind != arm64.Memory:
	case in.Base == arm64.SP:
		t |= 1 << 32
	case in.Index:
		t |= 2 << 32
	default:
		t |= 4 << 32
	}
	return t
}

// calls looks at every branch whose distance leads to the start of a function.
func (arm64Machine) calls(m *Module, starts *starts, i int, out []int32) []int32 {
	f := &m.funcs[i]
	code := m.image.code(f.at, f.size)
	for off := uint64(0); off+arm64.Size <= uint64(len(code)); off += arm64.Size {
		in, ok := arm64.Decode(code[off:], address.Addr(f.at.Add(int64(off))))
		if !ok || in.Flow != arm64.FlowCall && in.Flow != arm64.FlowJump {
			continue
		}
		to := address.Vaddr(in.Target)
		j := starts.function(to)
		if j < 0 {
			j = starts.function(m.image.through(to))
		}
		if j >= 0 && j != i {
			out = append(out, int32(j))
		}
	}
	return out
}

// stub knows a PLT entry: an optional bti, adrp x16, ldr x17, add x16, an optional
// autia1716, br x17.
func (arm64Machine) stub(code []byte, v address.Vaddr) (address.Vaddr, bool) {
	var page, slot address.Vaddr
	for off := 0; off+arm64.Size <= len(code); off += arm64.Size {
		in, ok := arm64.Decode(code[off:], address.Addr(v.Add(int64(off))))
		switch {
		case !ok:
			return 0, false
		case in.Kind == arm64.Hint:
		case in.Kind == arm64.Page && in.Dest == 16 && page == 0:
			page = address.Vaddr(in.Target)
		case in.Kind == arm64.Memory && in.Base == 16 && in.Dest == 17 && page != 0:
			slot = page.Add(in.Imm)
		case in.Kind == arm64.Add && in.Base == 16 && in.Dest == 16:
		case in.Flow == arm64.FlowIndirectJump && slot != 0 && in.Reads == 1<<17:
			return slot, true
		default:
			return 0, false
		}
	}
	return 0, false
}

// isPLT: stp x16, x30, [sp, #-16]!, behind an optional bti.
func (arm64Machine) isPLT(code []byte) bool {
	for off := 0; off < 2*arm64.Size; off += arm64.Size {
		in, ok := arm64.Decode(code[min(off, len(code)):], 0)
		if !ok || in.Kind != arm64.Hint {
			return ok && in.Word == 0xa9bf7bf0
		}
	}
	return false
}

// arguments: x0 to x7 (AAPCS64, 6.4.2).
func (arm64Machine) arguments(m *Module, i int) Feature {
	f := &m.funcs[i]
	read := arm64.ReadAtEntry(m.image.code(f.at, min(f.size, maxFunctionSize)))
	return feature(KindArguments, isArm64|uint64(read&0xff))
}

func (arm64Machine) named(relocation uint32) (name, slot bool) {
	switch elf.R_AARCH64(relocation) {
	case elf.R_AARCH64_JUMP_SLOT, elf.R_AARCH64_GLOB_DAT, elf.R_AARCH64_COPY:
		return true, true
	case elf.R_AARCH64_ABS64:
		return true, false
	}
	return false, false
}

func (arm64Machine) relative(relocation uint32) bool {
	return elf.R_AARCH64(relocation) == elf.R_AARCH64_RELATIVE
}

// takes: an address is made of two instructions, which may be far apart. Only data is
// looked at.
func (arm64Machine) takes(*Module, *starts, int) []int32 { return nil }
