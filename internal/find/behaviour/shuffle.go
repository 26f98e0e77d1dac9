package behaviour

import "golang.org/x/arch/x86/x86asm"

// lane is the i-th of n bytes.
func lane(v vec, i, n int) uint64 { return v[i*n/8] >> (8 * (i * n % 8)) & mask(n) }

// setLane puts the i-th of n bytes, which is 0 so far.
func (v *vec) setLane(i, n int, to uint64) { v[i*n/8] |= to << (8 * (i * n % 8)) }

// shuffle is what puts lanes elsewhere.
func (m *run) shuffle(x *x86asm.Inst) bool {
	switch x.Op {
	case x86asm.PSHUFD, x86asm.SHUFPS:
		m.shuffleFour(x)
	case x86asm.SHUFPD:
		c := m.get(x, 2)
		m.vset(x, vec{m.vget(x, 0)[c&1], m.vget(x, 1)[c>>1&1]})
	case x86asm.PSHUFLW:
		v, c := m.vget(x, 1), m.get(x, 2)
		out := vec{0, v[1]}
		for i := range 4 {
			out.setLane(i, 2, lane(v, int(c>>(2*i)&3), 2))
		}
		m.vset(x, out)
	case x86asm.MOVHLPS:
		m.vset(x, vec{m.vget(x, 1)[1], m.vget(x, 0)[1]})
	default:
		return m.unpack(x)
	}
	return true
}

// shuffleFour chooses four lanes of 4 bytes, the first two of the first operand of shufps.
func (m *run) shuffleFour(x *x86asm.Inst) {
	a, b, c := m.vget(x, 0), m.vget(x, 1), m.get(x, 2)
	if x.Op == x86asm.PSHUFD {
		a = b
	}
	var out vec
	for i := range 4 {
		from := a
		if i >= 2 {
			from = b
		}
		out.setLane(i, 4, lane(from, int(c>>(2*i)&3), 4))
	}
	m.vset(x, out)
}

// unpack interleaves the lower or upper halves.
func (m *run) unpack(x *x86asm.Inst) bool {
	n, upper := 0, false
	switch x.Op {
	case x86asm.PUNPCKLBW:
		n = 1
	case x86asm.PUNPCKLWD:
		n = 2
	case x86asm.PUNPCKLDQ, x86asm.UNPCKLPS:
		n = 4
	case x86asm.PUNPCKLQDQ, x86asm.UNPCKLPD, x86asm.MOVLHPS:
		n = 8
	case x86asm.PUNPCKHBW:
		n, upper = 1, true
	case x86asm.PUNPCKHWD:
		n, upper = 2, true
	case x86asm.PUNPCKHDQ, x86asm.UNPCKHPS:
		n, upper = 4, true
	case x86asm.PUNPCKHQDQ, x86asm.UNPCKHPD:
		n, upper = 8, true
	default:
		return false
	}
	a, b := m.vget(x, 0), m.vget(x, 1)
	from := 0
	if upper {
		from = 8 / n
	}
	var out vec
	for i := range 8 / n {
		out.setLane(2*i, n, lane(a, from+i, n))
		out.setLane(2*i+1, n, lane(b, from+i, n))
	}
	m.vset(x, out)
	return true
}

// collect makes a mask of signs, and shifts the whole register.
func (m *run) collect(x *x86asm.Inst) bool {
	switch x.Op {
	case x86asm.PMOVMSKB:
		v, out := m.vget(x, 1), uint64(0)
		for i := range 16 {
			out |= lane(v, i, 1) >> 7 << i
		}
		m.set(x, 0, out)
	case x86asm.MOVMSKPD:
		v := m.vget(x, 1)
		m.set(x, 0, v[0]>>63|v[1]>>63<<1)
	case x86asm.PSRLDQ, x86asm.PSLLDQ:
		v := m.vget(x, 0)
		for range min(m.get(x, 1), 16) {
			if x.Op == x86asm.PSRLDQ {
				v = vec{v[0]>>8 | v[1]<<56, v[1] >> 8}
			} else {
				v = vec{v[0] << 8, v[1]<<8 | v[0]>>56}
			}
		}
		m.vset(x, v)
	default:
		return false
	}
	return true
}
