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

// Fixed tells whether the function at an address, which is known to be the
// fingerprint's, has the fix. A wrong "present" leaves a program open whose owner
// thinks it closed, so it takes what the fix brought, not only the lack of what it
// removed, which other compilers lack as well.
func (m *Module) Fixed(fp *Fingerprint, at address.Vaddr) Fix {
	i := m.at(at)
	if i < 0 || !m.comparable(fp) {
		return FixUnknown
	}
	return fixOf(fp, m.body(i))
}

const (
	// Of what the fix brought, and of what it removed, a function must have at
	// least the larger share, and at most the smaller.
	fixMost, fixLeast = .7, .3
	// fixWeight is how much of what tells the builds apart there must be, in units
	// of the similarity: one rare number is 5, one rare sequence of operations 2.5.
	fixWeight = 4
)

func fixOf(fp *Fingerprint, b *body) Fix {
	with, without := sides(fp)
	if len(with) == 0 || !b.whole {
		return FixUnknown
	}
	same := func(s *Sample) bool { return s.Exact == b.exact }
	switch fixed, plain := slices.ContainsFunc(with, same), slices.ContainsFunc(without, same); {
	case fixed && plain: // it changed nothing that the code shows
		return FixUnknown
	case fixed:
		return FixPresent
	case plain:
		return FixMissing
	}
	brought, left := b.has(distinct(with, without)), b.has(distinct(without, with))
	switch {
	case brought.most() && left.least():
		return FixPresent
	case left.most() && brought.least():
		return FixMissing
	}
	return FixUnknown
}

// sides returns the targets of the builds with the fix, and of those without.
func sides(fp *Fingerprint) (with, without []*Sample) {
	for i := range fp.References {
		if r := &fp.References[i]; r.Fixed {
			with = append(with, &r.Target)
		} else {
			without = append(without, &r.Target)
		}
	}
	return with, without
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

func (p portion) most() bool  { return p.of >= fixWeight && p.has >= fixMost*p.of }
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
