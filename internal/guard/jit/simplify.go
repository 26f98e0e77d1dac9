package jit

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// dropTrivialPhis replaces each phi whose arguments are itself and one other
// value by that value, until none is left. A phi of nothing is undefined.
func dropTrivialPhis(phis []*value) {
	for changed := true; changed; {
		changed = false
		for _, p := range phis {
			if p.fwd != nil || p.op != opPhi {
				continue
			}
			if same, ok := p.onlyArg(); ok {
				changed = true
				if same == nil {
					// A value of its own: in p's place it would stand among the phis of its
					// block, which come first and in one run.
					same = &value{op: opUndef, width: 8, block: p.block}
				}
				p.fwd = same
			}
		}
	}
}

// onlyArg returns the one value a phi can have, nil when it has none. Equal
// constants are one value; so is anything joined with an undefined one.
func (v *value) onlyArg() (*value, bool) {
	var same *value
	for _, a := range v.args {
		a = a.find()
		switch {
		case a == v, a == same, a.op == opUndef:
		case same == nil:
			same = a
		case a.op == same.op && (a.op == opConst || a.op == opFrame || a.op == opStack) && a.imm == same.imm:
		default:
			return nil, false
		}
	}
	// Another phi or a value of one way in need not dominate this block.
	if same != nil && slices.ContainsFunc(v.args, func(a *value) bool { return a.find().op == opUndef }) &&
		!same.isConst() && same.op != opFrame && same.op != opStack {
		return nil, false
	}
	return same, true
}

// rewrite replaces every use in b by what stands for it, and drops what was
// replaced.
func (b *block) rewrite() {
	b.values = slices.DeleteFunc(b.values, func(v *value) bool { return v.fwd != nil })
	for _, v := range b.values {
		for i, a := range v.args {
			v.args[i] = a.find()
		}
	}
	for i, a := range b.args {
		b.args[i] = a.find()
	}
	if b.exit != nil {
		for _, p := range b.exit.values() {
			*p = (*p).find()
		}
	}
}

// simplify folds constants and extensions, cuts ways that are never taken, and
// drops what nothing reads, until nothing changes.
func simplify(f *function) {
	for changed := true; changed; {
		changed = false
		for _, b := range f.blocks {
			for _, v := range b.values {
				if v.fwd == nil && fold(v) {
					changed = true
				}
			}
		}
		var phis []*value
		for _, b := range f.blocks {
			b.rewrite()
			changed = foldBranch(b) || foldImplied(b) || changed
			changed = cutAtFault(b) || changed
			for _, v := range b.values {
				if v.op == opPhi {
					phis = append(phis, v)
				}
			}
		}
		prune(f)
		dropTrivialPhis(phis)
		for _, b := range f.blocks {
			b.rewrite()
			b.trimExit()
		}
		dropDead(f)
	}
}

// cutAtFault ends b at a read of an address that is never mapped: that is how a
// guard says that it faults, where Go would panic.
func cutAtFault(b *block) bool {
	i := slices.IndexFunc(b.values, func(v *value) bool {
		return v.op == opLoad && v.faults && v.args[0].isConst() &&
			!bpf.InTarget(uint64(v.args[0].imm+v.imm), uint64(v.size))
	})
	if i < 0 {
		return false
	}
	b.values = b.values[:i]
	for _, s := range b.succs {
		s.dropPred(b)
	}
	b.term, b.args, b.exit, b.succs = termFault, nil, nil, nil
	return true
}

// prune drops unreachable blocks, and fault and fuel exits that nothing takes.
func prune(f *function) {
	faults, fuels := f.exitsTaken()
	if !faults {
		f.onFault = nil
	}
	if !fuels {
		f.onFuel = nil
	}
	seen := map[*block]bool{}
	work := f.roots()
	for len(work) > 0 {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		if !seen[b] {
			seen[b] = true
			work = append(work, b.succs...)
		}
	}
	for _, b := range f.blocks {
		if seen[b] {
			continue
		}
		for _, s := range b.succs {
			if seen[s] {
				s.dropPred(b)
			}
		}
	}
	f.blocks = slices.DeleteFunc(f.blocks, func(b *block) bool { return !seen[b] })
}

// exitsTaken reports whether a read can fault and whether fuel can end.
func (f *function) exitsTaken() (faults, fuels bool) {
	for _, b := range f.blocks {
		faults = faults || b.mayFault()
		fuels = fuels || b.mayBurn()
	}
	return faults, fuels
}

// burns reports whether v can run out of fuel.
func (v *value) burns() bool { return v.op == opFuel || v.op == opHelper && v.faults }

// dropPred removes the way in from p, with the phi arguments that came by it.
func (b *block) dropPred(p *block) {
	i := slices.Index(b.preds, p)
	if i < 0 {
		return
	}
	b.preds = slices.Delete(b.preds, i, i+1)
	for _, v := range b.values {
		if v.op == opPhi {
			v.args = slices.Delete(v.args, i, i+1)
		}
	}
}

// trimExit cuts the results of an exit whose verdict is known down to those the
// verdict announces.
func (b *block) trimExit() {
	if b.term != termExit || !b.exit.verdict.isConst() {
		return
	}
	v := verdictOf(b.exit.verdict)
	words, xmm0, errno, code := carried(v)
	e := b.exit
	if len(e.words) > words {
		e.words = e.words[:words]
	}
	if !xmm0 {
		e.xmm0 = nil
	}
	if !errno {
		e.errno = nil
	}
	if !code {
		e.code = nil
	}
}

// dropDead counts uses and removes values that nothing reads.
func dropDead(f *function) {
	var work []*value
	for _, b := range f.blocks {
		for _, v := range b.values {
			v.uses = 0
		}
	}
	use := func(v *value) {
		if v.uses++; v.uses == 1 && !v.effect() {
			work = append(work, v)
		}
	}
	for _, b := range f.blocks {
		for _, v := range b.values {
			if v.effect() {
				work = append(work, v)
			}
		}
		for _, a := range b.args {
			use(a)
		}
		if b.exit != nil {
			for _, p := range b.exit.values() {
				use(*p)
			}
		}
	}
	for len(work) > 0 {
		v := work[len(work)-1]
		work = work[:len(work)-1]
		for _, a := range v.args {
			use(a)
		}
	}
	for _, b := range f.blocks {
		b.values = slices.DeleteFunc(b.values, func(v *value) bool { return v.uses == 0 && !v.effect() })
	}
}
