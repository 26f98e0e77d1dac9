package amd64

// Effects of the integer instructions: the one-byte map and what the two-byte
// map adds to it (Intel SDM vol. 2, appendix A, and the instructions' pages).

// Arithmetic operations by the number that opcodes and ModRM give them.
const (
	aluAdd = iota
	aluOr
	aluAdc
	aluSbb
	aluAnd
	aluSub
	aluXor
	aluCmp
)

func (m *model) oneByte() {
	op := m.e.opcode
	switch {
	case op < 0x40:
		m.arithmetic(op)
	case op < 0x70:
		m.row5and6(op)
	case op < 0x80:
		m.ReadsFlags = true
	case op < 0x90:
		m.row8(op)
	case op < 0xa0:
		m.row9(op)
	case op < 0xb0:
		m.rowA(op)
	case op < 0xb8:
		m.gpr(m.e.opReg(), write, 1)
	case op < 0xc0:
		m.gpr(m.e.opReg(), write, m.width(false))
	case op < 0xe0:
		m.rowCandD(op)
	default:
		m.rowEandF(op)
	}
}

// arithmetic is add, or, adc, sbb, and, sub, xor and cmp in their six forms.
func (m *model) arithmetic(op byte) {
	kind, form := op>>3, op&7
	width := m.width(form&1 == 0)
	access := read | write
	if kind == aluCmp {
		access = read
	}
	m.aluFlags(kind)
	switch form {
	case 0, 1:
		if m.zeroIdiom(kind, width) {
			m.reg(write, width)
			return
		}
		m.rm(access, width)
		m.reg(read, width)
		if m.e.isReg() {
			m.adjustsSP(kind)
		}
	case 2, 3:
		if m.zeroIdiom(kind, width) {
			m.reg(write, width)
			return
		}
		m.reg(access, width)
		m.rm(read, width)
	default:
		m.gpr(RAX, access, width)
	}
}

// zeroIdiom reports xor or sub of a register with itself: its value does not matter.
func (m *model) zeroIdiom(kind byte, width int) bool {
	return (kind == aluXor || kind == aluSub) && width >= 4 && m.e.isReg() && m.e.rm() == m.e.reg()
}

func (m *model) aluFlags(kind byte) {
	m.flagsKilled()
	if kind == aluAdc || kind == aluSbb {
		m.ReadsFlags = true
	}
}

// adjustsSP tells by how much add or sub with an immediate moves rsp.
func (m *model) adjustsSP(kind byte) {
	if m.e.rm() != RSP || !m.e.rexW() || m.e.immLen == 0 {
		return
	}
	switch kind {
	case aluAdd:
		m.SPDelta = m.e.immediate()
	case aluSub:
		m.SPDelta = -m.e.immediate()
	}
}

func (m *model) row5and6(op byte) {
	switch {
	case op >= 0x50 && op <= 0x5f && m.e.size16:
		m.unknown()
	case op >= 0x50 && op <= 0x57:
		m.gpr(m.e.opReg(), read, 8)
		m.push(8)
	case op >= 0x58 && op <= 0x5f:
		m.pop(8)
		m.gpr(m.e.opReg(), write, 8)
		if m.e.opReg() == RSP {
			m.unknown()
		}
	case op == 0x63:
		m.rm(read, 4)
		m.reg(write, m.width(false))
	case (op == 0x68 || op == 0x6a) && !m.e.size16:
		m.push(8)
	case op == 0x69, op == 0x6b:
		m.rm(read, m.width(false))
		m.reg(write, m.width(false))
		m.flagsKilled()
	default:
		m.unknown()
	}
}

func (m *model) row8(op byte) {
	width := m.width(op&1 == 0)
	switch op {
	case 0x80, 0x81, 0x83:
		kind := m.e.modrm >> 3 & 7
		access := read | write
		if kind == aluCmp {
			access = read
		}
		m.rm(access, width)
		m.aluFlags(kind)
		if m.e.isReg() {
			m.adjustsSP(kind)
		}
	case 0x84, 0x85:
		m.rm(read, width)
		m.reg(read, width)
		m.flagsKilled()
	case 0x86, 0x87:
		m.rm(read|write, width)
		m.reg(read|write, width)
	case 0x88, 0x89:
		m.rm(write, width)
		m.reg(read, width)
	case 0x8a, 0x8b:
		m.reg(write, width)
		m.rm(read, width)
	case 0x8d:
		m.lea()
	default: // segment registers, pop to memory
		m.unknown()
	}
}

func (m *model) lea() {
	m.address()
	m.reg(write, m.width(false))
	if m.e.reg() == RSP && m.e.base() == RSP && m.e.index() == NoReg && m.e.rexW() {
		m.SPDelta = m.e.displacement()
	}
}

func (m *model) row9(op byte) {
	width := m.width(false)
	switch {
	case op == 0x90 && m.e.rex&1 == 0: // nop, pause
	case op <= 0x97:
		m.gpr(RAX, read|write, width)
		m.gpr(m.e.opReg(), read|write, width)
	case op == 0x98:
		m.gpr(RAX, read|write, width)
	case op == 0x99:
		m.gpr(RAX, read, width)
		m.gpr(RDX, write, width)
	case op == 0x9b: // fwait
		m.X87 = true
	default:
		m.unknown()
	}
}

