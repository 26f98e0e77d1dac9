package fingerprint

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Fix says whether a function has the vendor's fix.
type Fix uint8

// What is known of the fix.
const (
	FixUnknown Fix = iota // no build with the fix to compare with, or it lies between
	FixMissing            // as the builds without it
	FixPresent            // as the builds with it
)

func (f Fix) String() string { return [...]string{"unknown", "missing", "present"}[min(f, FixPresent)] }

// Outline is of a fingerprint what tells whether a known function has the fix: the
// targets, and the codes of what is around them. To find a function takes the whole.
type Outline struct{ fp *Fingerprint }

// Outline returns that of a whole fingerprint.
func (fp *Fingerprint) Outline() *Outline { return &Outline{fp} }

// KnowsFix is the fingerprint's.
func (o *Outline) KnowsFix() bool { return o.fp.KnowsFix() }

// Fixed tells whether the function at an address, which is known to be the
// fingerprint's, has the fix. A wrong "present" leaves a program open whose owner
// thinks it closed, and a wrong "missing" sends a guard where none is wanted: what is
// not the code of a reference must show the fix apart from what compilers choose.
func (m *Module) Fixed(o *Outline, at address.Vaddr) Fix {
	i := m.at(at)
	if i < 0 || !m.comparable(o.fp) {
		return FixUnknown
	}
	fix := m.fixOf(o.fp, i)
	if m.Err() != nil {
		return FixUnknown
	}
	return fix
}

const (
	// Of what the fix brought, and of what it removed, a function must have at
	// least the larger share, and at most the smaller.
	fixMost, fixLeast = .7, .3
	// fixWeight is how much of what tells the builds apart there must be, in units
	// of the similarity: one rare number is 5, one rare sequence of operations 2.5.
	fixWeight = 4
	// fixWeightFar is how much it must be where only what the source says counts: in
	// code that was compiled otherwise than the references, or these than each other.
	fixWeightFar = 8
)

func (m *Module) fixOf(fp *Fingerprint, i int) Fix {
	b := m.body(i)
	with, without := sides(fp)
	if len(with) == 0 || !b.whole {
		return FixUnknown
	}
	same := func(r *Reference) bool { return r.Target.Exact == b.exact }
	switch fixed, plain := slices.ContainsFunc(with, same), slices.ContainsFunc(without, same); {
	case fixed && plain: // it changed nothing that the code shows
		return FixUnknown
	case fixed:
		return FixPresent
	case plain:
		return FixMissing
	}
	brought, left := distinct(targets(with), targets(without)), distinct(targets(without), targets(with))
	least := float64(fixWeight)
	if !comparableSides(with, without) || !slices.ContainsFunc(fp.references(), func(r *Reference) bool { return m.builtAlike(r, i) }) {
		brought, left, least = ofSource(brought), ofSource(left), fixWeightFar
	}
	new, old := b.has(brought), b.has(left)
	switch {
	case new.most(least) && old.least():
		return FixPresent
	case old.most(least) && new.least():
		return FixMissing
	}
	return FixUnknown
}

// comparableSides tells whether a build with the fix and one without were compiled
// alike. Where none were shown to be, as of builds at -O2 and at -O3 or of versions that
// share no code around the target, most of what tells the two sides apart may be the
// compiler's, and a build by the one compiler would be taken for the side that was: then
// only what the source says counts.
func comparableSides(with, without []*Reference) bool {
	for _, w := range with {
		if slices.ContainsFunc(without, func(o *Reference) bool { return mostly(w.codes(), o.codes()) }) {
			return true
		}
	}
	return false
}

// builtAlike tells whether function i of the module was compiled as a reference was: what
// is around it is the code that is around the target.
func (m *Module) builtAlike(r *Reference, i int) bool {
	var around, code []uint64
	for _, list := range [][]Sample{r.Callees, r.Callers} {
		for k := range list {
			around = append(around, list[k].Exact)
		}
	}
	for _, list := range [][]int32{m.callees(i), m.callers(i)} {
		for _, j := range list[:min(len(list), maxCompared)] {
			code = append(code, m.body(int(j)).exact)
		}
	}
	return mostly(around, code)
}

// codes are the hashes of the functions that a reference has beside the target.
func (r *Reference) codes() []uint64 {
	var out []uint64
	for _, list := range [][]Sample{r.Callees, r.Callers, r.Alike} {
		for i := range list {
			out = append(out, list[i].Exact)
		}
	}
	return out
}

// mostly tells whether at least half of the shorter of two lists, and two of it, are in
// the other: one short function may be the same by chance.
func mostly(a, b []uint64) bool {
	for _, list := range []*[]uint64{&a, &b} {
		*list = slices.Clone(*list)
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	both := 0
	for _, v := range a {
		if _, ok := slices.BinarySearch(b, v); ok {
			both++
		}
	}
	return both >= 2 && 2*both >= min(len(a), len(b))
}

// ofSource keeps the features that compilers mostly leave as the source has them.
func ofSource(features []Rated) []Rated {
	return slices.DeleteFunc(features, func(f Rated) bool { return f.Kind() == KindGram || f.Kind() == KindShape })
}

// sides returns the builds with the fix, and those without.
func sides(fp *Fingerprint) (with, without []*Reference) {
	for _, r := range fp.references() {
		if r.Fixed {
			with = append(with, r)
		} else {
			without = append(without, r)
		}
	}
	return with, without
}

func (fp *Fingerprint) references() []*Reference {
	out := make([]*Reference, len(fp.References))
	for i := range out {
		out[i] = &fp.References[i]
	}
	return out
}

func targets(refs []*Reference) []*Sample {
	out := make([]*Sample, len(refs))
	for i, r := range refs {
		out[i] = &r.Target
	}
	return out
}

// distinct returns the features that all of some samples have and none of the
// others.
func distinct(all, none []*Sample) []Rated {
	out := slices.Clone(all[0].Features)
	for _, s := range all[1:] {
		out = slices.DeleteFunc(out, func(f Rated) bool { return !s.contains(f.Feature) })
	}
	for _, s := range none {
		out = slices.DeleteFunc(out, func(f Rated) bool { return s.contains(f.Feature) })
	}
	return out
}

func (s *Sample) contains(f Feature) bool {
	_, ok := slices.BinarySearchFunc(s.Features, f, func(r Rated, f Feature) int {
		switch {
		case r.Feature < f:
			return -1
		case r.Feature > f:
			return 1
		}
		return 0
	})
	return ok
}

// portion is how much of some features a function has, by weight.
type portion struct{ has, of float64 }

// most wants at least so much weight in all.
func (p portion) most(least float64) bool { return p.of >= least && p.has >= fixMost*p.of }

func (p portion) least() bool { return p.has <= fixLeast*p.of }

func (b *body) has(features []Rated) portion {
	var p portion
	for _, f := range features {
		w := weight(f.Kind(), f.Share)
		p.of += w
		if _, ok := slices.BinarySearch(b.features, f.Feature); ok {
			p.has += w
		}
	}
	return p
}
