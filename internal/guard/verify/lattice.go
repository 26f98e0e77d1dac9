package verify

import (
	"math"

	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// ties relate the links of a wider state to those of a narrower one. A state
// rarely has more links than fit in first, which saves an allocation in what the
// analysis does most.
type ties struct {
	first [24]tie
	used  int // of first
	rest  []tie
}

// A tie is what the narrower state has for the number that a link of the wider
// one stands for.
type tie struct {
	id uint32
	is key
}

// hold reports whether what the wider state says by w's link is so between the
// keys of the narrower one, which has v in w's place.
func (t *ties) hold(v, w *value) bool {
	if !w.readable() || w.id == 0 {
		return true
	}
	k, ok := v.key()
	k.offset -= w.delta
	if seen := t.find(w.id); seen != nil {
		return ok && *seen == k
	}
	if !ok {
		k = key{id: math.MaxUint32} // no id ever
	}
	if t.used < len(t.first) {
		t.first[t.used] = tie{w.id, k}
		t.used++
	} else {
		t.rest = append(t.rest, tie{w.id, k})
	}
	return true
}

func (t *ties) find(id uint32) *key {
	for n := range t.used {
		if t.first[n].id == id {
			return &t.first[n].is
		}
	}
	for n := range t.rest {
		if t.rest[n].id == id {
			return &t.rest[n].is
		}
	}
	return nil
}

// leq reports whether every run that s allows is allowed by t.
func (s *state) leq(t *state) bool {
	if t.stored&^s.stored != 0 {
		return false
	}
	var links ties
	for r := range s.regs {
		if !s.regs[r].leqTied(&t.regs[r], &links) {
			return false
		}
	}
	for d := range s.saved {
		for r := range s.saved[d] {
			if !s.saved[d][r].leqTied(&t.saved[d][r], &links) {
				return false
			}
		}
	}
	for d, theirs := range t.stacks {
		ours := s.stacks[d]
		for k := range theirs {
			have := &slot{}
			if k < len(ours) {
				have = &ours[k]
			}
			if !have.leq(&theirs[k], &links) {
				return false
			}
		}
	}
	return t.words == nil || wordsLeq(s.words, t.words, &links)
}

// leqTied is leq with the link.
func (v *value) leqTied(w *value, links *ties) bool { return v.leq(w) && links.hold(v, w) }

// wordsLeq compares the words of the frame. One that s has not read yet is any
// number, linked to nothing.
func wordsLeq(s, t *[frameWords]value, links *ties) bool {
	for k := range t {
		v := value{}
		if s != nil {
			v = s[k]
		}
		if v.kind == kindUninit && t[k].kind == kindScalar {
			v = number(scalar.Top())
		}
		if !v.leqTied(&t[k], links) {
			return false
		}
	}
	return true
}

func (s *slot) leq(t *slot, links *ties) bool {
	if t.init&^s.init != 0 {
		return false
	}
	if t.size == 0 { // numbers, in the bytes that t.init names
		return t.init == 0 || s.size == 0 || !s.val.pointer()
	}
	return s.size == t.size && s.off == t.off && s.val.leqTied(&t.val, links)
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
	for r := range j.regs {
		j.regs[r] = combine(j.regs[r], t.regs[r])
	}
	for d := range j.saved {
		for r := range j.saved[d] {
			j.saved[d][r] = combine(j.saved[d][r], t.saved[d][r])
		}
	}
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
