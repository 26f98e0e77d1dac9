package verify

import "math"

// A loop ends when some register or stack word grows (or shrinks) by at least
// one each time round and has bounds somewhere on the way. The bounds are a
// result of the fixpoint; progress.go finds how far each place moves.

// maxRounds is how often an instruction's changes may grow before what still
// moves is given up.
const maxRounds = 4

// trips returns how often control can pass the head of l each time l is entered;
// 0 when there is no bound.
func (r *result) trips(l *loop) uint64 {
	if l.entries != 1 {
		return 0
	}
	at, round := r.round(l)
	if round == nil {
		return 0
	}
	best := uint64(math.MaxUint64)
	for _, pc := range r.everyRound(l) {
		for p := range numPlaces {
			v := r.contentOf(pc, l, p)
			if here := at[pc][p]; v.readable() && here.known {
				best = min(best, passes(v, here, round[here.origin], here.origin))
			}
		}
	}
	if best == math.MaxUint64 {
		return 0
	}
	return best
}

// passes bounds how often a place is passed in consecutive rounds, when it holds
// v, which is what origin held at the head plus here, and origin moves by turn in
// each round. The numbers that origin can have there are as many as v allows and
// here adds, at least a step apart. Because neither is large, origin did not
// return to a number by wrapping round. The last round may end before the place.
func passes(v value, here, turn change, origin uint8) uint64 {
	if !turn.known || turn.origin != origin || turn.lo <= 0 && turn.hi >= 0 {
		return math.MaxUint64
	}
	step := uint64(max(turn.lo, -turn.hi))
	width := min(v.num.R.UMax-v.num.R.UMin, uint64(v.num.R.SMax)-uint64(v.num.R.SMin))
	if width > math.MaxInt64/2 {
		return math.MaxUint64
	}
	return (width+uint64(here.hi-here.lo))/step + 2
}

// contentOf is what all visits of pc have in a place in common. Of the stack it
// is known at the head only.
func (r *result) contentOf(pc int, l *loop, place int) value {
	switch {
	case place < slotPlace:
		return r.seen[pc].regs[place]
	case pc == l.head:
		return r.headSlots[pc][place-slotPlace]
	}
	return value{}
}

// round returns the changes at each instruction of l since the head, and over
// one whole round, joined over all ways back to it; nil when there is no way
// back, or finding out takes too long.
func (r *result) round(l *loop) (at map[int]*changes, back *changes) {
	at = map[int]*changes{}
	updates := map[int]int{}
	var start changes
	for p := range start {
		start[p] = change{known: true, origin: uint8(p)}
	}
	at[l.head] = &start
	for again := true; again; {
		again, back = false, nil
		if r.effort += len(l.pcs); r.effort > maxSteps {
			return nil, nil
		}
		for _, pc := range l.pcs {
			if at[pc] == nil {
				continue
			}
			out := *at[pc]
			r.apply(pc, &out)
			for _, next := range r.edges(pc) {
				switch {
				case next == l.head && back == nil:
					c := out
					back = &c
				case next == l.head:
					back.join(&out, false)
				case !l.contains(r.order.of[next]):
				case at[next] == nil:
					c := out
					at[next] = &c
					updates[next]++
					again = true
				case at[next].join(&out, updates[next] > maxRounds):
					updates[next]++
					again = true
				}
			}
		}
	}
	return at, back
}

// join joins next into c and reports whether that changed it; giveUp drops what
// moved.
func (c *changes) join(next *changes, giveUp bool) (changed bool) {
	for p := range c {
		joined := c[p].join(next[p])
		if joined == c[p] {
			continue
		}
		changed = true
		if giveUp {
			joined = change{}
		}
		c[p] = joined
	}
	return changed
}

// maxBody is the largest loop whose instructions are all tried for bounds.
const maxBody = 256

// everyRound returns instructions of l that every whole round passes, the head
// among them.
func (r *result) everyRound(l *loop) []int {
	list := []int{l.head}
	if len(l.pcs) > maxBody {
		return list
	}
	for _, pc := range l.pcs[1:] {
		if r.effort += len(l.pcs); r.effort > maxSteps {
			break
		}
		if !r.roundAvoids(l, pc) {
			list = append(list, pc)
		}
	}
	return list
}

// roundAvoids reports whether a way from l's head back to it does not pass pc.
func (r *result) roundAvoids(l *loop, avoid int) bool {
	seen := make([]bool, len(r.seen))
	seen[avoid] = true
	for work := []int{l.head}; len(work) > 0; {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		for _, next := range r.edges(pc) {
			if next == l.head {
				return true
			}
			if !seen[next] && l.contains(r.order.of[next]) {
				seen[next] = true
				work = append(work, next)
			}
		}
	}
	return false
}
