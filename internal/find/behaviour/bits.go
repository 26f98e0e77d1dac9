package behaviour

import (
	"math/bits"

	"golang.org/x/arch/x86/x86asm"
)

// bitwise is shifts and what looks at single bits.
func (m *run) bitwise(x *x86asm.Inst) bool {
	switch x.Op {
	case x86asm.SHL, x86asm.SHR, x86asm.SAR:
		m.shift(x)
	case x86asm.ROL, x86asm.ROR:
		m.rotate(x)
	case x86asm.SHLD, x86asm.SHRD:
		m.shiftDouble(x)
	case x86asm.BT, x86asm.BTS, x86asm.BTR, x86asm.BTC:
		return m.bitTest(x)
	case x86asm.BSF, x86asm.TZCNT, x86asm.BSR, x86asm.LZCNT:
		m.scan(x)
	case x86asm.POPCNT:
		m.set(x, 0, uint64(bits.OnesCount64(m.get(x, 1))))
	case x86asm.BSWAP:
		m.set(x, 0, bits.ReverseBytes64(m.get(x, 0))>>(64-8*m.size(x, 0)))
	default:
		return false
	}
	return true
}

// count is by how much a shift of n bytes shifts.
func (m *run) count(x *x86asm.Inst, i, n int) uint64 {
	c := uint64(1)
	if x.Args[i] != nil {
		c = m.get(x, i)
	}
	if n == 8 {
		return c & 63
	}
	return c & 31
}

func (m *run) shift(x *x86asm.Inst) {
	n := m.size(x, 0)
	v, c, width := m.get(x, 0)&mask(n), m.count(x, 1, n), uint64(8*n)
	if c == 0 {
		return
	}
	var r uint64
	switch x.Op {
	case x86asm.SHL:
		r = v << c
		m.cf = c <= width && v>>(width-c)&1 != 0
		m.of = negative(r&mask(n), n) != m.cf
	case x86asm.SHR:
		r = v >> c
		m.cf = v>>(c-1)&1 != 0
		m.of = negative(v, n)
	default:
		s := signExtended(v, n)
		r = uint64(s >> c)
		m.cf = s>>(c-1)&1 != 0
		m.of = false
	}
	m.resultFlags(r, n)
	m.set(x, 0, r)
}

func (m *run) rotate(x *x86asm.Inst) {
	n := m.size(x, 0)
	width := uint64(8 * n)
	v, c := m.get(x, 0)&mask(n), m.count(x, 1, n)%width
	if x.Op == x86asm.ROR {
		c = (width - c) % width
	}
	r := v<<c | v>>(width-c)
	m.cf = r&1 != 0
	m.set(x, 0, r)
}

func (m *run) shiftDouble(x *x86asm.Inst) {
	n := m.size(x, 0)
	a, b, c, width := m.get(x, 0)&mask(n), m.get(x, 1)&mask(n), m.count(x, 2, n), uint64(8*n)
	if c == 0 {
		return
	}
	v := a<<c | b>>(width-c)
	if x.Op == x86asm.SHRD {
		v = a>>c | b<<(width-c)
	}
	m.logicFlags(v, n)
	m.set(x, 0, v)
}

// bitTest is bt and its kin; not of a bit far from its operand in memory.
func (m *run) bitTest(x *x86asm.Inst) bool {
	_, inMemory := x.Args[0].(x86asm.Mem)
	if _, constant := x.Args[1].(x86asm.Imm); inMemory && !constant {
		return false
	}
	v, at := m.get(x, 0), m.get(x, 1)%uint64(8*m.size(x, 0))
	m.cf = v>>at&1 != 0
	switch x.Op {
	case x86asm.BTS:
		m.set(x, 0, v|1<<at)
	case x86asm.BTR:
		m.set(x, 0, v&^(1<<at))
	case x86asm.BTC:
		m.set(x, 0, v^1<<at)
	}
	return true
}

// scan finds the first or last bit. Of 0 bsf and bsr leave their result as it was.
func (m *run) scan(x *x86asm.Inst) {
	v, width := m.get(x, 1), 8*m.size(x, 0)
	m.zf = v == 0
	switch {
	case x.Op == x86asm.LZCNT:
		m.set(x, 0, uint64(bits.LeadingZeros64(v)-64+width))
	case v != 0 && x.Op == x86asm.BSR:
		m.set(x, 0, uint64(63-bits.LeadingZeros64(v)))
	case v != 0:
		m.set(x, 0, uint64(bits.TrailingZeros64(v)))
	case x.Op == x86asm.TZCNT:
		m.set(x, 0, uint64(width))
	}
}
