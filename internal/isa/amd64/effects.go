package amd64

// MemKind is a set of kinds of memory that an instruction touches.
type MemKind uint8

// Kinds of memory.
const (
	MemStack  MemKind = 1 << iota // at or above rsp, at a constant offset, and pushes
	MemRed                        // below rsp as it is before the instruction: the red zone
	MemRIP                        // at a constant distance from the instruction
	MemThread                     // through fs or gs at a constant offset
	MemOther                      // anywhere else
)

// Effects is what an instruction reads and changes. Only general registers,
// status flags and the kind of memory are told; vector, mask and x87
// registers are not.
type Effects struct {
	// Known is false for an instruction that this package does not model: it
	// must be taken to read every register and to change anything.
	Known bool
	// Reads are the registers whose value matters, those of addresses, implicit
	// ones and those that keep a part of their value included.
	Reads RegSet
	// Writes are the registers that change, in full or in part. A register in
	// Writes that is not in Reads is overwritten whole (32-bit results
	// zero-extend).
	Writes RegSet
	// ReadsFlags: some status flag matters. ChangesFlags: some status flag
	// changes. KillsFlags: no status flag keeps a defined value.
	ReadsFlags, ChangesFlags, KillsFlags bool
	// X87: the x87 or MMX state may change.
	X87 bool
	// Loads and Stores are the memory touched.
	Loads, Stores MemKind
	// SPDelta is what is added to rsp; SPKnown is false when that is no constant.
	SPDelta int64
	SPKnown bool
}

// Effects returns what the instruction reads and changes. For a branch it tells
// what the branch itself does, not what its target does.
func (i Inst) Effects() Effects {
	m := model{e: &i.enc}
	m.Known, m.SPKnown = true, true
	switch i.enc.space {
	case spaceOne:
		m.oneByte()
	case space0F:
		m.twoByte()
	case space0F38:
		m.map38(i.enc.rep == 0 && i.enc.size16)
	case space0F3A:
		m.map3A()
	case spaceVEX:
		m.vex()
	case spaceEVEX:
		m.evex()
	default:
		m.unknown()
	}
	if !m.Known {
		return Effects{Reads: 0xffff, Writes: 0xffff, ReadsFlags: true, ChangesFlags: true, X87: true,
			Loads: MemOther, Stores: MemOther}
	}
	if m.Writes.Has(RSP) && m.SPDelta == 0 {
		m.SPKnown = false
	}
	return m.Effects
}

// model collects the effects of one instruction.
type model struct {
	e *encoding
	Effects
}

func (m *model) unknown() { m.Known = false }

// Operand access, as bits.
const (
	read  = 1
	write = 2
)

// width returns the operand size in bytes of an instruction whose byte form is
// told by byteForm.
func (m *model) width(byteForm bool) int {
	switch {
	case byteForm:
		return 1
	case m.e.rexW():
		return 8
	case m.e.size16:
		return 2
	}
	return 4
}

// gpr records an access of width bytes to r, which is an encoded number: for
// bytes without REX, 4 to 7 are ah, ch, dh and bh.
func (m *model) gpr(r Reg, access, width int) {
	if width == 1 && !m.e.hasREX && r >= 4 && r < 8 {
		r -= 4
	}
	if access&read != 0 || width < 4 {
		m.Reads = m.Reads.With(r)
	}
	if access&write != 0 {
		m.Writes = m.Writes.With(r)
	}
}

// rm records an access to the rm operand, a general register or memory.
func (m *model) rm(access, width int) {
	if m.e.isReg() {
		m.gpr(m.e.rm(), access, width)
		return
	}
	m.mem(access)
}

// reg records an access to the reg operand.
func (m *model) reg(access, width int) { m.gpr(m.e.reg(), access, width) }

// vectorRM records an access to an rm operand that is a vector register or memory.
func (m *model) vectorRM(access int) {
	if m.e.isMem() {
		m.mem(access)
	}
}

// mem records an access to the memory operand.
func (m *model) mem(access int) {
	m.address()
	kind := m.e.memory()
	if access&read != 0 {
		m.Loads |= kind
	}
	if access&write != 0 {
		m.Stores |= kind
	}
}

// address records that the memory operand's address is computed.
func (m *model) address() {
	m.Reads = m.Reads.With(m.e.base()).With(m.e.index())
}

// memory returns the kind of the memory operand.
func (e *encoding) memory() MemKind {
	base, index := e.base(), e.index()
	switch {
	case e.addr32:
		return MemOther
	case e.seg != 0 && base == NoReg && index == NoReg && !e.ripRelative():
		return MemThread
	case e.seg != 0:
		return MemOther
	case e.ripRelative():
		return MemRIP
	case base == RSP && index == NoReg && e.displacement() >= 0:
		return MemStack
	case base == RSP && index == NoReg:
		return MemRed
	}
	return MemOther
}

func (m *model) flagsKilled()  { m.ChangesFlags, m.KillsFlags = true, true }
func (m *model) flagsChanged() { m.ChangesFlags = true }

// push records n bytes pushed.
func (m *model) push(n int64) {
	m.Reads = m.Reads.With(RSP)
	m.Writes = m.Writes.With(RSP)
	m.Stores |= MemStack
	m.SPDelta -= n
}

func (m *model) pop(n int64) {
	m.Reads = m.Reads.With(RSP)
	m.Writes = m.Writes.With(RSP)
	m.Loads |= MemStack
	m.SPDelta += n
}
