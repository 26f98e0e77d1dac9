// Package amd64 reads and writes x86-64 machine code, as far as guarding a
// function needs it.
//
// Reading (decode.go, encoding.go, forms.go, effects*.go, free.go, relocate.go):
// what an instruction's parts are, where control goes, what it reads and changes,
// and how a run of instructions does the same at another address. Lengths are
// exact for every instruction compilers emit: they decide where a jump is
// written. Effects are a bound: what is not modelled reads and changes
// everything, so that an unknown instruction costs speed, never correctness.
//
// Writing (asm*.go): an assembler at an address, with labels.
//
// Code read is input from an enemy: nothing here panics, and every walk is bounded.
//
// Sources: Intel SDM volume 2 (encoding, opcode maps in appendix A, one page an
// instruction), AMD APM volume 3 (XOP, 3DNow!, operand size of near branches),
// System V psABI for x86-64, section 3.2 (registers, red zone).
package amd64
