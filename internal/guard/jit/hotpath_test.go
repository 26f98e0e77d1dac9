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
		rseq       RseqArea
		most       int // bytes to the end of the displaced instructions, 13 with the jump back; a cache line is 64
		want       string
	}{
		{"NULL", "ldxdw %r2, [%r1+0]\njeq %r2, 0, +2\nmov %r0, 0\nexit\nmov %r0, 1\nexit", amd64.Set(amd64.RAX, amd64.R11), RseqArea{}, 64, `
			cmp dword ptr [mode], 0x0
			jz cold
			imul eax, esp, -0xb04e277
			shr eax, 0x1c
			shl eax, 0x6
			add rax, qword ptr [literal]
			lock inc qword ptr [rax+0x38]
			test rdi, rdi
			jz cold
			after`},
		{"NULL, counted by CPU", "ldxdw %r2, [%r1+0]\njeq %r2, 0, +2\nmov %r0, 0\nexit\nmov %r0, 1\nexit", amd64.Set(amd64.RAX, amd64.R11), RseqArea{Known: true, Offset: 0x920}, 112, `
			cmp dword ptr [mode], 0x0
			jz cold
			lea rax, ptr [literal]
			mov qword ptr fs:[0x928], rax
			mov eax, dword ptr fs:[0x924]
			cmp eax, 0x70
			jnb cold
			imul eax, eax, 0x10200000
			shr eax, 0x19
			shl eax, 0x3
			add rax, qword ptr [literal]
			inc qword ptr [rax]
			xor eax, eax
			mov qword ptr fs:[0x928], rax
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
			exit`, 0, RseqArea{}, 64, `
			cmp dword ptr [mode], 0x0
			jz cold
			push rax
			imul eax, esp, -0xb04e277
			shr eax, 0x1c
			shl eax, 0x6
			add rax, qword ptr [literal]
			lock inc qword ptr [rax+0x38]
			pop rax
			cmp esi, 0x400
			jnle cold
			after`},
		{"u32 field", "ldxdw %r2, [%r1+0]\nldxw %r2, [%r2+16]\njgt %r2, 9, +2\nmov %r0, 0\nexit\nmov %r0, 1\nexit", amd64.Set(amd64.RAX, amd64.R11), RseqArea{}, 80, `
			cmp dword ptr [mode], 0x0
			jz cold
			imul eax, esp, -0xb04e277
			shr eax, 0x1c
			shl eax, 0x6
			add rax, qword ptr [literal]
			lock inc qword ptr [rax+0x38]
			lea rax, ptr [rdi-0xfff0]
			shr rax, 0x2f
			jnz cold
			mov eax, dword ptr [rdi+0x10]
			cmp rax, 0x9
			jnbe cold
			after`},
	} {
		l := Layout{
			Code: codeAt, Control: stateAt, Counters: sharedAt, Events: sharedAt + 0x1000, Rseq: c.rseq,
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
