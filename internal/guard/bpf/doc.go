// Package bpf is the bytecode of guards: eBPF as RFC 9669 defines it, with the
// frame, verdicts and helpers that PIE adds.
//
// abi.go is the contract between bytecode and what runs it: compile emits it,
// verify proves it kept, jit and the interpreter here implement it. Instructions
// are plain values (insn.go, opcode.go); codec.go reads and writes their 8-byte
// slots, asm.go and disasm.go their text, in the syntax of the public conformance
// suite, each the inverse of the other.
//
// What instructions compute is written once, in alu.go, as functions of numbers.
// Of RFC 9669's groups there are base32, base64, divmul32, divmul64, atomic32 and
// atomic64; the legacy packet loads are not.
//
// Interp is the checked interpreter. It is the oracle that verify and jit are
// tested against, so it is plain and trusts nobody: addresses of the guard's own
// memory are a kind and an offset, never numbers, and every step that a verified
// guard must not take is a Violation. Two things are left to the caller: what the
// target's memory holds, and which back-edges pay fuel.
package bpf
