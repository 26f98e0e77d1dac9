package behaviour

import (
	"math"

	"golang.org/x/arch/x86/x86asm"
)

func (m *run) double(x *x86asm.Inst, i int) float64 { return math.Float64frombits(m.vget(x, i)[0]) }

func (m *run) single(x *x86asm.Inst, i int) float64 {
	return float64(math.Float32frombits(uint32(m.vget(x, i)[0])))
}

func (m *run) setDouble(x *x86asm.Inst, f float64) {
	m.vset(x, vec{math.Float64bits(f), m.vget(x, 0)[1]})
}

func (m *run) setSingle(x *x86asm.Inst, f float32) {
	v := m.vget(x, 0)
	m.vset(x, vec{v[0]&^mask(4) | uint64(math.Float32bits(f)), v[1]})
}

// float is arithmetic and comparison of one number, or of two doubles.
func (m *run) float(x *x86asm.Inst) bool {
	switch x.Op {
	case x86asm.ADDSD, x86asm.SUBSD, x86asm.MULSD, x86asm.DIVSD, x86asm.MINSD, x86asm.MAXSD:
		m.setDouble(x, calculated(x.Op, m.double(x, 0), m.double(x, 1)))
	case x86asm.SQRTSD:
		m.setDouble(x, math.Sqrt(m.double(x, 1)))
	case x86asm.ADDSS, x86asm.SUBSS, x86asm.MULSS, x86asm.DIVSS:
		m.setSingle(x, float32(calculated(x.Op, m.single(x, 0), m.single(x, 1)))) // twice rounded is once rounded here
	case x86asm.ADDPD, x86asm.SUBPD, x86asm.MULPD, x86asm.DIVPD:
		m.vset(x, each(m.vget(x, 0), m.vget(x, 1), 8, func(a, b uint64) uint64 {
			return math.Float64bits(calculated(x.Op, math.Float64frombits(a), math.Float64frombits(b)))
		}))
	case x86asm.UCOMISD, x86asm.COMISD:
		m.floatFlags(m.double(x, 0), m.double(x, 1))
	case x86asm.UCOMISS, x86asm.COMISS:
		m.floatFlags(m.single(x, 0), m.single(x, 1))
	default:
		return false
	}
	return true
}

func calculated(op x86asm.Op, a, b float64) float64 {
	switch op {
	case x86asm.ADDSD, x86asm.ADDSS, x86asm.ADDPD:
		return a + b
	case x86asm.SUBSD, x86asm.SUBSS, x86asm.SUBPD:
		return a - b
	case x86asm.MULSD, x86asm.MULSS, x86asm.MULPD:
		return a * b
	case x86asm.DIVSD, x86asm.DIVSS, x86asm.DIVPD:
		return a / b
	case x86asm.MINSD:
		if a < b {
			return a
		}
	case x86asm.MAXSD:
		if a > b {
			return a
		}
	}
	return b // as the processor does of what cannot be compared
}

func (m *run) floatFlags(a, b float64) {
	m.of, m.sf = false, false
	m.zf, m.pf, m.cf = a == b, false, a < b
	if math.IsNaN(a) || math.IsNaN(b) {
		m.zf, m.pf, m.cf = true, true, true
	}
}

// convert is from integers to floating point and back.
func (m *run) convert(x *x86asm.Inst) bool {
	switch x.Op {
	case x86asm.CVTSI2SD:
		m.setDouble(x, float64(signExtended(m.get(x, 1), m.size(x, 1))))
	case x86asm.CVTSI2SS:
		m.setSingle(x, float32(signExtended(m.get(x, 1), m.size(x, 1))))
	case x86asm.CVTTSD2SI:
		m.set(x, 0, whole(math.Trunc(m.double(x, 1)), m.size(x, 0)))
	case x86asm.CVTSD2SI:
		m.set(x, 0, whole(math.RoundToEven(m.double(x, 1)), m.size(x, 0)))
	case x86asm.CVTTSS2SI:
		m.set(x, 0, whole(math.Trunc(m.single(x, 1)), m.size(x, 0)))
	case x86asm.CVTSS2SD:
		m.setDouble(x, m.single(x, 1))
	case x86asm.CVTSD2SS:
		m.setSingle(x, float32(m.double(x, 1)))
	case x86asm.CVTDQ2PD:
		v := m.vget(x, 1)[0]
		m.vset(x, vec{math.Float64bits(float64(int32(v))), math.Float64bits(float64(int32(v >> 32)))})
	default:
		return false
	}
	return true
}

// whole is an integer of n bytes; what does not fit is the least there is.
func whole(f float64, n int) uint64 {
	limit := math.Ldexp(1, 8*n-1)
	if !(f >= -limit && f < limit) {
		return 1 << (8*n - 1)
	}
	return uint64(int64(f)) & mask(n)
}
