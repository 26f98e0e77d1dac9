package verify

import (
	"math/bits"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// maxTaken is how many states a loop head takes as they are; then it widens also
// when each new one replaces the one before, as the rounds of a loop can.
const maxTaken = 32

// absorb adds a state to what is known at p, unless it is implied already.
func (a *analysis) absorb(p *point, s *state) {
	a.steps += len(p.states) * s.slots() / 16 // comparing large states takes time
	for _, t := range p.states {
		if s.leq(t) {
			return
		}
	}
	if p.taken++; len(p.states) < maxDisjuncts && (p.taken <= maxTaken || !a.order.isHead(p.pc)) {
		a.keep(p, s)
		return
	}
	at := nearest(p.states, s)
	old := p.states[at]
	p.states = slices.Delete(p.states, at, at+1)
	a.kept -= old.size()
	joined := a.joinStates(old, s, a.combiner(p, old))
	joined.merges = old.merges + 1
	a.keep(p, joined)
}

// keep adds a state and drops those that it implies.
func (a *analysis) keep(p *point, s *state) {
	p.states = slices.DeleteFunc(p.states, func(t *state) bool {
		if !t.leq(s) {
			return false
		}
		a.kept -= t.size()
		return true
	})
	p.states = append(p.states, s)
	a.kept += s.size()
}

// Widening a number at a loop head goes in steps. At first what moves goes on to
// the next threshold; then a bound that moves is given up, and last the number
// whose bound it is. Each number has its own count of moves: that the counter of
// an outer loop has moved often says nothing about that of an inner one. A state
// that was combined very often is settled all at once.
const (
	maxToThreshold = 8
	maxToInfinity  = 12
	maxMerges      = 64
)

// combiner chooses how numbers of old are combined with others at p. Only loop
// heads need to widen for the analysis to end.
func (a *analysis) combiner(p *point, old *state) combiner {
	if !a.order.isHead(p.pc) {
		return value.join
	}
	late := uint8(0)
	if old.merges >= maxMerges {
		late = min(maxToThreshold+uint8(min(old.merges-maxMerges, 100)), maxToInfinity)
	}
	return func(v, w value) value {
		var out value
		switch moves := max(v.moves, late); {
		case moves < maxToThreshold:
			out = v.widen(w, &a.thresholds)
		case moves < maxToInfinity:
			out = v.widen(w, &scalar.Thresholds{})
		default:
			out = v.surrender(w)
		}
		out.moves = v.moves
		if out.num != v.num && out.moves < maxToInfinity {
			out.moves++
		}
		return out
	}
}

// nearest is the index of the state that loses least when joined with s.
func nearest(states []*state, s *state) int {
	best, at := -1, 0
	for k, t := range slices.Backward(states) {
		if d := distance(t, s); best < 0 || d < best {
			best, at = d, k
		}
	}
	return at
}

// distance weighs what joining two states loses: a possible verdict or a stored
// result most, then what a register is, then its constant.
func distance(s, t *state) int {
	d := 64 * bits.OnesCount16(s.stored^t.stored)
	for r := range s.regs {
		v, w := s.regs[r], t.regs[r]
		_, vc := v.num.Const()
		_, wc := w.num.Const()
		switch {
		case v == w:
		case !v.sameBase(w):
			d += 16
		case r == bpf.R0 && vc && wc && v.num != w.num:
			d += 64
		case vc && wc && v.num != w.num:
			d += 2
		case v.num != w.num:
			d++
		}
	}
	for depth := range s.stacks {
		for k := range max(len(s.stacks[depth]), len(t.stacks[depth])) {
			v, w := s.slot(int32(depth), k), t.slot(int32(depth), k)
			if v.init != w.init || v.size != w.size || !v.val.sameBase(w.val) {
				d += 16
			} else if v.val.num != w.val.num {
				d++
			}
		}
	}
	return d
}
