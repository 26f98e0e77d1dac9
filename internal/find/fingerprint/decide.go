package fingerprint

import (
	"cmp"
	"fmt"
	"math"
)

// Gates. Each answers a false match that was seen; docs/fingerprints.md has the
// measurements.
const (
	autoSimilarity    = .85
	autoScore         = 25
	autoInsns         = 20
	confirmSimilarity = .5
	confirmScore      = 20
	// Code that was scheduled or tuned otherwise is less similar, and still
	// recognized by what it refers to when that is much.
	loneSimilarity = .3
	loneScore      = 80
	hintSimilarity = .12
	hintScore      = 12
	// A function is only accepted when the next best is behind by a margin: at
	// least so many nats, and a share of the score.
	marginLeast = 10
	// The same code, instruction by instruction and with the same texts and
	// imports, once on either side, needs little more.
	marginExact = 1
	marginShare = .3
	// longExact is how many instructions must be the same one by one to count
	// without most of the functions around.
	longExact = 60
	// sizeRatio is the smaller of two functions' instructions by the larger's.
	sizeRatio = .6
)

// decide gives the answer: the best match of all references, with the tier that
// it passes every gate of.
func (s *search) decide() Finding {
	best := -1
	judged := make([]verdict, len(s.scores))
	for r := range s.scores {
		if len(s.scores[r]) == 0 {
			continue
		}
		judged[r] = s.judge(r)
		if best < 0 || judged[r].better(&judged[best]) {
			best = r
		}
	}
	if best < 0 {
		return Finding{Why: []string{"no function of about its size"}}
	}
	v := judged[best]
	for r := range judged {
		// Two references that point to different functions, both convincingly.
		if o := &judged[r]; o.tier >= Confirm && v.tier >= Confirm && o.top.fn != v.top.fn {
			v.lower(Hint, fmt.Sprintf("%s fits another function better, at %v", s.fp.References[r].Label, s.m.funcs[o.top.fn].at))
			v.rivals = append(v.rivals, *o.top)
		}
	}
	s.tellFixed(&v)
	return s.finding(&v)
}

// verdict is what one reference says.
type verdict struct {
	tier             Tier
	top              *match
	margin           float64
	why              []string
	rivals           []match
	fixed, undecided bool
}

