package behaviour

import (
	"golang.org/x/arch/x86/x86asm"
)

// vec is a vector register.
type vec [2]uint64

// vget reads an operand of up to 16 bytes.
func (m *run) vget(x *x86asm.Inst, i int) vec {
	switch a := x.Args[i].(type) {
	case x86asm.Reg:
		if n, ok := vectorRegister(a); ok {
			return m.xmm[n]
		}
		return vec{m.register(a)}
	case x86asm.Mem:
		at := m.address(a, false)
		if x.MemBytes >= 16 {
			return vec{m.load(at, 8), m.load(at+8, 8)}
		}
		return vec{m.load(at, min(x.MemBytes, 8))}
	}
	m.stop()
	return vec{}
}

// vset writes the first operand.
func (m *run) vset(x *x86asm.Inst, v vec) {
	switch a := x.Args[0].(type) {
	case x86asm.Reg:
		if n, ok := vectorRegister(a); ok {
			m.xmm[n] = v
			return
		}
		m.setRegister(a, v[0])
	case x86asm.Mem:
		at := m.address(a, false)
		m.store(at, min(x.MemBytes, 8), v[0])
		if x.MemBytes >= 16 {
			m.store(at+8, 8, v[1])
		}
	default:
		m.stop()
	}
}

// vector is SSE2 without VEX, as far as compilers use it for more than numerics.
func (m *run) vector(x *x86asm.Inst) bool {
	if x.Args[0] == nil || x.Args[1] == nil {
		return false
	}
	return m.vectorMove(x) || m.vectorLogic(x) || m.lanes(x) || m.shuffle(x) || m.shiftLanes(x) || m.collect(x) || m.float(x) || m.convert(x)
}

func (m *run) vectorMove(x *x86asm.Inst) bool {
	_, toRegister := vectorRegister(x.Args[0])
	switch x.Op {
	case x86asm.MOVAPS, x86asm.MOVUPS, x86asm.MOVDQA, x86asm.MOVDQU, x86asm.MOVAPD, x86asm.MOVUPD, x86asm.LDDQU, x86asm.MOVNTDQ, x86asm.MOVNTPS:
		m.vset(x, m.vget(x, 1))
	case x86asm.MOVQ:
		m.vset(x, vec{m.vget(x, 1)[0]})
	case x86asm.MOVD:
		v := m.vget(x, 1)[0]
		if x.DataSize != 64 {
			v &= mask(4)
		}
		m.vset(x, vec{v})
	case x86asm.MOVSD_XMM:
		m.moveScalar(x, 8)
	case x86asm.MOVSS:
		m.moveScalar(x, 4)
	case x86asm.MOVLPS, x86asm.MOVLPD:
		v := vec{m.vget(x, 1)[0]}
		if toRegister {
			v[1] = m.vget(x, 0)[1]
		}
		m.vset(x, v)
	case x86asm.MOVHPS, x86asm.MOVHPD:
		if toRegister {
			m.vset(x, vec{m.vget(x, 0)[0], m.vget(x, 1)[0]})
		} else {
			m.vset(x, vec{m.vget(x, 1)[1]})
		}
	default:
		return false
	}
	return true
}

// moveScalar moves n bytes: from memory the rest becomes 0, from a register it stays.
func (m *run) moveScalar(x *x86asm.Inst, n int) {
	v := m.vget(x, 1)
	v = vec{v[0] & mask(n)}
	if _, ok := vectorRegister(x.Args[0]); ok {
		if _, ok := vectorRegister(x.Args[1]); ok {
			old := m.vget(x, 0)
			v = vec{old[0]&^mask(n) | v[0], old[1]}
		}
	}
	m.vset(x, v)
}

