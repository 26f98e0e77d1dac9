package jit

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// demand is what one operation asks of the allocator beyond its operands.
type demand struct {
	early bool           // the result must not share a register with an operand
	temps []amd64.RegSet // scratch registers, each with those it must not be
}

// fixed registers of the machine's own instructions.
var (
	divides  = amd64.Set(amd64.RAX, amd64.RDX)
	syscalls = amd64.Set(amd64.RAX, amd64.RCX, amd64.R11)
)

// demandOf says what v needs while it is computed.
func demandOf(v *value) demand {
	switch v.op {
	case opShl, opShr, opSar:
		if !v.args[1].isConst() {
			return demand{early: true, temps: []amd64.RegSet{amd64.Set(amd64.RCX)}}
		}
	case opDiv, opMod, opSDiv, opSMod:
		return demand{early: true, temps: []amd64.RegSet{divides, divides, divides}}
	case opHolds:
		return demand{early: true}
	case opLoad:
		return demand{early: v.faults}
	case opStore:
		if v.faults {
			return demand{temps: make([]amd64.RegSet, 1)}
		}
	case opPlausible:
		return demand{temps: make([]amd64.RegSet, 1)}
	case opAtomic:
		if v.shared && v.imm2 == bpf.AtomicCMPXCHG {
			return demand{early: true, temps: []amd64.RegSet{amd64.Set(amd64.RAX)}}
		}
		return demand{early: true}
	case opStackUsed:
		return demand{early: true, temps: make([]amd64.RegSet, 1)}
	case opHelper:
		return helperDemand(bpf.Helper(v.imm))
	}
	return demand{}
}

// makeWebs computes live ranges and gives each placed value, and each scratch
// register, a web.
func (a *allocator) makeWebs() {
	for _, b := range a.f.blocks {
		for _, v := range b.values {
			if a.needsWeb(v) {
				w := newWeb()
				a.of[v] = w
				a.webs = append(a.webs, w)
			} else if !v.acts() && v.op != opPlausible {
				continue
			}
			d := demandOf(v)
			for _, avoid := range d.temps {
				t := newWeb()
				t.temp, t.avoid, t.spans = true, avoid, []span{{v.pos, v.pos + posResult + 1}}
				a.temps[v] = append(a.temps[v], t)
				a.webs = append(a.webs, t)
			}
		}
	}
	out := a.liveOut()
	for i, b := range a.f.blocks {
		a.ranges(b, out[i])
	}
	for _, w := range a.webs {
		w.spans = merge(nil, w.spans)
	}
}

// liveOut returns the values live at the end of each block, phi moves included.
func (a *allocator) liveOut() []map[*value]bool {
	in := make([]map[*value]bool, len(a.f.blocks))
	out := make([]map[*value]bool, len(a.f.blocks))
	for i := range in {
		in[i], out[i] = map[*value]bool{}, map[*value]bool{}
	}
	for changed := true; changed; {
		changed = false
		for _, b := range slices.Backward(a.f.blocks) {
			for _, s := range b.succs {
				for v := range in[s.id] {
					out[b.id][v] = true
				}
				a.phiArgs(b, s, func(_, arg *value) { out[b.id][arg] = true })
			}
			n := len(in[b.id])
			for v := range out[b.id] {
				if v.block != b {
					in[b.id][v] = true
				}
			}
			b.eachUse(func(_ int, v *value) {
				if a.of[v] != nil && v.block != b {
					in[b.id][v] = true
				}
			})
			changed = changed || len(in[b.id]) != n
		}
	}
	a.in = in
	return out
}

// phiArgs calls do for each phi of s with the argument that flows in from b.
func (a *allocator) phiArgs(b, s *block, do func(phi, arg *value)) {
	i := slices.Index(s.preds, b)
	for _, phi := range s.values {
		if phi.op != opPhi {
			break
		}
		if a.of[phi] != nil && a.of[phi.args[i]] != nil {
			do(phi, phi.args[i])
		}
	}
}

// eachUse calls do for every operand in b but those of phis, with the position
// that reads it.
func (b *block) eachUse(do func(pos int, v *value)) {
	for _, v := range b.values {
		if v.op == opPhi {
			continue
		}
		for _, arg := range v.args {
			do(v.pos, arg)
		}
	}
	for _, arg := range b.args {
		do(b.end, arg)
	}
	if b.exit != nil {
		for _, p := range b.exit.values() {
			do(b.end, *p)
		}
	}
}

// ranges adds what b contributes to the live ranges.
func (a *allocator) ranges(b *block, out map[*value]bool) {
	last := map[*value]int{} // position after the last read in b
	through := b.end + posStep
	for v := range out {
		last[v] = through
	}
	b.eachUse(func(pos int, v *value) {
		if a.of[v] != nil {
			last[v] = max(last[v], pos+1)
		}
	})
	for _, s := range b.succs {
		a.phiArgs(b, s, func(_, arg *value) {
			if !a.liveInto(arg, s) && last[arg] == through {
				last[arg] = b.end + 1 // read by the moves at the end
			}
		})
		for _, phi := range s.values {
			if phi.op == opPhi && a.of[phi] != nil {
				a.of[phi].add(b.end+posResult, through)
			}
		}
	}
	for _, v := range b.values {
		w := a.of[v]
		if w == nil {
			continue
		}
		from := v.pos + posResult
		if v.op == opPhi {
			from = b.pos
		} else if demandOf(v).early {
			from = v.pos
		}
		w.add(from, max(last[v], v.pos+posResult+1))
		delete(last, v)
	}
	for v, to := range last {
		a.of[v].add(b.pos, to)
	}
}

// liveInto reports whether v is read in s or beyond other than by a phi of s
// itself; blocks that jump have one successor, so that out is precise.
func (a *allocator) liveInto(v *value, s *block) bool { return a.in[s.id][v] }

func (w *web) add(from, to int) { w.spans = append(w.spans, span{from, to}) }

// coalesce merges each phi with the arguments that never live at the same time,
// and notes where a shared register would save a move.
func (a *allocator) coalesce() {
	for _, b := range a.f.blocks {
		for _, v := range b.values {
			if a.of[v] == nil {
				continue
			}
			for i, arg := range v.args {
				w, x := a.of[v].find(), a.of[arg]
				if x == nil || v.op != opPhi && i > 0 {
					continue
				}
				x = x.find()
				if x == w {
					continue
				}
				if v.op == opPhi && !overlap(w.spans, x.spans) {
					x.into = w
					w.spans = merge(w.spans, x.spans)
					w.hints = append(w.hints, x.hints...)
					continue
				}
				w.hints = append(w.hints, x)
				x.hints = append(x.hints, w)
			}
		}
	}
}
