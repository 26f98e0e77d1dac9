package amd64

func (m *model) twoByte() {
	op := m.e.opcode
	switch {
	case op >= 0x40 && op <= 0x4f: // cmov keeps its destination when the condition is false
		m.ReadsFlags = true
		m.rm(read, m.width(false))
		m.reg(read|write, m.width(false))
	case op >= 0x80 && op <= 0x8f:
		m.ReadsFlags = true
	case op >= 0x90 && op <= 0x9f:
		m.ReadsFlags = true
		m.rm(write, 1)
	case op >= 0xc8 && op <= 0xcf:
		m.gpr(m.e.opReg(), read|write, m.width(false))
	case op >= 0xa0 && op < 0xc2:
		m.rowAandB(op)
	case op >= 0x10 && op < 0x18, op >= 0x28 && op < 0x30, op >= 0x50 && op < 0x78,
		op >= 0x7c && op < 0x80, op >= 0xc2 && op <= 0xc6, op >= 0xd0 && op < 0xff:
		m.X87 = m.e.mmx()
		m.vector(op, m.e.rep)
	default:
		m.system(op)
	}
}

// mmx reports whether a vector instruction of the two-byte map may be one on MMX
// registers, which are the x87 ones: those have no mandatory prefix, or move
// between both kinds (cvtpi2pd and its like, movq2dq, movdq2q).
func (e *encoding) mmx() bool {
	switch op := e.opcode; {
	case op == 0x2a, op == 0x2c, op == 0x2d:
		return e.rep == 0
	case op == 0xd6:
		return e.rep != 0
	case op >= 0x60 && op < 0x80, op >= 0xc4 && op <= 0xc5, op >= 0xd0:
		return e.rep == 0 && !e.size16
	}
	return false
}

// rowAandB is what the two-byte map adds to the integer instructions.
func (m *model) rowAandB(op byte) {
	width := m.width(false)
	switch op {
	case 0xa2: // cpuid
		m.gpr(RAX, read|write, 4)
		m.gpr(RCX, read|write, 4)
		m.gpr(RBX, write, 4)
		m.gpr(RDX, write, 4)
	case 0xa3:
		m.bitTest(read)
	case 0xab, 0xb3, 0xbb:
		m.bitTest(read | write)
	case 0xba:
		access := read | write
		if m.e.modrm>>3&7 == 4 {
			access = read
		}
		m.rm(access, width)
		m.flagsChanged()
	case 0xa4, 0xa5, 0xac, 0xad: // shld, shrd
		m.rm(read|write, width)
		m.reg(read, width)
		if op&1 == 1 {
			m.gpr(RCX, read, 1)
		}
		m.flagsChanged()
	case 0xae:
		m.group15()
	case 0xaf:
		m.rm(read, width)
		m.reg(read|write, width)
		m.flagsKilled()
	case 0xb0, 0xb1: // cmpxchg
		width = m.width(op == 0xb0)
		m.rm(read|write, width)
		m.reg(read, width)
		m.gpr(RAX, read|write, width)
		m.flagsKilled()
	case 0xc0, 0xc1: // xadd
		width = m.width(op == 0xc0)
		m.rm(read|write, width)
		m.reg(read|write, width)
		m.flagsKilled()
	case 0xb6, 0xbe:
		m.rm(read, 1)
		m.reg(write, width)
	case 0xb7, 0xbf:
		m.rm(read, 2)
		m.reg(write, width)
	case 0xb8, 0xbc, 0xbd:
		m.bitScan(op, width)
	default:
		m.unknown()
	}
}

// bitTest is bt, bts, btr and btc with the bit's number in a register: in
// memory they reach beyond the operand.
func (m *model) bitTest(access int) {
	m.reg(read, m.width(false))
	m.rm(access, m.width(false))
	m.flagsChanged()
	if m.e.isMem() {
		m.Loads, m.Stores = MemOther, MemOther
	}
}

// bitScan is popcnt, tzcnt and lzcnt, and bsf and bsr, which keep their
// destination when the source is 0.
func (m *model) bitScan(op byte, width int) {
	if op == 0xb8 && m.e.rep != 0xf3 {
		m.unknown()
		return
	}
	m.rm(read, width)
	m.reg(write, width)
	if m.e.rep != 0xf3 || op != 0xb8 {
		m.reg(read, width) // a processor without tzcnt runs it as bsf
	}
	m.flagsKilled()
}

