package fingerprint

import (
	"slices"
)

// What places where its address is kept say of the target (pointer.go): in one source, the
// same place leads to the same function, whoever compiled it and however it was optimized.

const (
	// pointedRatio is the smaller of two functions' instructions by the larger's where a place
	// leads from one to the other, and pointedScore the evidence of the code that it needs: one
	// of the same table may have been put there that another configuration of the source has.
	pointedRatio = .4
	pointedScore = 5
)

// places returns what of a sample's context tells where its address is kept.
func (s *Sample) places() []Rated {
	i, _ := slices.BinarySearchFunc(s.Context, feature(KindRow, 0), func(r Rated, f Feature) int {
		if r.Feature < f {
			return -1
		}
		return 1
	})
	return s.Context[i:]
}

// pointedTo returns the function that all places known of a sample lead to that are in the
// module, or -1. more is set when places lead to several.
func (s *search) pointedTo(sample *Sample) (fn int, several bool) {
	fn = -1
	for _, f := range sample.places() {
		j, ok := s.m.pointed(f.Feature)
		switch {
		case !ok || j >= 0 && s.isAbsent(j):
		case j < 0 || fn >= 0 && int(j) != fn:
			return -1, true
		default:
			fn = int(j)
		}
	}
	return fn, false
}

// oneSource tells whether the module was made from the reference's source, or nearly.
func (s *search) oneSource() bool { return s.nearSource() || s.foreignSource() }

// byPlace takes the function that places lead to, in one source, where nothing else that
// the code says speaks against it; and doubts another.
func (s *search) byPlace(v *verdict, r int) {
	ref := &s.refs[r]
	if v.tier == Auto && v.top.exact || len(ref.Target.places()) == 0 || !s.oneSource() {
		return
	}
	fn, several := s.pointedTo(&ref.Target)
	switch {
	case several:
		v.lower(Confirm, "places that keep the reference's address lead to several functions")
		return
	case fn < 0 || fn == v.top.fn && v.tier == Auto:
		return
	}
	m := s.matchOf(r, fn)
	if !s.sureByPlace(m, ref) {
		if fn != v.top.fn {
			v.lower(Hint, "a place that keeps the reference's address leads to another function")
		}
		return
	}
	other := s.scores[r]
	*v = verdict{tier: Auto, top: m, margin: m.score, placed: true}
	for i := range other {
		if other[i].fn != fn {
			v.margin = min(v.margin, m.score-other[i].score)
		}
	}
}

// matchOf compares function fn with a reference, unless that was done.
func (s *search) matchOf(r, fn int) *match {
	for i := range s.scores[r] {
		if s.scores[r][i].fn == fn {
			return &s.scores[r][i]
		}
	}
	m := &match{ref: r, fn: fn, exact: s.hasCode(fn, r)}
	m.similarity = alike(s.refs[r].Target.Features, s.m.body(fn).features, s.share)
	s.score(m)
	return m
}

// sureByPlace tells whether the code of a function that places lead to can be the target's. One
// of the same table may have been put there that another configuration of the source has; and
// a linker may have folded two functions with one code, whose places then all lead to one.
func (s *search) sureByPlace(m *match, ref *Reference) bool {
	b := s.m.body(m.fn)
	n := s.nearestSize(ref, b.insns)
	if !b.whole || min(n, b.insns) < autoInsns || float64(min(n, b.insns)) < pointedRatio*float64(max(n, b.insns)) || m.score < pointedScore {
		return false
	}
	if t := s.texts(&ref.Target, m.fn); t.both < t.missing+t.extra {
		return false
	}
	known := ref.Target.places()
	more := slices.ContainsFunc(s.m.inData(m.fn), func(f Feature) bool {
		fn, _ := s.m.pointed(f)
		return int(fn) == m.fn && !slices.ContainsFunc(known, func(r Rated) bool { return r.Feature == f })
	})
	return !more && ref.Target.readsEnough(s.m.arguments(m.fn))
}
