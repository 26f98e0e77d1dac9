package verify

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

const mem = bpf.ModeMEM

// wrongInsns are instructions that no text stands for.
var wrongInsns = []struct {
	name   string
	insn   bpf.Insn
	reason Reason
}{
	{"legacy packet load", bpf.Insn{Op: 0x20}, ReasonOpcode},
	{"legacy indirect packet load", bpf.Insn{Op: 0x40}, ReasonOpcode},
	{"64-bit immediate of half a size", bpf.Insn{Op: bpf.ClassLD | bpf.SizeW}, ReasonOpcode},
	{"arithmetic operation 14", bpf.Insn{Op: bpf.ClassALU64 | 0xe0}, ReasonOpcode},
	{"arithmetic operation 15", bpf.Insn{Op: bpf.ClassALU | 0xf0}, ReasonOpcode},
	{"jump operation 14", bpf.Insn{Op: bpf.ClassJMP | 0xe0}, ReasonOpcode},
	{"32-bit call", bpf.Insn{Op: bpf.ClassJMP32 | bpf.JmpCALL}, ReasonOpcode},
	{"32-bit exit", bpf.Insn{Op: bpf.ClassJMP32 | bpf.JmpEXIT}, ReasonOpcode},
	{"jump to a register", bpf.Insn{Op: bpf.OpJA | bpf.SrcX}, ReasonOpcode},
	{"neg of a register", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluNEG | bpf.SrcX}, ReasonOpcode},
	{"swap of 24 bits", bpf.Insn{Op: bpf.ClassALU | bpf.AluEND, Imm: 24}, ReasonOpcode},
	{"unconditional swap to big endian", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluEND | bpf.SrcX, Imm: 16}, ReasonOpcode},
	{"sign extension from 24 bits", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Off: 24}, ReasonOpcode},
	{"32-bit sign extension from 32 bits", bpf.Insn{Op: bpf.ClassALU | bpf.AluMOV | bpf.SrcX, Off: 32}, ReasonOpcode},
	{"sign extension of an immediate", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Off: 8}, ReasonOpcode},
	{"division with offset 2", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluDIV, Off: 2, Imm: 1}, ReasonOpcode},
	{"sign-extending load of 8 bytes", bpf.Insn{Op: bpf.ClassLDX | bpf.ModeMEMSX | bpf.SizeDW, Src: 10, Off: -8}, ReasonOpcode},
	{"load of mode 7", bpf.Insn{Op: bpf.ClassLDX | 0xe0}, ReasonOpcode},
	{"store of mode 4", bpf.Insn{Op: bpf.ClassSTX | bpf.ModeMEMSX}, ReasonOpcode},
	{"atomic immediate", bpf.Insn{Op: bpf.ClassST | bpf.ModeATOMIC, Dst: 10, Off: -8}, ReasonOpcode},
	{"atomic on a byte", bpf.Insn{Op: bpf.ClassSTX | bpf.ModeATOMIC | bpf.SizeB, Dst: 10, Off: -8}, ReasonOpcode},
	{"atomic operation 0x20", bpf.Insn{Op: bpf.ClassSTX | bpf.ModeATOMIC | bpf.SizeDW, Dst: 10, Off: -8, Imm: 0x20}, ReasonAtomic},
	{"atomic exchange without fetch", bpf.Insn{Op: bpf.ClassSTX | bpf.ModeATOMIC | bpf.SizeDW, Dst: 10, Off: -8, Imm: 0xe0}, ReasonAtomic},
	{"register 11", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 11}, ReasonRegister},
	{"source register 15", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV | bpf.SrcX, Src: 15}, ReasonRegister},
	{"register 200, which no encoding has", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 200}, ReasonRegister},
	{"r10 set", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV, Dst: 10}, ReasonWriteR10},
	{"r10 moved", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Dst: 10, Imm: -8}, ReasonWriteR10},
	{"r10 loaded", bpf.Insn{Op: bpf.ClassLDX | mem | bpf.SizeDW, Dst: 10, Src: 10, Off: -8}, ReasonWriteR10},
	{"r10 swapped", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluEND, Dst: 10, Imm: 64}, ReasonWriteR10},
	{"r10 fetched", bpf.Insn{Op: bpf.ClassSTX | bpf.ModeATOMIC | bpf.SizeDW, Dst: 10, Src: 10, Off: -8, Imm: 1}, ReasonWriteR10},
	{"offset of a sum", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Off: 1}, ReasonReserved},
	{"source of a sum with an immediate", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD, Src: 1}, ReasonReserved},
	{"immediate of a sum of registers", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD | bpf.SrcX, Imm: 1}, ReasonReserved},
	{"immediate of neg", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluNEG, Imm: 1}, ReasonReserved},
	{"offset of a swap", bpf.Insn{Op: bpf.ClassALU | bpf.AluEND, Imm: 16, Off: 1}, ReasonReserved},
	{"immediate of a jump", bpf.Insn{Op: bpf.OpJA, Imm: 1}, ReasonReserved},
	{"offset of a long jump", bpf.Insn{Op: bpf.OpJA32, Off: 1}, ReasonReserved},
	{"source of a comparison with an immediate", bpf.Insn{Op: bpf.ClassJMP | bpf.JmpEQ, Src: 2}, ReasonReserved},
	{"immediate of a comparison of registers", bpf.Insn{Op: bpf.ClassJMP | bpf.JmpEQ | bpf.SrcX, Imm: 2}, ReasonReserved},
	{"immediate of exit", bpf.Insn{Op: bpf.OpEXIT, Imm: 1}, ReasonReserved},
	{"register of exit", bpf.Insn{Op: bpf.OpEXIT, Dst: 1}, ReasonReserved},
	{"register of a call", bpf.Insn{Op: bpf.OpCALL, Dst: 1, Imm: 6}, ReasonReserved},
	{"offset of a call", bpf.Insn{Op: bpf.OpCALL, Off: 1, Imm: 6}, ReasonReserved},
	{"immediate of a load", bpf.Insn{Op: bpf.ClassLDX | mem | bpf.SizeW, Src: 10, Off: -8, Imm: 1}, ReasonReserved},
	{"source of an immediate store", bpf.Insn{Op: bpf.ClassST | mem | bpf.SizeW, Dst: 10, Src: 1, Off: -8}, ReasonReserved},
	{"immediate of a store", bpf.Insn{Op: bpf.ClassSTX | mem | bpf.SizeW, Dst: 10, Off: -8, Imm: 1}, ReasonReserved},
	{"shift by 64", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluLSH, Imm: 64}, ReasonShift},
	{"32-bit shift by 32", bpf.Insn{Op: bpf.ClassALU | bpf.AluRSH, Imm: 32}, ReasonShift},
	{"shift by -1", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluARSH, Imm: -1}, ReasonShift},
	{"division by 0", bpf.Insn{Op: bpf.ClassALU64 | bpf.AluDIV}, ReasonDivZero},
	{"signed 32-bit remainder by 0", bpf.Insn{Op: bpf.ClassALU | bpf.AluMOD, Off: 1}, ReasonDivZero},
	{"64-bit immediate without its half", bpf.Insn{Op: bpf.OpLDDW}, ReasonLDDW},
	{"64-bit immediate with an offset", bpf.Insn{Op: bpf.OpLDDW, Off: 1}, ReasonLDDW},
	{"helper 0", bpf.Insn{Op: bpf.OpCALL}, ReasonHelper},
	{"helper 200", bpf.Insn{Op: bpf.OpCALL, Imm: 200}, ReasonHelper},
	{"helper -1", bpf.Insn{Op: bpf.OpCALL, Imm: -1}, ReasonHelper},
	{"helper by BTF", bpf.Insn{Op: bpf.OpCALL, Src: 2, Imm: 1}, ReasonPseudo},
	{"call of a register", bpf.Insn{Op: bpf.OpCALLX, Dst: 2}, ReasonCallRegister},
	{"jump before the start", bpf.Insn{Op: bpf.OpJA, Off: -3}, ReasonJumpRange},
	{"jump behind the end", bpf.Insn{Op: bpf.OpJA, Off: 6}, ReasonJumpRange},
	{"long jump that overflows", bpf.Insn{Op: bpf.OpJA32, Imm: 1<<31 - 1}, ReasonJumpRange},
	{"branch behind the end", bpf.Insn{Op: bpf.ClassJMP | bpf.JmpEQ, Off: 100}, ReasonJumpRange},
	{"call behind the end", bpf.Insn{Op: bpf.OpCALL, Src: bpf.CallLocal, Imm: 100}, ReasonJumpRange},
	{"jump into a 64-bit immediate", bpf.Insn{Op: bpf.OpJA, Off: 1}, ReasonJumpIntoLDDW},
	{"branch into a 64-bit immediate", bpf.Insn{Op: bpf.ClassJMP | bpf.JmpEQ, Off: 1}, ReasonJumpIntoLDDW},
	{"call into a 64-bit immediate", bpf.Insn{Op: bpf.OpCALL, Src: bpf.CallLocal, Imm: 1}, ReasonJumpIntoLDDW},
}

