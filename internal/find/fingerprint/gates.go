package fingerprint

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// gates are the remaining reasons not to trust a match.
func (s *search) gates(v *verdict, ref *Reference) {
	top := v.top
	b := s.m.body(top.fn)
	alike := top.exact || top.similarity >= alikeEnough
	if n := s.nearestSize(ref, b.insns); float64(min(n, b.insns)) < sizeRatio*float64(max(n, b.insns)) {
		v.lower(Hint, fmt.Sprintf("it has %d instructions, the reference %d", b.insns, n))
	}
	if !b.whole {
		v.lower(Hint, "not all of its code could be decoded")
	}
	n := top.found + top.missed
	// The same code, and much of it, needs less from around it: when other
	// options of the compiler changed the functions around, it stayed.
	long := top.exact && b.insns >= longExact && top.found > 0
	// So does what no other function comes near: other compilers inline otherwise.
	far := v.margin >= marginFar && top.found >= 2 && 4*top.found >= n || v.margin >= margins[2].auto && top.found >= 3 && 3*top.found >= n ||
		top.found > 0 && 3*top.found >= n && s.wholeForeign()
	if n > 0 && 2*top.found < n && !long && !far && !s.ledTo(top, v.margin) {
		to := Hint
		if top.exact || alike && 3*top.found >= n {
			to = Confirm
		}
		v.lower(to, fmt.Sprintf("only %d of %d functions around it are like those around the reference", top.found, n))
	}
	switch {
	case !alike:
		s.corroborated(v, ref)
	case !top.exact && !s.nearSource() && !s.ledTo(top, v.margin) && s.texts(&ref.Target, top.fn).both+perFunction*float64(top.found) < corroborationFar:
		v.lower(Confirm, "few texts, imports and functions around it show that it is the reference's, and not another that was generated from the same source")
	}
	if !top.exact {
		s.numbered(v, ref)
	}
	if !top.exact && !s.sameSource() && s.renumbered(ref, top.fn) {
		v.lower(Confirm, "it has another number in place of one of the reference's, and few texts and imports show that it is the reference's")
	}
	if !top.exact && !ref.Target.readsEnough(s.m.arguments(top.fn)) {
		v.lower(Confirm, "it does not read all arguments that the reference reads")
	}
	s.calledAlike(v, ref)
	s.folded(v, ref)
	s.wrapped(v, ref)
	s.absorbed(v, ref)
	if !top.exact {
		s.claimed(v, ref)
	}
}

// corroborated wants more than code that is somewhat alike: texts, imports and
// functions around that are the reference's. A sibling of the target, which another
// version may have first, differs in its code as another compiler's build of the
// target does, but has a text of its own in place of the target's.
func (s *search) corroborated(v *verdict, ref *Reference) {
	t := s.texts(&ref.Target, v.top.fn)
	around := v.top.found
	if s.nearSource() && s.slotted(ref, v.top.fn) {
		around += 2 // the one before, and the one after
	}
	to := Hint
	if v.top.similarity >= confirmSim {
		to = Confirm
	}
	switch {
	case t.both < t.missing+t.extra:
		v.lower(to, "it refers to other texts and imports than the reference")
	case t.missing >= otherText && t.extra >= otherText:
		v.lower(Confirm, "it refers to another text or import in place of one of the reference's")
	case s.ledTo(v.top, v.margin): // these functions around it are known for certain
	case t.both+perFunction*float64(around) < corroboration, v.top.similarity < confirmSim && around == 0:
		v.lower(Confirm, "few texts, imports and functions around it show that it is the reference's")
	}
}

const (
	otherText        = 4  // nats: a text or import that at most one function in fifty has
	corroborationFar = 18 // nats, in another version: generators of code are used twice
	corroboration    = 12 // nats
	perFunction      = 6  // nats, for each function around
)

// renumbered tells whether a function that has few of the target's texts and imports has
// a rare number where the target has another. In another version a sibling can have come
// to the target's code, callers and callees, and then differs in the one number that makes
// it the sibling.
func (s *search) renumbered(ref *Reference, fn int) bool {
	missing, extra := 0.0, 0.0
	features := s.m.body(fn).features
	for _, f := range features {
		if f.isNumber() && !ref.Target.contains(f) {
			extra = max(extra, s.common.rate(f).log)
		}
	}
	for _, f := range ref.Target.Features {
		if _, ok := slices.BinarySearch(features, f.Feature); f.isNumber() && !ok {
			missing = max(missing, -math.Log(f.Share))
		}
	}
	rare := min(otherText, math.Log(float64(min(ref.Functions, len(s.m.funcs)))/3)) // in a small program two functions are more than one in fifty
	return min(missing, extra) >= rare && s.texts(&ref.Target, fn).both < corroboration
}

// numbered doubts a match where the reference's build has a function with the target's
// operations that differs in numbers and offsets only, as getters of one structure do:
// when the structure grows each of them looks like the next, and all of them move in step.
func (s *search) numbered(v *verdict, ref *Reference) {
	if v.tier < Auto {
		return
	}
	own := s.against(&ref.Target, v.top.fn)
	for i := range ref.Alike {
		o := &ref.Alike[i]
		if own-s.against(o, v.top.fn) < margins[0].auto && ref.Target.hasOperationsOf(o) && !s.placedElsewhere(o, v.top.fn) {
			v.lower(Confirm, "functions that differ from it in a number only may have changed places with it")
			return
		}
	}
}

