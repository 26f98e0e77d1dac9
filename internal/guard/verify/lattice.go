package verify

import (
	"math"

	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// locations calls f for every place of two states of the same shape that holds
// a value, with the pair of values, and stops when f returns false.
func locations(s, t *state, f func(v, w *value) bool) bool {
	for r := range s.regs {
		if !f(&s.regs[r], &t.regs[r]) {
			return false
		}
	}
	for d := range s.saved {
		for r := range s.saved[d] {
			if !f(&s.saved[d][r], &t.saved[d][r]) {
				return false
			}
		}
	}
	return true
}

// A distances relates the links of a wider state to those of a narrower one.
type distances struct {
	ids  []uint32
	keys []key // what the narrower state has for the number that ids stands for
}

// hold reports whether what the wider state says by w's link is so between the
// keys of the narrower one; k is what it has in w's place, if any.
func (d *distances) hold(w value, k key, ok bool) bool {
	k.offset -= w.delta
	for n, seen := range d.ids {
		if seen == w.id {
			return ok && d.keys[n] == k
		}
	}
	if !ok {
		k = key{id: math.MaxUint32} // no id ever
	}
	d.ids, d.keys = append(d.ids, w.id), append(d.keys, k)
	return true
}

// leq reports whether every run that s allows is allowed by t.
func (s *state) leq(t *state) bool {
	if t.stored&^s.stored != 0 {
		return false
	}
	var links distances
	leq := func(v, w *value) bool {
		if !v.leq(*w) {
			return false
		}
		if !w.readable() || w.id == 0 {
			return true
		}
		k, ok := v.key()
		return links.hold(*w, k, ok)
	}
	if !locations(s, t, leq) {
		return false
	}
	for d := range s.stacks {
		for k := range t.stacks[d] {
			if !slotLeq(s.slot(int32(d), k), t.stacks[d][k], leq) {
				return false
			}
		}
	}
	if t.words == nil {
		return true
	}
	for w := range t.words {
		v := value{}
		if s.words != nil {
			v = s.words[w]
		}
		// A word that s has not read yet is any number, linked to nothing.
		if v.kind == kindUninit && t.words[w].kind == kindScalar {
			v = number(scalar.Top())
		}
		if !leq(&v, &t.words[w]) {
			return false
		}
	}
	return true
}

func slotLeq(s, t slot, leq func(v, w *value) bool) bool {
	if t.init&^s.init != 0 {
		return false
	}
	if t.size == 0 { // numbers, in the bytes that t.init names
		return t.init == 0 || s.size == 0 || !s.val.pointer()
	}
	return s.size == t.size && s.off == t.off && leq(&s.val, &t.val)
}

// A pair is two numbers of two states with the same link or constant in each:
// others of the same pair are at the same distance from it in both.
type pair struct {
	id, otherID uint32
	apart       uint64
}

// A combiner makes the value for a place from those of two states.
type combiner func(v, w value) value

// joinStates makes a state that allows what s and t allow; numbers are combined
// by c, and links kept where both states have them.
func (a *analysis) joinStates(s, t *state, c combiner) *state {
	j := s.clone()
	j.stored &= t.stored
	links := map[pair]uint32{}
	combine := func(v, w value) value {
		out := c(v, w)
		kv, ok1 := v.key()
		kw, ok2 := w.key()
		if _, known := out.num.Const(); !out.linkable() || known || !ok1 || !ok2 {
			return out
		}
		p := pair{kv.id, kw.id, kv.offset - kw.offset}
		if links[p] == 0 {
			a.ids++
			links[p] = a.ids
		}
		out.id, out.delta = links[p], kv.offset
		return out
	}
	locations(j, t, func(v, w *value) bool {
		*v = combine(*v, *w)
		return true
	})
	for d := range j.stacks {
		for k := range j.stacks[d] {
			j.setSlot(int32(d), k, joinSlots(j.slot(int32(d), k), t.slot(int32(d), k), combine))
		}
	}
	j.words = joinWords(s, t, combine)
	return j
}

func joinSlots(s, t slot, combine combiner) slot {
	j := slot{init: s.init & t.init}
	if s.size != 0 && s.size == t.size && s.off == t.off {
		if v := combine(s.val, t.val); v.readable() {
			j.off, j.size, j.val = s.off, s.size, v
			return j
		}
	}
	// What is not the same address on both paths can no longer be read.
	if s.size != 0 && s.val.pointer() || t.size != 0 && t.val.pointer() {
		return slot{}
	}
	return j
}

// joinWords forgets words that only one path has read: they are any number.
func joinWords(s, t *state, combine combiner) *[frameWords]value {
	if s.words == nil || t.words == nil {
		return nil
	}
	var words [frameWords]value
	for w := range words {
		v, u := s.words[w], t.words[w]
		if v.kind == kindScalar && u.kind == kindScalar {
			words[w] = combine(v, u)
		}
	}
	return &words
}