func (m *model) group15() {
	switch {
	case m.e.isMem():
		m.mem(read | write)
		if m.e.modrm>>3&7 >= 4 && m.e.modrm>>3&7 <= 6 { // xsave, xrstor, xsaveopt
			m.gpr(RAX, read, 4)
			m.gpr(RDX, read, 4)
		}
	case m.e.rep == 0 && !m.e.size16: // fences
	default:
		m.unknown()
	}
}

// system is the rest of the two-byte map.
func (m *model) system(op byte) {
	switch {
	case op == 0x0d, op >= 0x18 && op <= 0x1d, op == 0x1f: // prefetches and nops
	case op == 0x1e:
		if m.e.rep == 0xf3 && m.e.modrm != 0xfa && m.e.modrm != 0xfb { // rdssp
			m.unknown()
		}
	case op == 0x0b: // ud2
	case op == 0x31: // rdtsc
		m.gpr(RAX, write, 4)
		m.gpr(RDX, write, 4)
	case op == 0x01 && m.e.modrm == 0xd0: // xgetbv
		m.gpr(RCX, read, 4)
		m.gpr(RAX, write, 4)
		m.gpr(RDX, write, 4)
	case op == 0x01 && m.e.modrm == 0xf9: // rdtscp
		m.gpr(RAX, write, 4)
		m.gpr(RDX, write, 4)
		m.gpr(RCX, write, 4)
	default:
		m.unknown()
	}
}

// vector is the SSE part of the two-byte map, and its VEX forms; rep is the
// mandatory prefix f2 or f3.
func (m *model) vector(op, rep byte) {
	width := max(m.width(false), 4)
	switch op {
	case 0x2a:
		if rep != 0 { // cvtsi2ss, cvtsi2sd
			m.rm(read, width)
			return
		}
	case 0x2c, 0x2d:
		if rep != 0 { // cvt(t)ss2si, cvt(t)sd2si
			m.reg(write, width)
		}
	case 0x2e, 0x2f:
		m.flagsKilled()
	case 0x50, 0xd7, 0xc5: // movmsk, pmovmskb, pextrw
		m.reg(write, width)
		return
	case 0x6e, 0xc4: // movd to a vector register, pinsrw
		m.rm(read, width)
		return
	case 0x7e:
		if rep != 0xf3 { // movd from a vector register
			m.rm(write, width)
			return
		}
	case 0xc3: // movnti
		m.reg(read, width)
		m.rm(write, width)
		return
	case 0xf7: // maskmovdqu
		m.gpr(RDI, read, 8)
		m.Stores |= MemOther
		return
	case 0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xd6, 0xe7:
		m.vectorRM(write)
		return
	}
	m.vectorRM(read)
}

// map38 is the 0f 38 map; size16 tells the mandatory prefix 66.
func (m *model) map38(size16 bool) {
	m.X87 = !size16 && m.e.opcode < 0x20 // SSSE3 on MMX registers
	width := m.width(false)
	switch op := m.e.opcode; {
	case op == 0xf0 && m.e.rep == 0xf2: // crc32
		m.rm(read, 1)
		m.reg(read|write, 4)
	case op == 0xf1 && m.e.rep == 0xf2:
		m.rm(read, width)
		m.reg(read|write, 4)
	case op == 0xf0: // movbe
		m.rm(read, width)
		m.reg(write, width)
	case op == 0xf1:
		m.reg(read, width)
		m.rm(write, width)
	case op == 0xf6 && (size16 || m.e.rep == 0xf3): // adcx, adox
		m.rm(read, max(width, 4))
		m.reg(read|write, max(width, 4))
		m.ReadsFlags = true
		m.flagsChanged()
	case op == 0x17: // ptest
		m.flagsKilled()
		m.vectorRM(read)
	case op < 0x80, op >= 0xc8 && op < 0xf0:
		m.vectorRM(read)
	default:
		m.unknown()
	}
}

// map3A is the 0f 3a map and its VEX form.
func (m *model) map3A() {
	width := max(m.width(false), 4)
	switch op := m.e.opcode; op {
	case 0x14, 0x15, 0x16, 0x17: // pextrb, pextrw, pextrd, extractps
		m.rm(write, width)
	case 0x20, 0x22: // pinsrb, pinsrd
		m.rm(read, width)
	case 0x60, 0x61, 0x62, 0x63: // pcmpestrm, pcmpestri, pcmpistrm, pcmpistri
		m.vectorRM(read)
		m.flagsKilled()
		if op < 0x62 {
			m.gpr(RAX, read, 8)
			m.gpr(RDX, read, 8)
		}
		if op&1 == 1 {
			m.gpr(RCX, write, 4)
		}
	default:
		m.vectorRM(read)
	}
}
