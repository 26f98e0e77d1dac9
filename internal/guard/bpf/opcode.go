package bpf

// Opcode fields (RFC 9669, section 3). The low three bits of an opcode are its
// class; for arithmetic and jumps bit 3 is the source and bits 4–7 the
// operation; for loads and stores bits 3–4 are the size and bits 5–7 the mode.
const (
	ClassLD    = 0x00
	ClassLDX   = 0x01
	ClassST    = 0x02
	ClassSTX   = 0x03
	ClassALU   = 0x04 // 32-bit arithmetic
	ClassJMP   = 0x05
	ClassJMP32 = 0x06 // 32-bit comparisons
	ClassALU64 = 0x07

	SrcK = 0x00 // the second operand is Imm
	SrcX = 0x08 // the second operand is register Src

	SizeW  = 0x00 // 4 bytes
	SizeH  = 0x08 // 2 bytes
	SizeB  = 0x10 // 1 byte
	SizeDW = 0x18 // 8 bytes

	ModeIMM    = 0x00
	ModeMEM    = 0x60
	ModeMEMSX  = 0x80 // sign-extending load
	ModeATOMIC = 0xc0
)

// Arithmetic operations (RFC 9669, section 4.1). Off is 1 in DIV and MOD for
// the signed form, and 8, 16 or 32 in MOV for the sign-extending form.
const (
	AluADD  = 0x00
	AluSUB  = 0x10
	AluMUL  = 0x20
	AluDIV  = 0x30
	AluOR   = 0x40
	AluAND  = 0x50
	AluLSH  = 0x60
	AluRSH  = 0x70
	AluNEG  = 0x80
	AluMOD  = 0x90
	AluXOR  = 0xa0
	AluMOV  = 0xb0
	AluARSH = 0xc0
	AluEND  = 0xd0 // byte swap; Imm is the width
)

// Jumps (RFC 9669, section 4.3). JA in class JMP32 has its offset in Imm.
const (
	JmpJA   = 0x00
	JmpEQ   = 0x10
	JmpGT   = 0x20
	JmpGE   = 0x30
	JmpSET  = 0x40
	JmpNE   = 0x50
	JmpSGT  = 0x60
	JmpSGE  = 0x70
	JmpCALL = 0x80
	JmpEXIT = 0x90
	JmpLT   = 0xa0
	JmpLE   = 0xb0
	JmpSLT  = 0xc0
	JmpSLE  = 0xd0
)

// Atomic operations: Imm of STX with ModeATOMIC (RFC 9669, section 5.3).
const (
	AtomicADD     = 0x00
	AtomicOR      = 0x40
	AtomicAND     = 0x50
	AtomicXOR     = 0xa0
	AtomicFetch   = 0x01
	AtomicXCHG    = 0xe0 | AtomicFetch
	AtomicCMPXCHG = 0xf0 | AtomicFetch
)

// Whole opcodes that have one meaning.
const (
	OpLDDW  = ClassLD | SizeDW | ModeIMM
	OpJA    = ClassJMP | JmpJA
	OpJA32  = ClassJMP32 | JmpJA
	OpCALL  = ClassJMP | JmpCALL
	OpCALLX = ClassJMP | JmpCALL | SrcX // calls through a register: not in RFC 9669; only assembled
	OpEXIT  = ClassJMP | JmpEXIT
)

// CallLocal is Src of a CALL whose Imm is the distance to a function of the
// same program; Src 0 calls the helper with number Imm.
const CallLocal = 1

// R10 is the frame pointer: the end of the stack, read only. R0 holds results,
// r1–r5 arguments, r6–r9 survive calls.
const (
	R0 = iota
	R1
	R2
	R3
	R4
	R5
	R6
	R7
	R8
	R9
	R10
	NumRegs
)

// Class returns the class of the opcode.
func (i Insn) Class() uint8 { return i.Op & 0x07 }

// Operation returns bits 4–7 of an arithmetic or jump opcode: an Alu or Jmp constant.
func (i Insn) Operation() uint8 { return i.Op & 0xf0 }

// Mode returns bits 5–7 of a load's or store's opcode: a Mode constant.
func (i Insn) Mode() uint8 { return i.Op & 0xe0 }

// Width returns how many bytes a load or store accesses.
func (i Insn) Width() int {
	switch i.Op & 0x18 {
	case SizeW:
		return 4
	case SizeH:
		return 2
	case SizeB:
		return 1
	}
	return 8
}

// IsLDDW reports whether i is the first slot of a 64-bit immediate load.
func (i Insn) IsLDDW() bool { return i.Op == OpLDDW }

// IsALU reports whether i is arithmetic, 32 or 64 bit.
func (i Insn) IsALU() bool { return i.Class() == ClassALU || i.Class() == ClassALU64 }

// IsLoad reports whether i reads memory into Dst (LDX).
func (i Insn) IsLoad() bool { return i.Class() == ClassLDX }

// IsStore reports whether i writes memory (ST, STX, atomics included).
func (i Insn) IsStore() bool { return i.Class() == ClassST || i.Class() == ClassSTX }

// IsAtomic reports whether i is an atomic read-modify-write.
func (i Insn) IsAtomic() bool { return i.Class() == ClassSTX && i.Mode() == ModeATOMIC }

// IsConditional reports whether i is a jump that may fall through.
func (i Insn) IsConditional() bool {
	if i.Class() != ClassJMP && i.Class() != ClassJMP32 {
		return false
	}
	switch op := i.Operation(); op {
	case JmpJA, JmpCALL, JmpEXIT:
		return false
	default:
		return op <= JmpSLE
	}
}

// IsHelperCall reports whether i calls a helper.
func (i Insn) IsHelperCall() bool { return i.Op == OpCALL && i.Src == 0 }

// IsLocalCall reports whether i calls a function of the same program.
func (i Insn) IsLocalCall() bool { return i.Op == OpCALL && i.Src == CallLocal }

// Target returns the index that i at index pc jumps to, or calls locally; ok
// is false when i does neither. The index is not checked to be in the program.
func (i Insn) Target(pc int) (target int, ok bool) {
	switch {
	case i.Op == OpJA32, i.IsLocalCall():
		return pc + 1 + int(i.Imm), true
	case i.Op == OpJA, i.IsConditional():
		return pc + 1 + int(i.Off), true
	}
	return 0, false
}

// Next returns the index of the instruction after i at pc: LDDW has two slots.
func (i Insn) Next(pc int) int {
	if i.IsLDDW() {
		return pc + 2
	}
	return pc + 1
}

// IsBackEdge reports whether i at pc jumps to itself or backwards. Every cycle
// of a program has such a jump, so that fuel charged there ends every loop.
func (i Insn) IsBackEdge(pc int) bool {
	t, ok := i.Target(pc)
	return ok && !i.IsLocalCall() && t <= pc
}
