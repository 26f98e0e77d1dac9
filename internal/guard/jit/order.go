package jit

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// order puts the blocks in the order they are written: first those that can
// reach a pass, so that the common call runs straight down; then the others.
func order(f *function) {
	markCold(f)
	seen := map[*block]bool{}
	var post []*block
	var visit func(b *block)
	visit = func(b *block) {
		seen[b] = true
		succs := b.succs
		if len(succs) == 2 && leadsBack(succs[0], seen) { // what is visited last stands first
			succs = []*block{succs[1], succs[0]}
		}
		for _, s := range succs {
			if !seen[s] {
				visit(s)
			}
		}
		post = append(post, b)
	}
	for _, r := range []*block{f.onFuel, f.onFault, f.entry} {
		if r != nil && !seen[r] {
			visit(r)
		}
	}
	var hot, cold []*block
	for i := len(post) - 1; i >= 0; i-- {
		if post[i].cold {
			cold = append(cold, post[i])
		} else {
			hot = append(hot, post[i])
		}
	}
	f.blocks = append(hot, cold...)
	for i, b := range f.blocks {
		b.id = i
	}
}

// leadsBack reports whether b is nothing but the way back of a loop: it stands right behind
// the end of the loop's body, and costs no jump of its own.
func leadsBack(b *block, seen map[*block]bool) bool { return b.term == termJump && seen[b.succs[0]] }

// markCold marks the blocks from which no path leads to a pass, and those that
// run after a fault or without fuel only.
func markCold(f *function) {
	var work []*block
	for _, b := range f.blocks {
		b.cold = true
		if b.term == termExit && (!b.exit.verdict.isConst() || verdictOf(b.exit.verdict).Kind() == bpf.VerdictPass) {
			work = append(work, b)
		}
	}
	reached := map[*block]bool{}
	for stack := []*block{f.entry}; len(stack) > 0; {
		b := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !reached[b] {
			reached[b] = true
			stack = append(stack, b.succs...)
		}
	}
	for len(work) > 0 {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		if b.cold && reached[b] {
			b.cold = false
			work = append(work, b.preds...)
		}
	}
	f.entry.cold = false
}
