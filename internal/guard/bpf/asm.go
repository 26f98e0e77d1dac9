package bpf

import "errors"

// Assemble translates text, in the syntax of the public conformance suite,
// one instruction a line.
func Assemble(text string) ([]Insn, error) {
	return nil, errors.New("bytecode: assembler not built yet")
}
