package jit

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// transfer is one of several moves that happen at the same time.
type transfer struct {
	dst location
	src *value
}

// phiMoves writes the moves that bring the phis of to their values from b.
func (e *emitter) phiMoves(b, to *block) {
	i := slices.Index(to.preds, b)
	var moves []transfer
	for _, phi := range to.values {
		if phi.op != opPhi {
			break
		}
		if phi.uses > 0 && phi.args[i].op != opUndef {
			moves = append(moves, transfer{phi.loc, phi.args[i]})
		}
	}
	e.parallel(moves)
}

// parallel writes moves that all read before any writes. Constants come last:
// they read nothing.
func (e *emitter) parallel(moves []transfer) {
	type pair struct{ dst, src location }
	var todo []pair
	for _, m := range moves {
		if !m.src.isConst() && m.src.loc != m.dst {
			todo = append(todo, pair{m.dst, m.src.loc})
		}
	}
	for len(todo) > 0 {
		ready := slices.IndexFunc(todo, func(p pair) bool {
			return !slices.ContainsFunc(todo, func(o pair) bool { return o.src == p.dst })
		})
		if ready >= 0 {
			e.transfer(todo[ready].dst, todo[ready].src)
			todo = slices.Delete(todo, ready, ready+1)
			continue
		}
		// Only cycles are left: an exchange settles one move, and what stood in its
		// destination now stands in its source.
		done := todo[0]
		e.exchange(done.dst, done.src)
		for i := range todo {
			if todo[i].src == done.dst {
				todo[i].src = done.src
			}
		}
		todo = slices.DeleteFunc(todo[1:], func(p pair) bool { return p.src == p.dst })
	}
	for _, m := range moves {
		switch {
		case !m.src.isConst():
		case m.dst.reg != amd64.NoReg:
			e.MovImm(m.dst.reg, m.src.imm)
		default:
			e.MovImm(e.regs.scratch[0], m.src.imm)
			e.Store(8, e.slot(m.dst.slot), e.regs.scratch[0])
		}
	}
}

func (e *emitter) transfer(dst, src location) {
	switch {
	case dst == src:
	case dst.reg != amd64.NoReg && src.reg != amd64.NoReg:
		e.Mov(8, dst.reg, src.reg)
	case dst.reg != amd64.NoReg:
		e.Load(8, dst.reg, e.slot(src.slot))
	case src.reg != amd64.NoReg:
		e.Store(8, e.slot(dst.slot), src.reg)
	default:
		e.Load(8, e.regs.scratch[0], e.slot(src.slot))
		e.Store(8, e.slot(dst.slot), e.regs.scratch[0])
	}
}

func (e *emitter) exchange(x, y location) {
	switch {
	case x.reg != amd64.NoReg && y.reg != amd64.NoReg:
		e.Xchg(8, x.reg, y.reg)
	case x.reg == amd64.NoReg && y.reg == amd64.NoReg:
		e.Load(8, e.regs.scratch[0], e.slot(x.slot))
		e.Load(8, e.regs.scratch[1], e.slot(y.slot))
		e.Store(8, e.slot(x.slot), e.regs.scratch[1])
		e.Store(8, e.slot(y.slot), e.regs.scratch[0])
	case x.reg == amd64.NoReg:
		e.exchange(y, x)
	default:
		e.Load(8, e.regs.scratch[0], e.slot(y.slot))
		e.Store(8, e.slot(y.slot), x.reg)
		e.Mov(8, x.reg, e.regs.scratch[0])
	}
}
