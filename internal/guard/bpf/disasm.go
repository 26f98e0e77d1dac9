package bpf

import (
	"fmt"
	"strings"
)

// String returns the instruction in the assembler's syntax, jumps with their
// distance. An instruction that the assembler has no text for is shown as
// `.slot` and its fields; so is a 64-bit immediate load, whose second slot i
// does not know (Disassemble does).
func (i Insn) String() string {
	if s, ok := i.text(); ok {
		return s
	}
	return fmt.Sprintf(".slot op %#02x dst %d src %d off %d imm %d", i.Op, i.Dst, i.Src, i.Off, i.Imm)
}

// Disassemble returns one line an instruction, which Assemble reads back.
func Disassemble(insns []Insn) string {
	var b strings.Builder
	for pc := 0; pc < len(insns); pc = insns[pc].Next(pc) {
		i := insns[pc]
		if i.IsLDDW() && pc+1 < len(insns) {
			b.WriteString(wideText(i, insns[pc+1]))
		} else {
			b.WriteString(i.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func wideText(lo, hi Insn) string {
	name, pseudo := pseudoNames[lo.Src]
	if lo.Dst >= NumRegs || lo.Off != 0 || !pseudo && lo.Src != 0 || hi != (Insn{Imm: hi.Imm}) {
		return fmt.Sprintf(".slots %v; %v", lo, hi)
	}
	v := Imm64(lo, hi)
	if pseudo {
		return fmt.Sprintf("lddw %%r%d, %s %d", lo.Dst, name, v)
	}
	return fmt.Sprintf("lddw %%r%d, %#x", lo.Dst, v)
}

// text returns the instruction's text if it has one that gives back every field.
func (i Insn) text() (string, bool) {
	var s string
	switch i.Class() {
	case ClassALU, ClassALU64:
		s = i.aluText()
	case ClassJMP, ClassJMP32:
		s = i.jumpText()
	case ClassLDX, ClassST, ClassSTX:
		s = i.memoryText()
	}
	if s == "" || i.Dst >= NumRegs || i.Src >= NumRegs {
		return "", false
	}
	back, err := Assemble(s)
	return s, err == nil && len(back) == 1 && back[0] == i
}

func (i Insn) suffix() string {
	if i.Class() == ClassALU || i.Class() == ClassJMP32 {
		return "32"
	}
	return ""
}

// second is the register or immediate of arithmetic and comparisons.
func (i Insn) second() string {
	if i.Op&SrcX != 0 {
		return fmt.Sprintf("%%r%d", i.Src)
	}
	return fmt.Sprint(i.Imm)
}

func (i Insn) aluText() string {
	switch op := i.Operation(); {
	case op == AluEND:
		kind := "le"
		if i.Class() == ClassALU64 {
			kind = "bswap"
		} else if i.Op&SrcX != 0 {
			kind = "be"
		}
		return fmt.Sprintf("%s%d %%r%d", kind, i.Imm, i.Dst)
	case op == AluNEG:
		return fmt.Sprintf("neg%s %%r%d", i.suffix(), i.Dst)
	case op == AluMOV && i.Off != 0:
		for name, f := range signExtensions {
			if f.Op == i.Op && f.Off == i.Off {
				return fmt.Sprintf("%s %%r%d, %%r%d", name, i.Dst, i.Src)
			}
		}
		return ""
	}
	signed := ""
	if i.Off == 1 {
		signed = "s"
	}
	return fmt.Sprintf("%s%s%s %%r%d, %s", signed, aluNames[i.Operation()], i.suffix(), i.Dst, i.second())
}

func (i Insn) jumpText() string {
	switch {
	case i.Op == OpEXIT:
		return "exit"
	case i.Op == OpJA:
		return fmt.Sprintf("ja %+d", i.Off)
	case i.Op == OpJA32:
		return fmt.Sprintf("ja32 %+d", i.Imm)
	case i.IsLocalCall():
		return fmt.Sprintf("call local %+d", i.Imm)
	case i.Op == OpCALL:
		return fmt.Sprintf("call %v", Helper(i.Imm))
	case i.Op == OpCALLX:
		return fmt.Sprintf("call %%r%d", i.Dst)
	case i.IsConditional():
		return fmt.Sprintf("%s%s %%r%d, %s, %+d", jumpNames[i.Operation()], i.suffix(), i.Dst, i.second(), i.Off)
	}
	return ""
}

func (i Insn) memoryText() string {
	size := sizeNames[i.Op&0x18]
	switch {
	case i.IsAtomic():
		name, ok := atomicNames[i.Imm]
		fetch := ""
		if !ok {
			name, fetch = atomicNames[i.Imm&^AtomicFetch], "fetch "
		}
		narrow := ""
		if i.Width() == 4 {
			narrow = "32"
		}
		return fmt.Sprintf("lock %s%s%s [%%r%d%+d], %%r%d", fetch, name, narrow, i.Dst, i.Off, i.Src)
	case i.Class() == ClassLDX && i.Mode() == ModeMEMSX:
		return fmt.Sprintf("ldxs%s %%r%d, [%%r%d%+d]", size, i.Dst, i.Src, i.Off)
	case i.Class() == ClassLDX:
		return fmt.Sprintf("ldx%s %%r%d, [%%r%d%+d]", size, i.Dst, i.Src, i.Off)
	case i.Class() == ClassST:
		return fmt.Sprintf("st%s [%%r%d%+d], %d", size, i.Dst, i.Off, i.Imm)
	}
	return fmt.Sprintf("stx%s [%%r%d%+d], %%r%d", size, i.Dst, i.Off, i.Src)
}
