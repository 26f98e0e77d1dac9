package amd64

// Operands is what an instruction does and to what kind of operand, for
// comparing code that two compilers made of one source.
type Operands struct {
	// Operation identifies the operation: opcode map, opcode, what extends it,
	// operand size. Encodings that differ in the length of an immediate or of a
	// branch only have the same.
	Operation uint32
	// Base and Index are the registers of a memory operand; HasMem tells whether
	// there is one.
	HasMem      bool
	Base, Index Reg
	Disp        int64
	// DispOff and DispLen say where in the instruction the displacement is;
	// ImmOff and ImmLen the immediate or the distance of a branch. Length 0: none.
	DispOff, DispLen int
	Imm              int64
	ImmOff, ImmLen   int
}

// Operands takes the instruction apart.
func (i *Inst) Operands() Operands {
	e := &i.enc
	o := Operands{Operation: e.operation(), Base: NoReg, Index: NoReg, DispOff: e.dispOff, DispLen: e.dispLen, ImmOff: e.immOff, ImmLen: e.immLen}
	if e.isMem() {
		o.HasMem, o.Base, o.Index = true, e.base(), e.index()
		o.Disp = e.displacement()
	}
	o.Imm = e.immediate()
	return o
}

// operation packs opcode (8 bits), extension (3), map (3), table (5), prefix
// (2), width (2).
func (e *encoding) operation() uint32 {
	space, opcode, ext := e.space, e.opcode, byte(0)
	switch space {
	case spaceOne:
		space, opcode, ext = e.canonical()
	case space0F:
		if extended0F(opcode) {
			ext = e.modrm >> 3 & 7
		}
	}
	width := uint32(0)
	switch {
	case e.rexW():
		width = 1
	case e.size16:
		width = 2
	}
	prefix := uint32(e.pp)
	if e.rep != 0 {
		prefix = uint32(e.rep & 3)
	}
	return uint32(opcode) | uint32(ext)<<8 | uint32(space)<<11 | uint32(e.table)<<14 | prefix<<19 | width<<21
}

// canonical gives one-byte opcodes with several encodings of one operation the
// same number (Intel SDM vol. 2, table A-2).
func (e *encoding) canonical() (space, byte, byte) {
	op := e.opcode
	switch {
	case op < 0x40 && op&7 >= 4 && op&7 <= 5: // op al/eax, imm
		return spaceOne, 0x80 | op&1, op >> 3
	case op >= 0x50 && op <= 0x5f: // push, pop
		return spaceOne, op & 0xf8, 0
	case op >= 0x70 && op <= 0x7f:
		return space0F, op + 0x10, 0
	case op == 0xeb:
		return spaceOne, 0xe9, 0
	case op == 0x83:
		return spaceOne, 0x81, e.modrm >> 3 & 7
	case op == 0xa8 || op == 0xa9: // test al/eax, imm
		return spaceOne, 0xf6 | op&1, 0
	case op >= 0xb8 && op <= 0xbf: // mov reg, imm
		return spaceOne, 0xc7, 0
	case op == 0x6b: // imul reg, rm, imm
		return spaceOne, 0x69, 0
	case op == 0xd0 || op == 0xd1: // shift by one
		return spaceOne, 0xc0 | op&1, e.modrm >> 3 & 7
	case extendedOne(op):
		return spaceOne, op, e.modrm >> 3 & 7
	}
	return spaceOne, op, 0
}

// extendedOne tells whether the reg field extends a one-byte opcode.
func extendedOne(op byte) bool {
	switch op {
	case 0x80, 0x81, 0x83, 0x8f, 0xc0, 0xc1, 0xc6, 0xc7, 0xd2, 0xd3, 0xf6, 0xf7, 0xfe, 0xff:
		return true
	}
	return op >= 0xd8 && op <= 0xdf
}

// extended0F tells the same of the two-byte map.
func extended0F(op byte) bool {
	switch op {
	case 0x00, 0x01, 0x0d, 0x18, 0x71, 0x72, 0x73, 0xae, 0xba, 0xc7:
		return true
	}
	return false
}
