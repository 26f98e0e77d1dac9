package fingerprint

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Gates. Each answers a false match that was seen; docs/fingerprints.md has the
// measurements.
const (
	autoScore = 20
	autoInsns = 20
	// autoSimilar is the similarity below which a newer version may have moved the
	// target's code into another function, or made a variant of it.
	autoSimilar = .8
	// sameSimilar is enough where the source is the same and the compiler another, and
	// sameFound functions around are those around the reference.
	sameSimilar, sameFound = .6, 1
	sameShrunk, sameGrown  = .85, 1.15 // instructions by those of the reference
	// slotSimilar is enough in the same source for a function that lies where the target
	// lay, the next best marginSlot nats behind.
	slotSimilar, marginSlot = .3, 25
	// patchedSimilar is enough in the same source, or a patch from it, by the same compiler
	// for a function with all that is around it, and nothing else within marginPatched.
	patchedSimilar, marginPatched = .4, 60
	patchedGrown                  = 1.35
	// keptSimilar is enough for a function that has what the source says of the target, with
	// all that is around it, and nothing else within marginKept (kept.go).
	keptSimilar, marginKept = .5, 30
	keptGrown               = 1.18
	// foreignSimilar is enough in the same source by another compiler that leaves
	// functions whole (kept.go, compiler.go).
	foreignSimilar              = .15
	foreignShrunk, foreignGrown = .7, 1.4
	// marginForeign is enough there, and confirmForeign for CONFIRM: code does not move within
	// one source, and the functions that could be meant are known (kin.go).
	marginForeign, confirmForeign = 10, 5
	// ledSimilar is enough where the calls of the whole program lead to it from all sides, and
	// nothing else that has no place of its own is within marginLed (placed.go).
	ledSimilar, marginLed = .3, 25
	ledGrown              = 1.18
	// exportedSimilar is enough in the same source for a function that is exported, with most
	// of what is around it: so it is no part of another.
	exportedSimilar, marginExported = .3, 25
	farSimilar                      = .15 // with
	farScore                        = 15
	confirmSim                      = .5
	hintSimilarity                  = .12
	hintScore                       = 12
	// marginExact is enough for the same code, instruction by instruction and with
	// the same texts and imports, that is once on either side.
	marginExact = 1
	// marginMoved is the margin below which identical code can be another function's,
	// when the layout of structures changed.
	marginMoved = 8
	// marginFar is the margin from which on a quarter of the functions around is
	// enough.
	marginFar = 40
	// longExact is how many instructions must be the same one by one to count
	// without most of the functions around.
	longExact = 60
	// sizeRatio is the smaller of two functions' instructions by the larger's.
	sizeRatio = .6
	// absorbedShare of what only a caller of the target has makes the caller of a
	// candidate, when that weighs at least absorbedWeight.
	absorbedShare, absorbedWeight = .2, 8
)

// margins are how far behind the next best function must be, in nats: the farther
// the less alike the code is. AUTO wants a share of the score as well.
var margins = []struct{ similarity, auto, share, confirm float64 }{
	{.85, 15, .15, 5},
	{.5, 18, .2, 10},
	{0, 25, .25, 20},
}

// maxRivals bounds how many other functions are named that it could be as well.
const maxRivals = 4

// alikeEnough is the similarity from which on the code itself is the evidence.
const alikeEnough = .85

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
			v.lower(Hint, fmt.Sprintf("%s fits another function better, at %v", s.refs[r].Label, s.m.funcs[o.top.fn].at))
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
	placed           bool // see byPlace
	performed        bool // see byBehaviour
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
	ref := &s.refs[r]
	s.putTwinFirst(all, ref)
	s.putPairedFirst(all)
	v := verdict{top: &all[0]} // the one with most evidence
	top := v.top
	v.margin = s.marginOf(all, top, ref, &v)
	v.tier = s.tierOf(top, v.margin)
	once := s.unique(&v, all, ref)
	if n := min(ref.Target.Insns, s.m.body(top.fn).insns); n < autoInsns {
		v.lower(Confirm, fmt.Sprintf("a function of %d instructions is never taken without asking", n))
	}
	switch auto, confirm := s.neededMargin(top, once); {
	case v.margin < 0:
		v.lower(None, "another function fits better")
	case v.margin < confirm:
		v.lower(Hint, "another function fits about as well")
	case v.margin < auto:
		v.lower(Confirm, "another function fits nearly as well")
	}
	s.gates(&v, ref)
	s.elsewhere(&v)
	if v.tier == Confirm && len(v.why) > 1 && !top.exact {
		v.tier = Hint // each doubt alone a person may weigh
	}
	s.byPlace(&v, r)
	return v
}