// rowA is moffs moves and string instructions.
func (m *model) rowA(op byte) {
	width := m.width(op&1 == 0)
	switch op {
	case 0xa8, 0xa9:
		m.gpr(RAX, read, width)
		m.flagsKilled()
		return
	case 0xa0, 0xa1:
		m.gpr(RAX, write, width)
		m.Loads |= MemOther
		return
	case 0xa2, 0xa3:
		m.gpr(RAX, read, width)
		m.Stores |= MemOther
		return
	}
	if m.e.rep != 0 {
		m.gpr(RCX, read|write, 8)
	}
	switch op &^ 1 {
	case 0xa4: // movs
		m.stringOperand(RSI, read)
		m.stringOperand(RDI, write)
	case 0xa6: // cmps
		m.stringOperand(RSI, read)
		m.stringOperand(RDI, read)
		m.flagsChanged()
	case 0xaa: // stos
		m.stringOperand(RDI, write)
		m.gpr(RAX, read, width)
	case 0xac: // lods; with a count of 0 rax stays
		m.stringOperand(RSI, read)
		m.gpr(RAX, write, width)
		if m.e.rep != 0 {
			m.gpr(RAX, read, width)
		}
	case 0xae: // scas
		m.stringOperand(RDI, read)
		m.gpr(RAX, read, width)
		m.flagsChanged()
	}
}

func (m *model) stringOperand(r Reg, access int) {
	m.gpr(r, read|write, 8)
	if access == read {
		m.Loads |= MemOther
	} else {
		m.Stores |= MemOther
	}
}

func (m *model) rowCandD(op byte) {
	width := m.width(op&1 == 0)
	switch {
	case op == 0xc0, op == 0xc1, op >= 0xd0 && op <= 0xd3:
		m.shift(op, width)
	case (op == 0xc6 || op == 0xc7) && m.e.modrm>>3&7 == 0:
		m.rm(write, width)
	case op == 0xc2, op == 0xc3: // ret
		m.gpr(RSP, read|write, 8)
		m.Loads |= MemStack
	case op == 0xc9: // leave
		m.gpr(RBP, read|write, 8)
		m.gpr(RSP, write, 8)
		m.Loads |= MemOther
	case op >= 0xd8:
		m.x87(op)
	default:
		m.unknown()
	}
}

// shift is rol, ror, rcl, rcr, shl, shr, sal and sar.
func (m *model) shift(op byte, width int) {
	kind := m.e.modrm >> 3 & 7
	m.rm(read|write, width)
	if op == 0xd2 || op == 0xd3 {
		m.gpr(RCX, read, 1)
	}
	if kind == 2 || kind == 3 {
		m.ReadsFlags = true
	}
	byOne := op == 0xd0 || op == 0xd1
	byImm := m.e.immLen == 1 && m.e.immediate()&0x1f != 0
	if kind >= 4 && (byOne || byImm) {
		m.flagsKilled()
	} else {
		m.flagsChanged()
	}
}

// x87 tells memory operands, and flags where fcomi and fcmov use them.
func (m *model) x87(op byte) {
	m.X87 = true
	if m.e.isMem() {
		m.mem(read | write)
		return
	}
	switch {
	case op == 0xdf && m.e.modrm == 0xe0: // fnstsw ax
		m.gpr(RAX, write, 2)
	case (op == 0xda || op == 0xdb) && m.e.modrm < 0xe0: // fcmov
		m.ReadsFlags = true
	case (op == 0xdb || op == 0xdf) && m.e.modrm >= 0xe8: // fucomi, fcomi, and with a pop
		m.flagsChanged()
	}
}

func (m *model) rowEandF(op byte) {
	width := m.width(op&1 == 0)
	switch op {
	case 0xe0, 0xe1:
		m.ReadsFlags = true
		m.gpr(RCX, read|write, 8)
	case 0xe2:
		m.gpr(RCX, read|write, 8)
	case 0xe3:
		m.gpr(RCX, read, 8)
	case 0xe9, 0xeb:
	case 0xe8:
		m.push(8)
	case 0xf5:
		m.ReadsFlags = true
		m.flagsChanged()
	case 0xf8, 0xf9:
		m.flagsChanged()
	case 0xf6, 0xf7:
		m.group3(width)
	case 0xfe, 0xff:
		m.group45(width)
	default:
		m.unknown()
	}
}

// group3 is test, not, neg, mul, imul, div and idiv.
func (m *model) group3(width int) {
	switch m.e.modrm >> 3 & 7 {
	case 0, 1:
		m.rm(read, width)
	case 2:
		m.rm(read|write, width)
		return
	case 3:
		m.rm(read|write, width)
	default:
		divides := m.e.modrm>>3&7 >= 6
		m.rm(read, width)
		m.gpr(RAX, read|write, width)
		if width > 1 {
			m.gpr(RDX, write, width)
			if divides {
				m.gpr(RDX, read, width)
			}
		}
	}
	m.flagsKilled()
}

// group45 is inc, dec, and the indirect branches and push.
func (m *model) group45(width int) {
	switch m.e.modrm >> 3 & 7 {
	case 0, 1:
		m.rm(read|write, width)
		m.flagsChanged()
	case 2:
		m.rm(read, 8)
		m.push(8)
	case 4:
		m.rm(read, 8)
	case 6:
		m.rm(read, 8)
		m.push(8)
		if m.e.size16 {
			m.unknown()
		}
	default:
		m.unknown()
	}
}
