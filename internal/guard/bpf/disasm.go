package bpf

import "fmt"

// String returns the instruction in the assembler's syntax.
func (i Insn) String() string {
	return fmt.Sprintf("op %#02x dst %d src %d off %d imm %d", i.Op, i.Dst, i.Src, i.Off, i.Imm)
}