// unique tells whether the match has the reference's code and no other function
// can be meant by it, which makes it AUTO where it is there once. Of several with the
// same code a person has to choose.
func (s *search) unique(v *verdict, all []match, ref *Reference) bool {
	if !v.top.exact {
		return false
	}
	var next *match
	twins := 0
	for i := range all {
		if all[i].exact && (&all[i] == v.top || !s.taken(all[i].fn)) {
			if twins++; twins == 2 {
				next = &all[i]
			}
		}
	}
	known, byOrder := s.twinsLeft(v.top, ref)
	switch {
	case twins == 1 && known == 1:
		v.tier = Auto
		near := v.margin < marginMoved
		if s.moved(v, ref) {
			v.lower(Confirm, "functions that differ from it in a number only may have changed places with it")
		}
		if around := v.top.found > 0 || s.nearSource() && s.slotted(ref, v.top.fn); near && (!around || v.top.missed+v.top.unsure > 0) {
			// Only what it calls, what calls it, or where it lies tells it from the others.
			v.lower(Confirm, "other functions are nearly the same, and not all functions around it are like those around the reference")
		}
		if byOrder {
			// A patch may have moved one of them: nothing in the code would show it.
			v.lower(Confirm, "several functions have exactly this code; only their order tells them apart")
		}
		s.claimed(v, ref)
		return true
	case twins == ref.Twins && v.top.missed == 0 && next != nil && next.missed > 0 && v.top.score-next.score >= marginMoved:
		// All of them are there, and only one is where the reference is.
		v.tier, v.margin = Auto, v.top.score-next.score
		v.lower(Confirm, "several functions have exactly this code; only what calls them, or what they call, tells them apart")
		return true
	case twins == ref.Twins && s.slottedAlone(ref, v.top.fn, exactOnes(all[1:])):
		v.tier, v.margin = Auto, marginMoved
		v.lower(Confirm, "several functions have exactly this code; only the functions right before and after it tell them apart")
		return true
	case twins == 1:
		v.lower(Hint, fmt.Sprintf("%d functions of the reference build have exactly this code, and one was found", ref.Twins))
		return false
	}
	v.lower(Hint, "several functions have exactly this code")
	return false
}

// moved tells whether another function may have the target's code now, as when the
// layout of structures changed: then functions that differ in a field's offset only
// take each other's place; or when one was mended as another had been. They did not
// when each is what it was.
func (s *search) moved(v *verdict, ref *Reference) bool {
	if v.margin >= marginMoved {
		return false
	}
	own := s.against(&ref.Target, v.top.fn)
	for i := range ref.Alike {
		o := &ref.Alike[i]
		if own-s.against(o, v.top.fn) < marginMoved && !s.hasExactly(o) && !s.placedElsewhere(o, v.top.fn) {
			return true
		}
	}
	v.margin = max(v.margin, marginExact)
	return false
}

func (s *search) hasExactly(sample *Sample) bool {
	return slices.ContainsFunc(s.m.sized(sample.Size, sample.Size), func(i int32) bool { return s.m.body(int(i)).exact == sample.Exact })
}

// neededMargin is what AUTO and CONFIRM want. once says that the code is the
// reference's, and there only once on either side.
func (s *search) neededMargin(m *match, once bool) (auto, confirm float64) {
	switch {
	case once:
		return marginExact, 0
	case m.similarity < alikeEnough && s.wholeForeign():
		return marginForeign, confirmForeign
	}
	for _, g := range margins {
		if m.similarity >= g.similarity {
			return max(g.auto, g.share*m.score), g.confirm
		}
	}
	return math.Inf(1), math.Inf(1)
}

// tierOf is the tier that the numbers of a match alone allow.
func (s *search) tierOf(m *match, margin float64) Tier {
	switch {
	case m.similarity >= s.autoSimilar(m, margin) && (m.score >= autoScore || m.score >= farScore && s.wholeForeign()):
		return Auto
	case m.similarity >= confirmSim && m.score >= autoScore, m.similarity >= farSimilar && m.score >= farScore:
		return Confirm
	case m.similarity >= hintSimilarity && m.score >= hintScore, m.exact:
		return Hint
	}
	return None
}