// hasOperationsOf tells whether two functions have the same runs of operations.
func (s *Sample) hasOperationsOf(o *Sample) bool {
	of := func(s *Sample) []Rated {
		return slices.DeleteFunc(slices.Clone(s.Features), func(f Rated) bool { return f.Kind() != KindGram })
	}
	return s.Insns == o.Insns && slices.EqualFunc(of(s), of(o), func(a, b Rated) bool { return a.Feature == b.Feature })
}

// nearestSize returns how many instructions the reference has; of several builds
// put together, the one nearest to n.
func (s *search) nearestSize(ref *Reference, n int) int {
	best := ref.Target.Insns
	if ref.Target.Exact != 0 {
		return best
	}
	for i := range s.fp.References {
		if o := s.fp.References[i].Target.Insns; max(o-n, n-o) < max(best-n, n-best) {
			best = o
		}
	}
	return best
}

// calledAlike compares who calls. A caller with the target inlined can be as
// good as equal to the target, and gives itself away by its own callers.
func (s *search) calledAlike(v *verdict, ref *Reference) {
	called := len(s.m.callers(v.top.fn))
	switch {
	case called == 0 && len(ref.Callers) > 0:
		to := Hint
		if v.top.exact {
			to = Confirm
		}
		v.lower(to, "nothing calls it, and the reference is called")
	case called > 0 && len(ref.Callers) == 0:
		to := Hint
		if v.top.exact || v.top.similarity >= alikeEnough {
			to = Confirm
		}
		v.lower(to, "it is called, and nothing calls the reference")
	case called > 0 && v.top.callers == 0 && !v.top.exact && !s.ledTo(v.top, v.margin):
		v.lower(Confirm, "none of its callers is like one of the reference's")
	}
}

// folded looks for functions that do nothing but jump to the match, or to the
// reference: compilers and linkers keep one of several functions with the same code, and
// lead the others to it; which they keep is not the same in every build. One that jumps
// through the PLT was written so, as compilers jump within the file; in the same source it
// is the same function in front of the same other.
func (s *search) folded(v *verdict, ref *Reference) {
	const why = "a function that only jumps to it may be one with the same code"
	for i := range ref.Callers {
		if o := &ref.Callers[i]; o.Insns == 1 && !(o.imports() && s.nearSource()) {
			v.lower(Confirm, why)
			return
		}
	}
	for _, j := range s.m.callers(v.top.fn) {
		if b := s.m.body(int(j)); s.m.funcs[j].size <= maxJump && b.insns == 1 && !(b.imports() && s.nearSource()) {
			v.lower(Confirm, why)
			return
		}
	}
}

// imports tells whether a function refers to something by its name.
func (s *Sample) imports() bool {
	return slices.ContainsFunc(s.Features, func(f Rated) bool { return f.Kind() == KindImport })
}

func (b *body) imports() bool {
	return slices.ContainsFunc(b.features, func(f Feature) bool { return f.Kind() == KindImport })
}

// maxJump is the most bytes of a function that only jumps: endbr64 and a jump.
const maxJump = 16

// wrapped looks for a small function in front of the match that the reference has
// not: when a version moved the target's code into a function of its own, the small
// one is the target now.
func (s *search) wrapped(v *verdict, ref *Reference) {
	if v.top.exact || len(ref.Callers) == maxAround {
		return
	}
	known := 0
	for i := range ref.Callers {
		if ref.Callers[i].Insns <= wrapperInsns {
			known++
		}
	}
	if s.smallCallers(v.top.fn) > known {
		v.lower(Confirm, "a small function that the reference does not have calls it, and may be the one that is meant")
	}
}

// wrapperInsns is the most instructions of a function that only prepares a call.
const wrapperInsns = 40

// absorbed refuses a function that has what a caller of the target has beside it:
// that is the caller, with the target's code inlined. A caller that has next to nothing
// beside the target cannot be told from it so: it must still be there, and call the match.
func (s *search) absorbed(v *verdict, ref *Reference) {
	if v.top.exact {
		return
	}
	b := s.m.body(v.top.fn)
	target := []*Sample{&ref.Target}
	slight := 0
	for i := range ref.Callers {
		c := &ref.Callers[i]
		p := b.has(distinct([]*Sample{c}, target))
		switch {
		case p.of >= absorbedWeight && p.has >= absorbedShare*p.of:
			v.lower(Hint, "it looks like the caller "+cmp.Or(c.Name, "of the reference")+" with the function inlined")
			return
		case c.Insns < autoInsns:
			slight++
		}
	}
	if v.tier == Auto && slight > s.smallCallers(v.top.fn) {
		v.lower(Confirm, "a small function that calls the reference does not call it, and may be the one found, with the function inlined")
	}
}

// smallCallers returns how many functions that do little call a function.
func (s *search) smallCallers(fn int) int {
	n := 0
	callers := s.m.callers(fn)
	for _, j := range callers[:min(len(callers), maxCompared)] {
		if s.m.body(int(j)).insns <= wrapperInsns {
			n++
		}
	}
	return n
}