func (v *verdict) better(o *verdict) bool {
	return cmp.Or(cmp.Compare(v.tier, o.tier), boolCompare(v.top.exact, o.top.exact), cmp.Compare(v.top.similarity, o.top.similarity)) > 0
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// lower caps the tier and says why.
func (v *verdict) lower(to Tier, why string) {
	if v.tier >= to {
		v.tier = to
		v.why = append(v.why, why)
	}
}

func (s *search) judge(r int) verdict {
	all := s.scores[r]
	ref := &s.fp.References[r]
	v := verdict{top: s.pick(all)}
	top := v.top
	v.margin = s.marginOf(all, top, ref, &v)
	v.tier = tierOf(top)
	needed := neededMargin(top)
	exactTwins := 0
	for i := range all {
		if all[i].exact {
			exactTwins++
		}
	}
	if top.exact && exactTwins == 1 && ref.Twins == 1 && ref.Target.Insns >= autoInsns {
		v.tier = Auto
		needed = marginExact
	}
	if exactTwins > 1 || top.exact && ref.Twins > 1 {
		v.lower(Hint, "several functions have exactly this code")
	}
	if ref.Target.Insns < autoInsns {
		v.lower(Confirm, fmt.Sprintf("a function of %d instructions is never taken without asking", ref.Target.Insns))
	}
	switch {
	case v.margin < 0:
		v.lower(None, "another function fits better")
	case v.margin < needed/2, v.margin < needed && top.similarity < autoSimilarity:
		v.lower(Hint, "another function fits about as well")
	case v.margin < needed:
		v.lower(Confirm, "another function fits nearly as well")
	}
	s.gates(&v, ref)
	return v
}

// neededMargin is how far behind the next best must be: farther, the less alike
// the code is.
func neededMargin(m *match) float64 {
	switch {
	case m.similarity < confirmSimilarity:
		return max(4*marginLeast, .5*m.score)
	case m.similarity < autoSimilarity:
		return max(1.2*marginLeast, .35*m.score)
	}
	return max(marginLeast, marginShare*m.score)
}

// pick returns the match to judge: the one with most evidence.
func (s *search) pick(all []match) *match { return &all[0] }

// tierOf is the tier that the numbers of a match alone allow.
func tierOf(m *match) Tier {
	switch {
	case m.similarity >= autoSimilarity && m.score >= autoScore:
		return Auto
	case m.similarity >= confirmSimilarity && m.score >= confirmScore,
		m.similarity >= loneSimilarity && m.score >= loneScore && m.found > 0:
		return Confirm
	case m.similarity >= hintSimilarity && m.score >= hintScore, m.exact:
		return Hint
	}
	return None
}

// marginOf is how much better the match is than the next best function of the
// module, and than any look-alike of the reference is for this function:
// whichever is less.
func (s *search) marginOf(all []match, top *match, ref *Reference, v *verdict) float64 {
	margin := math.Inf(1)
	for i := range all {
		if &all[i] == top {
			continue
		}
		if d := top.score - all[i].score; d < margin {
			margin = d
		}
		if top.score-all[i].score < marginLeast && len(v.rivals) < 4 {
			v.rivals = append(v.rivals, all[i])
		}
	}
	own := s.against(&ref.Target, top.fn)
	for i := range ref.Alike {
		if d := own - s.against(&ref.Alike[i], top.fn); d < margin {
			margin = d
		}
	}
	return min(margin, top.score)
}

// gates are the remaining reasons not to trust a match.
func (s *search) gates(v *verdict, ref *Reference) {
	b := s.m.body(v.top.fn)
	small, large := min(b.insns, ref.Target.Insns), max(b.insns, ref.Target.Insns)
	if float64(small) < sizeRatio*float64(large) {
		v.lower(Hint, fmt.Sprintf("it has %d instructions, the reference %d", b.insns, ref.Target.Insns))
	}
	if !b.whole {
		v.lower(Hint, "not all of its code could be decoded")
	}
	n := v.top.found + v.top.missed
	// The same code, and much of it, needs less from around it: when other
	// options of the compiler changed the functions around, it stayed.
	long := v.top.exact && b.insns >= longExact && v.top.found > 0
	if n > 0 && 2*v.top.found < n && !long {
		to := Hint
		if v.top.similarity >= autoSimilarity {
			to = Confirm
		}
		v.lower(to, fmt.Sprintf("only %d of %d functions around it are like those around the reference", v.top.found, n))
	}
	s.calledAlike(v, ref)
	s.absorbed(v, ref)
}

// calledAlike compares who calls. A caller with the target inlined can be as
// good as equal to the target, and gives itself away by its own callers.
func (s *search) calledAlike(v *verdict, ref *Reference) {
	called := len(s.m.called[v.top.fn])
	switch {
	case called == 0 && len(ref.Callers) > 0:
		to := Hint
		if v.top.exact {
			to = Confirm
		}
		v.lower(to, "nothing calls it, and the reference is called")
	case called > 0 && len(ref.Callers) == 0:
		v.lower(Confirm, "it is called, and nothing calls the reference")
	case called > 0 && v.top.callers == 0 && !v.top.exact:
		v.lower(Confirm, "none of its callers is like one of the reference's")
	}
}

// absorbed refuses a function that looks like a caller of the target with the
// target's code inlined.
func (s *search) absorbed(v *verdict, ref *Reference) {
	features := s.m.body(v.top.fn).features
	for i := range ref.Callers {
		c := &ref.Callers[i]
		if sim := alike(union(ref.Target.Features, c.Features), features, s.share); sim > v.top.similarity && !v.top.exact {
			v.lower(Hint, "it looks like the caller "+cmp.Or(c.Name, "of the reference")+" with the function inlined")
			return
		}
	}
}

// union merges two ascending lists.
func union(a, b []Rated) []Rated {
	out := make([]Rated, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Feature < b[0].Feature:
			out, a = append(out, a[0]), a[1:]
		case b[0].Feature < a[0].Feature:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, a[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}