// autoSimilar is how similar a match must be to be AUTO. A newer version may have
// moved the target's code into another function; in the same source it did not, where
// the function lies among the same others, or was compiled otherwise, which shows in the
// functions around. But what was inlined makes a function longer, and what was split off
// makes it shorter.
func (s *search) autoSimilar(m *match, margin float64) float64 {
	if m.similarity < foreignSimilar || m.similarity >= autoSimilar {
		return autoSimilar
	}
	ref := &s.refs[m.ref]
	arguments := s.m.arguments(m.fn)
	n := s.m.body(m.fn).insns
	grown := float64(n) / float64(s.nearestSize(ref, n))
	switch {
	case !ref.Target.reads(arguments):
		return autoSimilar // a caller with the target inlined reads more
	case foreignShrunk <= grown && grown <= foreignGrown && s.foreign(m, ref):
		return foreignSimilar
	case grown < sameShrunk:
		return autoSimilar
	case margin >= marginKept && grown <= keptGrown && s.isWhole(m.fn, grown) && s.kept(m, ref):
		return keptSimilar
	case margin >= marginLed && grown <= ledGrown && s.ledTo(m, margin):
		return ledSimilar
	case !s.nearSource():
		return autoSimilar
	case m.missed == 0 && margin >= marginSlot && s.slotted(ref, m.fn):
		return slotSimilar
	case m.found >= sameFound && m.missed == 0 && 2*m.unchanged >= m.found && margin >= marginPatched && grown <= patchedGrown:
		return patchedSimilar
	case m.found >= sameFound && 2*m.missed <= m.found && margin >= marginExported && grown <= sameGrown && s.m.exported(m.fn) && s.sameSource():
		return exportedSimilar
	case m.found >= sameFound && 2*m.unchanged <= m.found && grown <= sameGrown && s.isWhole(m.fn, grown) && s.sameSource():
		return sameSimilar
	}
	return autoSimilar
}

// sameSource tells whether a build of the fingerprint without the fix is of the source
// that the module was made from.
func (s *search) sameSource() bool {
	if s.same == nil {
		same := slices.ContainsFunc(s.fp.References, func(r Reference) bool { return !r.Fixed && r.Sketch.sameSource(s.m.sketch()) })
		s.same = &same
	}
	return *s.same
}

// nearSource is sameSource, or a patch apart.
func (s *search) nearSource() bool {
	if s.near == nil {
		near := s.sameSource() || slices.ContainsFunc(s.fp.References, func(r Reference) bool { return !r.Fixed && r.Sketch.nearSource(s.m.sketch()) })
		s.near = &near
	}
	return *s.near
}

// marginOf is how much better the match is than the next best function of the
// module, and than any look-alike of the reference is for this function:
// whichever is less.
func (s *search) marginOf(all []match, top *match, ref *Reference, v *verdict) float64 {
	own := s.against(&ref.Target, top.fn)
	byPlace, byOther := make([]float64, len(all)), make([]float64, len(s.others(ref)))
	// least is the margin as it is, and fixed that of what no exchange of places changes.
	least, fixed := top.score, top.score
	note := func(apart float64) {
		least = min(least, apart)
		if apart < leastApart {
			fixed = min(fixed, apart)
		}
	}
	for i := range all {
		if &all[i] == top {
			byPlace[i] = math.Inf(1)
			continue
		}
		if s.taken(all[i].fn) {
			byPlace[i] = math.Inf(1) // the one it is not
			continue
		}
		byPlace[i] = top.score - all[i].score
		note(byPlace[i])
		if (all[i].exact && top.exact || byPlace[i] < margins[0].auto) && len(v.rivals) < maxRivals {
			v.rivals = append(v.rivals, all[i])
		}
	}
	for i := range byOther {
		if s.placedElsewhere(&s.others(ref)[i], top.fn) {
			byOther[i] = math.Inf(1)
			continue
		}
		byOther[i] = own - s.against(&s.others(ref)[i], top.fn)
		note(byOther[i])
	}
	for _, around := range [][]Sample{ref.Callers, ref.Callees} {
		for i := range around {
			if s.placedElsewhere(&around[i], top.fn) {
				continue
			}
			apart := top.plain - s.plain(&around[i], top.fn)
			least, fixed = min(least, apart), min(fixed, apart)
		}
	}
	if top.exact || least >= marginPatched || fixed < confirmForeign || least == fixed {
		return least
	}
	swaps := s.swapped(top, ref, byOther)
	for i := range all {
		if byPlace[i] >= leastApart {
			byPlace[i] += swaps.byPlace[all[i].fn]
		}
		fixed = min(fixed, byPlace[i])
	}
	for i := range byOther {
		if swaps.byAlike != nil {
			byOther[i] += swaps.byAlike[i]
		}
		fixed = min(fixed, byOther[i])
	}
	return fixed
}
