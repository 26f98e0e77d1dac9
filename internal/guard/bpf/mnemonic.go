package bpf

// Mnemonics of the assembler and disassembler, as the public conformance suite
// writes them. A 32-bit form has the suffix 32.

var aluNames = map[uint8]string{
	AluADD: "add", AluSUB: "sub", AluMUL: "mul", AluDIV: "div", AluOR: "or", AluAND: "and", AluLSH: "lsh",
	AluRSH: "rsh", AluNEG: "neg", AluMOD: "mod", AluXOR: "xor", AluMOV: "mov", AluARSH: "arsh",
}

var jumpNames = map[uint8]string{
	JmpEQ: "jeq", JmpGT: "jgt", JmpGE: "jge", JmpSET: "jset", JmpNE: "jne", JmpSGT: "jsgt",
	JmpSGE: "jsge", JmpLT: "jlt", JmpLE: "jle", JmpSLT: "jslt", JmpSLE: "jsle",
}

var sizeNames = map[uint8]string{SizeB: "b", SizeH: "h", SizeW: "w", SizeDW: "dw"}

var atomicNames = map[int32]string{
	AtomicADD: "add", AtomicOR: "or", AtomicAND: "and", AtomicXOR: "xor", AtomicXCHG: "xchg", AtomicCMPXCHG: "cmpxchg",
}

// signExtensions are the forms of MOV with an offset.
var signExtensions = map[string]Insn{
	"movsx832":  {Op: ClassALU | AluMOV | SrcX, Off: 8},
	"movsx1632": {Op: ClassALU | AluMOV | SrcX, Off: 16},
	"movsx864":  {Op: ClassALU64 | AluMOV | SrcX, Off: 8},
	"movsx1664": {Op: ClassALU64 | AluMOV | SrcX, Off: 16},
	"movsx3264": {Op: ClassALU64 | AluMOV | SrcX, Off: 32},
}

// byteSwaps are the forms of END; bswap and swap are two names of one.
var byteSwaps = map[string]Insn{
	"le16": {Op: ClassALU | AluEND, Imm: 16}, "be16": {Op: ClassALU | AluEND | SrcX, Imm: 16},
	"le32": {Op: ClassALU | AluEND, Imm: 32}, "be32": {Op: ClassALU | AluEND | SrcX, Imm: 32},
	"le64": {Op: ClassALU | AluEND, Imm: 64}, "be64": {Op: ClassALU | AluEND | SrcX, Imm: 64},
	"bswap16": {Op: ClassALU64 | AluEND, Imm: 16}, "swap16": {Op: ClassALU64 | AluEND, Imm: 16},
	"bswap32": {Op: ClassALU64 | AluEND, Imm: 32}, "swap32": {Op: ClassALU64 | AluEND, Imm: 32},
	"bswap64": {Op: ClassALU64 | AluEND, Imm: 64}, "swap64": {Op: ClassALU64 | AluEND, Imm: 64},
}

// pseudoNames are the sources of a 64-bit immediate that are not numbers.
var pseudoNames = map[uint8]string{PseudoSymbol: "symbol", PseudoRodata: "rodata", PseudoState: "state"}

// A shape is which operands an instruction has.
type shape uint8

const (
	shapeNone     shape = iota // exit
	shapeDst                   // neg %r1
	shapeRegs                  // movsx832 %r1, %r2
	shapeALU                   // add %r1, %r2 | add %r1, 5
	shapeJump                  // ja label
	shapeCompare               // jeq %r1, 5, label
	shapeLoad                  // ldxw %r1, [%r2+4]
	shapeStore                 // stw [%r1+4], 5
	shapeStoreReg              // stxw [%r1+4], %r2
	shapeWide                  // lddw %r1, 5
	shapeCall                  // call 5 | call local f | call %r2
)

// A form is what a mnemonic stands for, its operands still missing.
type form struct {
	insn  Insn
	shape shape
}

// forms returns every mnemonic but those of atomics, which are several words.
func forms() map[string]form {
	f := map[string]form{
		"exit": {Insn{Op: OpEXIT}, shapeNone}, "call": {Insn{Op: OpCALL}, shapeCall}, "lddw": {Insn{Op: OpLDDW}, shapeWide},
		"ja": {Insn{Op: OpJA}, shapeJump}, "ja32": {Insn{Op: OpJA32}, shapeJump},
	}
	for op, name := range aluNames {
		s := shapeALU
		if op == AluNEG {
			s = shapeDst
		}
		f[name] = form{Insn{Op: ClassALU64 | op}, s}
		f[name+"32"] = form{Insn{Op: ClassALU | op}, s}
		if op == AluDIV || op == AluMOD {
			f["s"+name] = form{Insn{Op: ClassALU64 | op, Off: 1}, s}
			f["s"+name+"32"] = form{Insn{Op: ClassALU | op, Off: 1}, s}
		}
	}
	for op, name := range jumpNames {
		f[name] = form{Insn{Op: ClassJMP | op}, shapeCompare}
		f[name+"32"] = form{Insn{Op: ClassJMP32 | op}, shapeCompare}
	}
	for size, name := range sizeNames {
		f["ldx"+name] = form{Insn{Op: ClassLDX | ModeMEM | size}, shapeLoad}
		f["st"+name] = form{Insn{Op: ClassST | ModeMEM | size}, shapeStore}
		f["stx"+name] = form{Insn{Op: ClassSTX | ModeMEM | size}, shapeStoreReg}
		if size != SizeDW {
			f["ldxs"+name] = form{Insn{Op: ClassLDX | ModeMEMSX | size}, shapeLoad}
		}
	}
	for name, i := range signExtensions {
		f[name] = form{i, shapeRegs}
	}
	for name, i := range byteSwaps {
		f[name] = form{i, shapeDst}
	}
	return f
}