func (m *run) vectorLogic(x *x86asm.Inst) bool {
	var f func(a, b uint64) uint64
	switch x.Op {
	case x86asm.PXOR, x86asm.XORPS, x86asm.XORPD:
		f = func(a, b uint64) uint64 { return a ^ b }
	case x86asm.PAND, x86asm.ANDPS, x86asm.ANDPD:
		f = func(a, b uint64) uint64 { return a & b }
	case x86asm.POR, x86asm.ORPS, x86asm.ORPD:
		f = func(a, b uint64) uint64 { return a | b }
	case x86asm.PANDN, x86asm.ANDNPS, x86asm.ANDNPD:
		f = func(a, b uint64) uint64 { return b &^ a }
	default:
		return false
	}
	m.vset(x, each(m.vget(x, 0), m.vget(x, 1), 8, f))
	return true
}

// each applies a function to lanes of n bytes.
func each(a, b vec, n int, f func(a, b uint64) uint64) vec {
	var out vec
	for i := range out {
		for s := 0; s < 64; s += 8 * n {
			out[i] |= f(a[i]>>s&mask(n), b[i]>>s&mask(n)) & mask(n) << s
		}
	}
	return out
}

// lanes is arithmetic of integers side by side.
func (m *run) lanes(x *x86asm.Inst) bool {
	n, f := sum(x.Op)
	if n == 0 {
		n, f = comparison(x.Op)
	}
	if n == 0 {
		return false
	}
	m.vset(x, each(m.vget(x, 0), m.vget(x, 1), n, f))
	return true
}

func sum(op x86asm.Op) (int, func(a, b uint64) uint64) {
	add := func(a, b uint64) uint64 { return a + b }
	sub := func(a, b uint64) uint64 { return a - b }
	switch op {
	case x86asm.PADDB:
		return 1, add
	case x86asm.PADDW:
		return 2, add
	case x86asm.PADDD:
		return 4, add
	case x86asm.PADDQ:
		return 8, add
	case x86asm.PSUBB:
		return 1, sub
	case x86asm.PSUBW:
		return 2, sub
	case x86asm.PSUBD:
		return 4, sub
	case x86asm.PSUBQ:
		return 8, sub
	case x86asm.PMULUDQ:
		return 8, func(a, b uint64) uint64 { return a & mask(4) * (b & mask(4)) }
	case x86asm.PMULLW:
		return 2, func(a, b uint64) uint64 { return a * b }
	}
	return 0, nil
}

func comparison(op x86asm.Op) (int, func(a, b uint64) uint64) {
	equal := func(a, b uint64) uint64 { return -bit(a == b) }
	greater := func(n int) func(a, b uint64) uint64 {
		return func(a, b uint64) uint64 { return -bit(signExtended(a, n) > signExtended(b, n)) }
	}
	switch op {
	case x86asm.PCMPEQB:
		return 1, equal
	case x86asm.PCMPEQW:
		return 2, equal
	case x86asm.PCMPEQD:
		return 4, equal
	case x86asm.PCMPGTB:
		return 1, greater(1)
	case x86asm.PCMPGTW:
		return 2, greater(2)
	case x86asm.PCMPGTD:
		return 4, greater(4)
	case x86asm.PMINUB:
		return 1, func(a, b uint64) uint64 { return min(a, b) }
	case x86asm.PMAXUB:
		return 1, func(a, b uint64) uint64 { return max(a, b) }
	}
	return 0, nil
}

func (m *run) shiftLanes(x *x86asm.Inst) bool {
	n := 8
	switch x.Op {
	case x86asm.PSRLQ, x86asm.PSLLQ:
	case x86asm.PSRLD, x86asm.PSLLD, x86asm.PSRAD:
		n = 4
	case x86asm.PSRLW, x86asm.PSLLW, x86asm.PSRAW:
		n = 2
	default:
		return false
	}
	c := m.get(x, 1)
	m.vset(x, each(m.vget(x, 0), vec{}, n, func(a, _ uint64) uint64 {
		switch x.Op {
		case x86asm.PSRLQ, x86asm.PSRLD, x86asm.PSRLW:
			return a >> c
		case x86asm.PSRAD, x86asm.PSRAW:
			return uint64(signExtended(a, n) >> min(c, 63))
		}
		return a << c
	}))
	return true
}
