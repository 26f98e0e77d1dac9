package behaviour

import (
	"golang.org/x/arch/x86/x86asm"

	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// step executes one instruction. One that is not known ends the run.
func (m *run) step() {
	in := m.fetch()
	if !in.known {
		m.stop()
		return
	}
	m.rip += in.size
	if in.nop {
		return
	}
	x := &in.x
	if holds, ok := m.condition(x.Op); ok {
		m.conditional(x, holds)
		return
	}
	if m.explores {
		m.noteTest(x)
		if from, ok := m.comesFrom(x); ok {
			if !m.integer(x) {
				m.stop()
			}
			m.setOrigin(x, from)
			return
		}
	}
	if !m.control(x) && !m.integer(x) && !m.bitwise(x) && !m.repeated(in) && !m.vector(x) {
		m.stop()
	}
}

// conditional is jcc, setcc and cmovcc.
func (m *run) conditional(x *x86asm.Inst, holds bool) {
	if _, ok := x.Args[0].(x86asm.Rel); ok {
		if holds {
			m.jump(m.get(x, 0))
		}
		return
	}
	if x.Args[1] == nil {
		m.set(x, 0, bit(holds))
		return
	}
	v := m.get(x, 1)
	if !holds {
		v = m.get(x, 0)
	}
	m.set(x, 0, v)
}

// control is what goes elsewhere, the stack, and what does nothing here.
func (m *run) control(x *x86asm.Inst) bool {
	switch x.Op {
	case x86asm.JMP:
		to := m.get(x, 0)
		if _, direct := x.Args[0].(x86asm.Rel); direct || m.inImage(to) {
			m.jump(to)
		} else {
			m.call(to, true)
		}
	case x86asm.CALL:
		m.call(m.get(x, 0), false)
	case x86asm.RET:
		m.leave()
	case x86asm.PUSH:
		m.push(m.get(x, 0))
	case x86asm.POP:
		m.set(x, 0, m.pop())
	case x86asm.LEAVE:
		m.regs[amd64.RSP] = m.regs[amd64.RBP]
		m.regs[amd64.RBP] = m.pop()
	case x86asm.NOP, x86asm.PAUSE, x86asm.PREFETCHT0, x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.PREFETCHNTA, x86asm.PREFETCHW,
		x86asm.MFENCE, x86asm.LFENCE, x86asm.SFENCE, x86asm.CLD:
	default:
		return false
	}
	return true
}

// repeated is a string instruction, with its prefix.
func (m *run) repeated(in *instruction) bool {
	move, n := stringMove(&in.x)
	if n == 0 {
		return false
	}
	for {
		if in.rep != 0 {
			if m.regs[amd64.RCX] == 0 {
				return true
			}
			m.regs[amd64.RCX]--
		}
		if !m.spend(1) {
			return true
		}
		to, from := m.regs[amd64.RDI], m.regs[amd64.RSI]
		switch move {
		case stos:
			m.store(to, n, m.regs[amd64.RAX])
		case movs:
			m.store(to, n, m.load(from, n))
		case scas:
			m.sub(m.regs[amd64.RAX], m.load(to, n), 0, n)
		case cmps:
			m.sub(m.load(from, n), m.load(to, n), 0, n)
		}
		m.regs[amd64.RDI] += uint64(n)
		if move == movs || move == cmps {
			m.regs[amd64.RSI] += uint64(n)
		}
		if in.rep == 0 || move >= scas && m.zf == (in.rep == 0xf2) {
			return true
		}
	}
}

// String instructions. Those that compare are last.
const (
	stos = iota
	movs
	scas
	cmps
)

// stringMove tells which string instruction one is, and the bytes it takes at once; 0 for
// none.
func stringMove(x *x86asm.Inst) (move, n int) {
	switch x.Op {
	case x86asm.STOSB:
		return stos, 1
	case x86asm.STOSW:
		return stos, 2
	case x86asm.STOSD:
		return stos, 4
	case x86asm.STOSQ:
		return stos, 8
	case x86asm.MOVSB:
		return movs, 1
	case x86asm.MOVSW:
		return movs, 2
	case x86asm.MOVSD:
		return movs, 4
	case x86asm.MOVSQ:
		return movs, 8
	case x86asm.SCASB:
		return scas, 1
	case x86asm.CMPSB:
		return cmps, 1
	}
	return 0, 0
}
