// Package arm64 takes A64 instructions apart, as far as comparing and finding
// functions needs: where control goes, what addresses and numbers the code names, which
// general registers it reads and writes. Nothing here writes an instruction.
//
// Every instruction is one little-endian word of 32 bits. Which bits are what is
// decided by the class of the encoding (Arm Architecture Reference Manual, DDI 0487,
// chapter C4), and a class is a few masks here. What no class below knows counts as
// an operation without operands: the search then knows less, never something wrong.
// The package imports neither os nor syscall.
package arm64
