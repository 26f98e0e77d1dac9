package jit

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// TestHotPath: what a call that passes runs, instruction by instruction. The
// common guard adds nothing but a mode check, a count and its own compares.
func TestHotPath(t *testing.T) {
	for _, c := range []struct {
		name, text string
		free       amd64.RegSet
		most       int // bytes to the end of the displaced instructions, 13 with the jump back; a cache line is 64
		want       string
	}{
		{"NULL", "ldxdw %r2, [%r1+0]\njeq %r2, 0, +2\nmov %r0, 0\nexit\nmov %r0, 1\nexit", amd64.Set(amd64.RAX, amd64.R11), 64, `
			cmp dword ptr [mode], 0x0
			jz cold
			imul r11d, esp, -0xb04e277
			shr r11d, 0x19
			lea rax, ptr [calls]
			lock inc qword ptr [rax+8*r11]
			test rdi, rdi
			jz cold
			after`},
		{"int32 above a bound, nothing free", `
			ldxdw %r2, [%r1+8]
			movsx3264 %r2, %r2
			jsgt %r2, 1024, +2
			mov %r0, 0
			exit
			mov %r0, 1
			exit`, 0, 64, `
			cmp dword ptr [mode], 0x0
			jz cold
			push rax
			imul eax, esp, -0xb04e277
			shr eax, 0x19
			shl eax, 0x3
			add rax, qword ptr [literal]
			lock inc qword ptr [rax]
			pop rax
			cmp esi, 0x400
			jnle cold
			after`},
		{"u32 field", "ldxdw %r2, [%r1+0]\nldxw %r2, [%r2+16]\njgt %r2, 9, +2\nmov %r0, 0\nexit\nmov %r0, 1\nexit", amd64.Set(amd64.RAX, amd64.R11), 80, `
			cmp dword ptr [mode], 0x0
			jz cold
			imul r11d, esp, -0xb04e277
			shr r11d, 0x19
			lea rax, ptr [calls]
			lock inc qword ptr [rax+8*r11]
			lea rax, ptr [rdi-0xfff0]
			shr rax, 0x2f
			jnz cold
			mov eax, dword ptr [rdi+0x10]
			cmp rax, 0x9
			jnbe cold
			after`},
	} {
		l := Layout{
			Code: codeAt, Control: stateAt, Counters: sharedAt, Events: sharedAt + 0x1000,
			After: func(address.Addr) ([]byte, error) { return append([]byte{0x0f, 0x0b}, make([]byte, 11)...), nil }, // ud2
		}
		code, err := Compile(verified(t, c.text), Site{Free: c.free}, l)
		if err != nil {
			t.Fatal(err)
		}
		if code.End > c.most {
			t.Errorf("%s: the common way takes %d bytes, more than %d", c.name, code.End, c.most)
		}
		if got := listing(t, code.Bytes); got != strings.Join(strings.Fields(c.want), " ") {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, strings.Join(strings.Fields(c.want), " "))
		}
	}
}

// listing disassembles up to what follows the link; a forward branch goes to what
// is cold, or to the link. nops are left out.
func listing(t *testing.T, code []byte) string {
	t.Helper()
	var text []string
	for at := 0; ; {
		in, err := x86asm.Decode(code[at:], 64)
		if err != nil {
			t.Fatal(err)
		}
		at += in.Len
		s := named(x86asm.IntelSyntax(in, 0, nil), codeAt.Add(int64(at)))
		if rel, ok := in.Args[0].(x86asm.Rel); ok && rel > 0 {
			s = strings.Fields(s)[0] + " cold"
		}
		switch in.Op {
		case x86asm.NOP:
			continue
		case x86asm.UD2:
			return strings.Join(strings.Fields(strings.Join(append(text, "after"), " ")), " ")
		}
		text = append(text, s)
	}
}

// named puts names for RIP-relative addresses, next being that of the next
// instruction.
func named(s string, next address.Addr) string {
	before, rest, ok := strings.Cut(s, "[rip+0x")
	if !ok {
		return s
	}
	digits, after, _ := strings.Cut(rest, "]")
	d, err := strconv.ParseInt(digits, 16, 64)
	if err != nil {
		return s
	}
	name, ok := map[address.Addr]string{
		stateAt + ControlMode: "mode", sharedAt + CounterCalls: "calls",
	}[next.Add(d)]
	if !ok {
		name = "literal"
	}
	return before + "[" + name + "]" + after
}

// TestSpread: threads whose stacks lie at usual distances count in different
// cache lines.
func TestSpread(t *testing.T) {
	const threads, line = 8, 64 / 8
	factor := int64(hashFactor)
	for _, distance := range []uint64{
		8<<20 + 4096, 8 << 20, 2<<20 + 4096, 2 << 20, 1<<20 + 4096, 256<<10 + 4096, 128<<10 + 4096, 128 << 10,
		64<<10 + 4096, 64 << 10, 32 << 10, 8 << 10, 4 << 10, 2 << 10,
	} {
		for rsp := uint64(0x7f12_3456_7000); rsp < 0x7f12_3456_7000+1<<30; rsp += 0x1234570 {
			lines := map[uint32]bool{}
			for i := range uint64(threads) {
				slot := uint32((rsp-i*distance)*uint64(factor)) >> (32 - 7)
				if slot >= CallSlots {
					t.Fatalf("slot %d", slot)
				}
				lines[slot/line] = true
			}
			if len(lines) < 5 {
				t.Errorf("%d threads %#x apart, the first at %#x, share %d lines", threads, distance, rsp, len(lines))
				break
			}
		}
	}
}
