package behaviour

import (
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

// origin is where the value of a register comes from, and what was added to it.
type origin struct {
	Place
	plus uint64
}

// test is a comparison of a place's value with another.
type test struct {
	Place
	was, with uint64
	// ordered says that smaller and larger values may be told apart too.
	ordered bool
}

// maxTests bounds the comparisons of a run that are noted.
const maxTests = 64

// setting is the value that the world gives a place.
func (m *run) setting(kind PlaceKind, key uint64) (uint64, bool) {
	for i := len(m.given) - 1; i >= 0; i-- {
		if s := &m.given[i]; s.Kind == kind && s.Key == key {
			return s.Value, true
		}
	}
	return 0, false
}

func (m *run) originOf(x *x86asm.Inst, i int) origin {
	switch a := x.Args[i].(type) {
	case x86asm.Reg:
		if n, size, high := general(a); n >= 0 && !high {
			o := m.origins[n]
			o.Size = min(o.Size, uint8(size))
			return o
		}
	case x86asm.Mem:
		at := m.address(a, false)
		if onStack(at) {
			return m.spilled[at]
		}
		if _, held := m.memory[at&^7]; !held && x.MemBytes > 0 && m.isWorld(at) {
			return origin{Place: Place{Memory, at, uint8(min(x.MemBytes, 8))}}
		}
	}
	return origin{}
}

func (m *run) setOrigin(x *x86asm.Inst, o origin) {
	switch a := x.Args[0].(type) {
	case x86asm.Reg:
		if n, size, high := general(a); n >= 0 && !high && size >= 4 {
			m.origins[n] = o
		}
	case x86asm.Mem:
		if at := m.address(a, false); onStack(at) {
			m.spilled[at] = o
		}
	}
}

// comesFrom tells where the result of an instruction that keeps the origin of a value comes
// from, before it is executed.
func (m *run) comesFrom(x *x86asm.Inst) (o origin, ok bool) {
	switch x.Op {
	case x86asm.MOV, x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD:
		return m.originOf(x, 1), true
	case x86asm.ADD, x86asm.SUB, x86asm.AND:
		imm, constant := x.Args[1].(x86asm.Imm)
		if !constant {
			return origin{}, true
		}
		o = m.originOf(x, 0)
		switch x.Op {
		case x86asm.ADD:
			o.plus += uint64(imm)
		case x86asm.SUB:
			o.plus -= uint64(imm)
		}
		return o, true
	case x86asm.LEA:
		if mem, ok := x.Args[1].(x86asm.Mem); ok && mem.Index == 0 {
			if n, _, _ := general(mem.Base); n >= 0 {
				o = m.origins[n]
				o.plus += uint64(mem.Disp)
			}
		}
		return o, true
	}
	return o, false
}

// noteTest notes a comparison, before it is made.
func (m *run) noteTest(x *x86asm.Inst) {
	if x.Op != x86asm.CMP && x.Op != x86asm.TEST || len(m.tests) >= maxTests {
		return
	}
	n := m.size(x, 0)
	a, b := m.get(x, 0)&mask(n), m.get(x, 1)&mask(n)
	from := m.originOf(x, 0)
	if x.Op == x86asm.CMP {
		m.note(from, a, b, true)
		m.note(m.originOf(x, 1), b, a, false)
		return
	}
	_, constant := x.Args[1].(x86asm.Imm)
	switch {
	case x.Args[0] == x.Args[1]:
		m.note(from, a, 0, false)
	case constant && a&b != 0:
		m.note(from, a, a&^b, false)
	case constant:
		m.note(from, a, a|b, false)
	}
}

func (m *run) note(o origin, was, with uint64, ordered bool) {
	if o.Kind == Nowhere || o.Size == 0 {
		return
	}
	size := mask(int(o.Size))
	t := test{o.Place, (was - o.plus) & size, (with - o.plus) & size, ordered}
	if !slices.Contains(m.tests, t) {
		m.tests = append(m.tests, t)
	}
}
