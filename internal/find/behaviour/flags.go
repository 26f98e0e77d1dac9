package behaviour

import (
	"math/bits"

	"golang.org/x/arch/x86/x86asm"
)

// resultFlags sets the flags that tell of a result of n bytes.
func (m *run) resultFlags(v uint64, n int) {
	v &= mask(n)
	m.zf, m.sf = v == 0, negative(v, n)
	m.pf = bits.OnesCount8(uint8(v))&1 == 0
}

func negative(v uint64, n int) bool { return v>>(8*n-1)&1 != 0 }

func (m *run) logicFlags(v uint64, n int) {
	m.cf, m.of = false, false
	m.resultFlags(v, n)
}

func (m *run) add(a, b, carry uint64, n int) uint64 {
	a, b = a&mask(n), b&mask(n)
	s, c := bits.Add64(a, b, carry)
	if n < 8 {
		c = s >> (8 * n) & 1
	}
	s &= mask(n)
	m.cf, m.of = c != 0, negative((a^s)&(b^s), n)
	m.resultFlags(s, n)
	return s
}

func (m *run) sub(a, b, borrow uint64, n int) uint64 {
	a, b = a&mask(n), b&mask(n)
	d, c := bits.Sub64(a, b, borrow)
	d &= mask(n)
	m.cf, m.of = c != 0, negative((a^b)&(a^d), n)
	m.resultFlags(d, n)
	return d
}

// condition tells whether the condition of a jcc, setcc or cmovcc holds; ok is false for
// other instructions.
func (m *run) condition(op x86asm.Op) (holds, ok bool) {
	switch op {
	case x86asm.JO, x86asm.SETO, x86asm.CMOVO:
		return m.of, true
	case x86asm.JNO, x86asm.SETNO, x86asm.CMOVNO:
		return !m.of, true
	case x86asm.JB, x86asm.SETB, x86asm.CMOVB:
		return m.cf, true
	case x86asm.JAE, x86asm.SETAE, x86asm.CMOVAE:
		return !m.cf, true
	case x86asm.JE, x86asm.SETE, x86asm.CMOVE:
		return m.zf, true
	case x86asm.JNE, x86asm.SETNE, x86asm.CMOVNE:
		return !m.zf, true
	case x86asm.JBE, x86asm.SETBE, x86asm.CMOVBE:
		return m.cf || m.zf, true
	case x86asm.JA, x86asm.SETA, x86asm.CMOVA:
		return !m.cf && !m.zf, true
	}
	return m.signedCondition(op)
}

func (m *run) signedCondition(op x86asm.Op) (holds, ok bool) {
	switch op {
	case x86asm.JS, x86asm.SETS, x86asm.CMOVS:
		return m.sf, true
	case x86asm.JNS, x86asm.SETNS, x86asm.CMOVNS:
		return !m.sf, true
	case x86asm.JP, x86asm.SETP, x86asm.CMOVP:
		return m.pf, true
	case x86asm.JNP, x86asm.SETNP, x86asm.CMOVNP:
		return !m.pf, true
	case x86asm.JL, x86asm.SETL, x86asm.CMOVL:
		return m.sf != m.of, true
	case x86asm.JGE, x86asm.SETGE, x86asm.CMOVGE:
		return m.sf == m.of, true
	case x86asm.JLE, x86asm.SETLE, x86asm.CMOVLE:
		return m.zf || m.sf != m.of, true
	case x86asm.JG, x86asm.SETG, x86asm.CMOVG:
		return !m.zf && m.sf == m.of, true
	}
	return false, false
}
