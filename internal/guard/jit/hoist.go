package jit

import "slices"

// A read by the fault table needs no look at its address: that only spares a wild
// pointer the price of a signal. So a loop that goes through memory in small steps looks
// once, where it is entered: from there on what it reads lies next to what it has read.

// maxHeads bounds the loops that are looked at: each takes time by the size of the guard.
const maxHeads = 64

// hoist moves the looks at addresses out of loops, and has loads add up two registers.
func hoist(f *function) {
	for _, b := range f.blocks {
		b.index()
	}
	heads := 0
	for _, head := range f.blocks {
		loads := head.readsAlways()
		if len(head.preds) < 2 || len(loads) == 0 {
			continue
		}
		if heads++; heads > maxHeads {
			return
		}
		outside := f.reachedWithout(head)
		var looks []*value
		for _, v := range loads {
			if ahead := head.lookAhead(v, outside); len(ahead) > 0 {
				v.looked = true
				looks = append(looks, ahead...)
			}
		}
		for _, v := range looks {
			v.block.look(v)
		}
	}
}

// index has loads of b add up their base themselves where nothing else wants the sum.
func (b *block) index() {
	for _, v := range b.values {
		if v.op != opLoad || !v.faults {
			continue
		}
		if sum := v.args[0]; sum.isSum() && sum.uses == 1 && sum.block == b && !sum.args[1].isConst() {
			v.args = []*value{sum.args[0], sum.args[1]}
		}
	}
}

// isSum reports whether v is a sum of 64 bits. A constant in it is its second operand.
func (v *value) isSum() bool { return v.op == opAdd && v.width == 8 && !v.args[0].isConst() }

// readsAlways lists the loads of the target that follow whenever control comes to b,
// unless the guard faults before: with nothing ahead of them that anybody sees.
func (b *block) readsAlways() (loads []*value) {
	for range maxImplied {
		for _, v := range b.values {
			switch {
			case v.op == opLoad && v.faults:
				loads = append(loads, v)
			case v.effect():
				return loads
			}
		}
		next := b.onlyWayOn()
		if next == nil || len(next.preds) != 1 {
			return loads
		}
		b = next
	}
	return loads
}

// onlyWayOn is where control goes from b unless the guard faults; nil where it may go
// several ways, or ends.
func (b *block) onlyWayOn() *block {
	switch b.term {
	case termJump:
		return b.succs[0]
	case termBranch:
		for i, s := range b.succs {
			if s.onlyFaults() {
				return b.succs[1-i]
			}
		}
	}
	return nil
}

// onlyFaults reports whether the guard faults once control comes to b, and does nothing else.
func (b *block) onlyFaults() bool {
	for range maxImplied {
		if slices.ContainsFunc(b.values, (*value).effect) || b.term != termJump {
			break
		}
		b = b.succs[0]
	}
	return b.term == termFault && !slices.ContainsFunc(b.values, (*value).effect)
}

// reachedWithout returns the blocks to which ways lead that do not pass head.
func (f *function) reachedWithout(head *block) map[*block]bool {
	seen := map[*block]bool{}
	for work := f.roots(); len(work) > 0; {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		if b != head && !seen[b] {
			seen[b] = true
			work = append(work, b.succs...)
		}
	}
	return seen
}

// lookAhead returns the looks at the first address of load v, which follows whenever
// control comes to b: one for each way into the loop that begins there. There are none
// where b begins no loop, or the address does not move by small steps in it.
func (b *block) lookAhead(v *value, outside map[*block]bool) (looks []*value) {
	terms := v.args
	if sum := terms[0]; len(terms) == 1 && sum.isSum() && !outside[sum.block] {
		terms = sum.args
	}
	loop := false
	for i, from := range b.preds {
		look := &value{op: opPlausible, width: 8, faults: true, imm: v.imm, insn: v.insn, block: from}
		for _, term := range terms {
			moves := term.op == opPhi && term.block == b
			switch {
			case moves && outside[from]:
				look.args = append(look.args, term.args[i])
			case moves && !term.stepsTo(term.args[i]), !moves && !outside[term.block] && !term.isConst():
				return nil
			default:
				look.args = append(look.args, term)
			}
		}
		switch {
		case !outside[from]:
			loop = true
		case from.term != termJump:
			return nil
		default:
			looks = append(looks, look)
		}
	}
	if !loop {
		return nil
	}
	return looks
}

// stepsTo reports whether next is what phi v is, or that and a small number.
func (v *value) stepsTo(next *value) bool {
	if next.isSum() && next.args[0] == v && next.args[1].isConst() {
		return next.args[1].imm <= near && next.args[1].imm >= -near
	}
	return next == v
}

// look adds look v at the end of b, unless there is one at an address nearby.
func (b *block) look(v *value) {
	for len(v.args) > 1 {
		i := slices.IndexFunc(v.args, (*value).isConst)
		if i < 0 || !near30(v.args[i].imm) || !near30(v.imm+v.args[i].imm) {
			break
		}
		v.imm += v.args[i].imm
		v.args = slices.Delete(slices.Clone(v.args), i, i+1)
	}
	for _, other := range b.values {
		if other.op == opPlausible && slices.Equal(other.args, v.args) && other.imm-v.imm <= near && v.imm-other.imm <= near {
			return
		}
	}
	b.values = append(b.values, v)
}
