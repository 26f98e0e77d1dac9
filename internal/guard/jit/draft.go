package jit

import (
	"errors"
	"maps"
	"slices"
)

// A guard is written out several times. The first round shows which branches can be short,
// so that the common way takes fewer cache lines; the next ones, with those, how long
// each loop is. A short loop is moved so that it lies in as few lines of codeLine bytes as
// it can: a processor fetches and predicts by such lines, and a round that runs over a
// border takes a cycle more. On Zen 5 a loop of one load, a compare and its fuel takes one
// cycle a round inside of a line and two across a border, wherever that falls.

// codeLine is the size of a line of code, in bytes.
const codeLine = 64

// maxAligned bounds the loops that are moved, in bytes: beyond it a round takes so long that
// one more line is nothing.
const maxAligned = 2 * codeLine

// maxRounds bounds how often a guard is written out after the first round: two do, unless
// padding moves something out of reach.
const maxRounds = 6

// shortSlack is more than two alignments to 8 bytes can grow by.
const shortSlack = 16

// draft is what one round of writing a guard shows the next.
type draft struct {
	short []bool      // by branch, in the order they are written: a short one reaches
	loops map[int]int // by id of the block it begins with: the size of an innermost loop
}

// emit writes f out.
func emit(p program, f *function, regs *registers, s Site, l Layout) (*Code, error) {
	best, d, err := emitWith(draft{}, p, f, regs, s, l)
	if err != nil || len(d.loops) == 0 && !slices.Contains(d.short, true) {
		return best, err
	}
	for range maxRounds {
		code, shown, err := emitWith(d, p, f, regs, s, l)
		switch {
		case err == nil && maps.Equal(d.loops, shown.loops):
			return code, nil
		case err == nil:
			best = code
		case !errors.Is(err, ErrLayout):
			return best, nil
		default: // what padding has moved out of reach takes a long branch
			for i := range d.short {
				d.short[i] = d.short[i] && shown.short[i]
			}
		}
		d.loops = shown.loops
	}
	return best, nil
}

// shown is what the round that e has written shows the next.
func (e *emitter) shown(slack int) draft {
	d := draft{short: e.Reach(slack), loops: map[int]int{}}
	if e.l.Quiet { // where memory is scarce nothing is moved
		return d
	}
	for head, last := range innermost(e.f.blocks) {
		at, _ := e.Bound(e.body[head])
		if size := e.ends[last] - int(at-e.l.Code); size <= maxAligned {
			d.loops[head] = size
		}
	}
	return d
}

// innermost returns the loops, from the block they begin with to the last that leads back
// there, that have no other within them. Blocks are in the order they are written.
func innermost(blocks []*block) map[int]int {
	loops := map[int]int{}
	for _, b := range blocks {
		for _, s := range b.succs {
			if s.id <= b.id {
				loops[s.id] = b.id
			}
		}
	}
	maps.DeleteFunc(loops, func(head, last int) bool {
		for h, l := range loops {
			if h != head && head <= h && l <= last {
				return true
			}
		}
		return false
	})
	return loops
}

// padding returns how many bytes go ahead of b, so that the loop that begins there lies in
// no more lines than it must.
func (e *emitter) padding(b *block) int {
	size, at := e.draft.loops[b.id], int(e.Here()%codeLine)
	if size == 0 || (at+size+codeLine-1)/codeLine <= (size+codeLine-1)/codeLine {
		return 0
	}
	return codeLine - at
}