// TestRefusesWrongInstructions changes one instruction of a right guard.
func TestRefusesWrongInstructions(t *testing.T) {
	for _, tt := range wrongInsns {
		t.Run(tt.name, func(t *testing.T) {
			// The instruction is the second of: mov r0, 0; …; lddw r2, 1; exit; mov r0, 0; exit.
			u := unit(t, "mov %r0, 0\nja +0\nlddw %r2, 1\nexit\n")
			u.Insns[1] = tt.insn
			wantRefusal(t, u, tt.reason)
		})
	}
}

func wantRefusal(t *testing.T, u *bpf.Unit, reason Reason) {
	t.Helper()
	_, err := Verify(u)
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Reason != reason {
		t.Errorf("refused because %v, want [%s]", err, reason)
	}
}

// secondSlot changes the 64-bit immediate of the right guard.
func secondSlot(second bpf.Insn, pseudo uint8, imm int32) func(u *bpf.Unit) {
	return func(u *bpf.Unit) {
		u.Insns[2].Src, u.Insns[2].Imm, u.Insns[3] = pseudo, imm, second
	}
}

// wrongUnits have what is wrong outside a single instruction.
var wrongUnits = []struct {
	name   string
	change func(u *bpf.Unit)
	reason Reason
}{
	{"no instructions", func(u *bpf.Unit) { u.Insns = nil }, ReasonEmpty},
	{"too many instructions", func(u *bpf.Unit) { u.Insns = slices.Repeat(u.Insns[:1], MaxInsns+1) }, ReasonTooLong},
	{"onfault behind the end", func(u *bpf.Unit) { u.OnFault = len(u.Insns) }, ReasonLandingRange},
	{"onfuel before the start", func(u *bpf.Unit) { u.OnFuel = -1 }, ReasonLandingRange},
	{"onfault in a 64-bit immediate", func(u *bpf.Unit) { u.OnFault = 3 }, ReasonLandingRange},
	{"64-bit immediate at the end", func(u *bpf.Unit) { u.Insns = append(u.Insns, bpf.Insn{Op: bpf.OpLDDW}) }, ReasonLDDW},
	{"second slot with an opcode", secondSlot(bpf.Insn{Op: 0x95}, 0, 0), ReasonLDDW},
	{"second slot with an offset", secondSlot(bpf.Insn{Off: 1}, 0, 0), ReasonReserved},
	{"second slot with a register", secondSlot(bpf.Insn{Dst: 1}, 0, 0), ReasonReserved},
	{"kernel map", secondSlot(bpf.Insn{}, 1, 0), ReasonPseudo},
	{"pseudo source 12", secondSlot(bpf.Insn{}, 12, 0), ReasonPseudo},
	{"symbol that is not there", secondSlot(bpf.Insn{}, bpf.PseudoSymbol, 3), ReasonSymbolRange},
	{"symbol −1", secondSlot(bpf.Insn{Imm: -1}, bpf.PseudoSymbol, -1), ReasonSymbolRange},
	{"rodata behind its end", secondSlot(bpf.Insn{}, bpf.PseudoRodata, 13), ReasonRodataRange},
	{"state behind its end", secondSlot(bpf.Insn{}, bpf.PseudoState, 128), ReasonStateRange},
	{"too much state", func(u *bpf.Unit) { u.State = bpf.MaxState + 8 }, ReasonStateRange},
	{"half a word of state", func(u *bpf.Unit) { u.State = 12 }, ReasonStateRange},
	{"rodata far away", secondSlot(bpf.Insn{Imm: 1}, bpf.PseudoRodata, 0), ReasonRodataRange},
}

