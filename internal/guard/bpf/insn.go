package bpf

// Insn is one 8-byte instruction slot (RFC 9669, section 3.1). A 64-bit
// immediate load occupies two slots.
type Insn struct {
	Op       uint8
	Dst, Src uint8
	Off      int16
	Imm      int32
}
