package behaviour

import (
	"math/bits"

	"golang.org/x/arch/x86/x86asm"

	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// integer is moves and arithmetic of general registers.
func (m *run) integer(x *x86asm.Inst) bool {
	switch x.Op {
	case x86asm.MOV, x86asm.MOVZX:
		m.set(x, 0, m.get(x, 1))
	case x86asm.MOVSX, x86asm.MOVSXD:
		m.set(x, 0, uint64(signExtended(m.get(x, 1), m.size(x, 1))))
	case x86asm.LEA:
		mem, ok := x.Args[1].(x86asm.Mem)
		if !ok {
			return false
		}
		m.set(x, 0, m.address(mem, true))
	case x86asm.XCHG:
		a, b := m.get(x, 0), m.get(x, 1)
		m.set(x, 0, b)
		m.set(x, 1, a)
	case x86asm.IMUL, x86asm.MUL, x86asm.DIV, x86asm.IDIV:
		m.multiply(x)
	default:
		return m.arithmetic(x) || m.logic(x) || m.exchange(x) || m.extend(x)
	}
	return true
}

func (m *run) arithmetic(x *x86asm.Inst) bool {
	carry := uint64(0)
	switch x.Op {
	case x86asm.ADC, x86asm.SBB:
		carry = bit(m.cf)
	case x86asm.ADD, x86asm.SUB, x86asm.CMP:
	case x86asm.INC, x86asm.DEC, x86asm.NEG:
		m.unary(x)
		return true
	default:
		return false
	}
	n := m.size(x, 0)
	a, b := m.get(x, 0), m.get(x, 1)
	switch x.Op {
	case x86asm.ADD, x86asm.ADC:
		m.set(x, 0, m.add(a, b, carry, n))
	case x86asm.CMP:
		m.sub(a, b, 0, n)
	default:
		m.set(x, 0, m.sub(a, b, carry, n))
	}
	return true
}

func (m *run) unary(x *x86asm.Inst) {
	n := m.size(x, 0)
	a, carry := m.get(x, 0), m.cf
	switch x.Op {
	case x86asm.NEG:
		m.set(x, 0, m.sub(0, a, 0, n))
		return
	case x86asm.INC:
		m.set(x, 0, m.add(a, 1, 0, n))
	case x86asm.DEC:
		m.set(x, 0, m.sub(a, 1, 0, n))
	}
	m.cf = carry
}

func (m *run) logic(x *x86asm.Inst) bool {
	var v uint64
	switch x.Op {
	case x86asm.NOT:
		m.set(x, 0, ^m.get(x, 0))
		return true
	case x86asm.AND, x86asm.TEST:
		v = m.get(x, 0) & m.get(x, 1)
	case x86asm.OR:
		v = m.get(x, 0) | m.get(x, 1)
	case x86asm.XOR:
		v = m.get(x, 0) ^ m.get(x, 1)
	default:
		return false
	}
	m.logicFlags(v, m.size(x, 0))
	if x.Op != x86asm.TEST {
		m.set(x, 0, v)
	}
	return true
}

// exchange is what locks use.
func (m *run) exchange(x *x86asm.Inst) bool {
	switch x.Op {
	case x86asm.XADD:
		n := m.size(x, 0)
		a, b := m.get(x, 0), m.get(x, 1)
		m.set(x, 1, a)
		m.set(x, 0, m.add(a, b, 0, n))
	case x86asm.CMPXCHG:
		n := m.size(x, 0)
		a := m.get(x, 0)
		m.sub(m.regs[amd64.RAX], a, 0, n)
		if m.zf {
			m.set(x, 0, m.get(x, 1))
		} else {
			m.setWide(amd64.RAX, a, n)
		}
	default:
		return false
	}
	return true
}

// extend is the sign of rax, into rax or rdx.
func (m *run) extend(x *x86asm.Inst) bool {
	a := m.regs[amd64.RAX]
	switch x.Op {
	case x86asm.CBW:
		m.setRegister(x86asm.AX, uint64(signExtended(a, 1)))
	case x86asm.CWDE:
		m.setRegister(x86asm.EAX, uint64(signExtended(a, 2)))
	case x86asm.CDQE:
		m.setRegister(x86asm.RAX, uint64(signExtended(a, 4)))
	case x86asm.CWD:
		m.setRegister(x86asm.DX, uint64(signExtended(a, 2)>>63))
	case x86asm.CDQ:
		m.setRegister(x86asm.EDX, uint64(signExtended(a, 4)>>63))
	case x86asm.CQO:
		m.setRegister(x86asm.RDX, uint64(int64(a)>>63))
	default:
		return false
	}
	return true
}

// setWide writes n bytes of a register; 4 clear the upper half.
func (m *run) setWide(r amd64.Reg, v uint64, n int) {
	if n >= 4 {
		m.regs[r] = v & mask(n)
	} else {
		m.regs[r] = m.regs[r]&^mask(n) | v&mask(n)
	}
	m.wrote(int(r))
}

func (m *run) multiply(x *x86asm.Inst) {
	n := m.size(x, 0)
	if x.Op == x86asm.IMUL && x.Args[1] != nil {
		a, b := m.get(x, 0), m.get(x, 1)
		if x.Args[2] != nil {
			a = m.get(x, 2)
		}
		m.logicFlags(a*b, n)
		m.set(x, 0, a*b)
		return
	}
	b := m.get(x, 0)
	switch {
	case x.Op == x86asm.DIV || x.Op == x86asm.IDIV:
		m.divide(x.Op == x86asm.IDIV, b&mask(n), n)
	case n == 1 && x.Op == x86asm.MUL:
		m.setRegister(x86asm.AX, m.regs[amd64.RAX]&0xff*b)
	case n == 1:
		m.setRegister(x86asm.AX, uint64(signExtended(m.regs[amd64.RAX], 1)*signExtended(b, 1)))
	default:
		m.product(x.Op == x86asm.IMUL, b, n)
	}
}

// product is rax times b, into rdx and rax.
func (m *run) product(signed bool, b uint64, n int) {
	a := m.regs[amd64.RAX] & mask(n)
	if signed {
		a, b = uint64(signExtended(a, n)), uint64(signExtended(b, n))
	}
	hi, lo := bits.Mul64(a, b)
	if signed {
		if int64(a) < 0 {
			hi -= b
		}
		if int64(b) < 0 {
			hi -= a
		}
	}
	if n < 8 {
		hi = lo >> (8 * n)
	}
	m.setWide(amd64.RAX, lo, n)
	m.setWide(amd64.RDX, hi, n)
	m.cf = hi&mask(n) != 0
	m.of = m.cf
}

// divide is rdx and rax by b. Where the processor would trap the run ends.
func (m *run) divide(signed bool, b uint64, n int) {
	lo, hi := m.regs[amd64.RAX]&mask(n), m.regs[amd64.RDX]&mask(n)
	switch {
	case b == 0 || n == 1:
		m.stop()
		return
	case n < 8 && signed:
		v, d := signExtended(lo|hi<<(8*n), 2*n), signExtended(b, n)
		lo, hi = uint64(v/d), uint64(v%d)
	case n < 8:
		v := lo | hi<<(8*n)
		lo, hi = v/b, v%b
	case signed && hi != uint64(int64(lo)>>63) || !signed && hi >= b:
		m.stop()
		return
	case signed:
		lo, hi = uint64(int64(lo)/int64(b)), uint64(int64(lo)%int64(b))
	default:
		lo, hi = bits.Div64(hi, lo, b)
	}
	m.setWide(amd64.RAX, lo, n)
	m.setWide(amd64.RDX, hi, n)
}