func TestRefusesWrongUnits(t *testing.T) {
	for _, tt := range wrongUnits {
		t.Run(tt.name, func(t *testing.T) {
			u := unit(t, "mov %r0, 0\nja +0\nlddw %r2, 1\nexit\n")
			tt.change(u)
			wantRefusal(t, u, tt.reason)
		})
	}
}

func TestErrorNamesThePlace(t *testing.T) {
	u := unit(t, "mov %r0, 0\nadd %r0, %r3\nexit\n")
	u.Pos = []bpf.Pos{{File: "guard.go", Line: 7, Col: 2}, {File: "guard.go", Line: 8, Col: 9}}
	_, err := Verify(u)
	if want := "guard.go:8:9: "; err == nil || err.Error()[:len(want)] != want {
		t.Errorf("error %v does not begin with %s", err, want)
	}
	u.Pos = nil
	_, err = Verify(u)
	if want := "instruction 1: "; err == nil || err.Error()[:len(want)] != want {
		t.Errorf("error %v does not begin with %s", err, want)
	}
}

// TestEveryReasonIsTested: each constant of errors.go has a wrong guard.
func TestEveryReasonIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, s := range samples(t, "testdata/refused_*.txtar") {
		reason, _, _ := strings.Cut(s.name, "/")
		tested[reason] = true
	}
	for _, tt := range wrongInsns {
		tested[string(tt.reason)] = true
	}
	for _, tt := range wrongUnits {
		tested[string(tt.reason)] = true
	}
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, v := range spec.Values {
			if lit, ok := v.(*ast.BasicLit); ok && !tested[strings.Trim(lit.Value, `"`)] {
				t.Errorf("no wrong guard is refused because of %s", lit.Value)
			}
		}
		return true
	})
}
