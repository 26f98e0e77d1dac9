package amd64

// impliedRep returns the prefix f3 or f2 that the pp field of VEX stands for.
func (e *encoding) impliedRep() byte { return [...]byte{0, 0, 0xf3, 0xf2}[e.pp] }

func (m *model) vex() {
	switch m.e.table {
	case 1:
		m.vex1()
	case 2:
		m.vex2()
	case 3:
		m.vex3()
	default:
		m.unknown()
	}
}

func (m *model) vex1() {
	switch op := m.e.opcode; {
	case op == 0x77: // vzeroupper, vzeroall
	case op >= 0x41 && op <= 0x4b: // mask arithmetic
	case op == 0x90: // kmov between mask registers, or load
		m.vectorRM(read)
	case op == 0x91:
		m.vectorRM(write)
	case op == 0x92: // kmov from a general register
		m.rm(read, 4)
	case op == 0x93:
		m.reg(write, 4)
	case op == 0x98, op == 0x99: // kortest, ktest
		m.flagsKilled()
	case op >= 0x10 && op < 0x18, op >= 0x28 && op < 0x30, op >= 0x50 && op < 0x77,
		op >= 0x7c && op < 0x80, op >= 0xc2 && op <= 0xc6, op >= 0xd0 && op < 0xff:
		m.vector(op, m.e.impliedRep())
	default:
		m.unknown()
	}
}

// vex2 is the 0f 38 map under VEX: vectors, and BMI1 and BMI2.
func (m *model) vex2() {
	width := m.width(false)
	switch op := m.e.opcode; {
	case op == 0xf2: // andn
		m.bmi(width)
		m.flagsKilled()
	case op == 0xf3: // blsr, blsmsk, blsi
		m.rm(read, width)
		m.gpr(m.e.vvvv, write, width)
		m.flagsKilled()
	case op == 0xf5: // bzhi, pdep, pext
		m.bmi(width)
		if m.e.pp == 0 {
			m.flagsKilled()
		}
	case op == 0xf6: // mulx
		m.rm(read, width)
		m.gpr(RDX, read, width)
		m.gpr(m.e.vvvv, write, width)
		m.reg(write, width)
	case op == 0xf7: // bextr, shlx, sarx, shrx
		m.bmi(width)
		if m.e.pp == 0 {
			m.flagsKilled()
		}
	case op == 0x0e, op == 0x0f, op == 0x17: // vtestps, vtestpd, vptest
		m.flagsKilled()
		m.vectorRM(read)
	case op == 0x2e, op == 0x2f, op == 0x8e: // masked stores
		m.vectorRM(write)
	case op < 0xf0:
		m.vectorRM(read)
	default:
		m.unknown()
	}
}

// bmi records reg = f(rm, vvvv).
func (m *model) bmi(width int) {
	m.rm(read, width)
	m.gpr(m.e.vvvv, read, width)
	m.reg(write, width)
}

func (m *model) vex3() {
	switch m.e.opcode {
	case 0xf0: // rorx
		m.rm(read, m.width(false))
		m.reg(write, m.width(false))
	case 0x19, 0x39, 0x1d: // vextractf128, vextracti128, vcvtps2ph
		m.vectorRM(write)
	case 0x30, 0x31, 0x32, 0x33: // mask shifts
	default:
		m.map3A()
	}
}

// evex tells the memory operand of vector instructions; those with a general
// register, or that set flags, are unknown.
func (m *model) evex() {
	op := m.e.opcode
	switch m.e.table {
	case 1:
		switch op {
		case 0x2a, 0x2c, 0x2d, 0x2e, 0x2f, 0x6e, 0x78, 0x79, 0x7a, 0x7b, 0x7e, 0xc4, 0xc5:
			m.unknown()
			return
		}
	case 2:
		if op == 0x7a || op == 0x7b || op == 0x7c {
			m.unknown()
			return
		}
	case 3:
		if op >= 0x14 && op <= 0x17 || op == 0x20 || op == 0x22 {
			m.unknown()
			return
		}
	default:
		m.unknown()
		return
	}
	if m.e.isMem() {
		m.mem(read | write)
		if m.Loads == MemStack { // disp8 is scaled: the offset is not known here
			m.Loads, m.Stores = MemOther, MemOther
		}
	}
}
