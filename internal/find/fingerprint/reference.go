package fingerprint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Fingerprint is what a .pf file holds: one function as several builds have it.
type Fingerprint struct {
	Function   string // its name, for people
	References []Reference
	// Texts are what the text features of the targets stand for.
	Texts map[Feature]string
}

// Reference is the function in one build, and what is around it there.
type Reference struct {
	Label     string // of the build, for people
	BuildID   string // hexadecimal, or ""
	Fixed     bool   // this build has the vendor's fix
	At        address.Vaddr
	Functions int // functions of the build
	Twins     int // functions with exactly the target's code, the target included
	Sketch    Sketch
	Slot      Slot
	Target    Sample
	Callees   []Sample
	Callers   []Sample
	Alike     []Sample // the functions of the build most like the target
	Kin       []Sample // more that could be taken for it (kin.go)
	// Whole is the build itself, or nil, and Node which of its functions the target is.
	Whole *Whole
	Node  int
	// Behaviour is what the function does when it is executed, or nil.
	Behaviour *Behaviour
}

// Sample is one function of a reference build.
type Sample struct {
	Name     string
	Size     uint64 // bytes of the entry part
	Insns    int    // of all parts
	Exact    uint64 // hash of the code without what the linker fills in
	Features []Rated
	Context  []Rated // of target and look-alikes only
}

// Rated is a feature with the share of the build's functions that have it.
type Rated struct {
	Feature
	Share float64
	// Keep is how likely another build has it; 0 for what its kind's model says.
	Keep float64
}

func (f *Rated) keep() float64 {
	if f.Keep > 0 {
		return f.Keep
	}
	return models[f.Kind()].keep
}

// Bounds of what a reference holds.
const (
	maxReferences = 32
	maxAround     = 12 // callees, callers, look-alikes each
	maxFeatures   = 1 << 14
)

// Build is a module to make a reference from, and where in it the function is.
type Build struct {
	Label  string
	Module *Module
	At     address.Vaddr
	Fixed  bool
	Whole  bool // the fingerprint carries the build whole
	// Behaviour says that the fingerprint carries what the function does when it is executed.
	Behaviour bool
}

// ErrNotThere says that no function starts at the address.
var ErrNotThere = errors.New("no function starts there")

// TooSmall says that a function is too short to be told from others.
type TooSmall struct{ Insns int }

func (e *TooSmall) Error() string {
	return fmt.Sprintf("the function has %d instructions; with fewer than %d it cannot be told from others", e.Insns, smallest)
}

// Create makes a fingerprint of a function from the builds that have it. Errors:
// ErrNotThere, *TooSmall, *TooLarge.
func Create(function string, builds []Build) (*Fingerprint, error) {
	if len(builds) == 0 || len(builds) > maxReferences {
		return nil, fmt.Errorf("a fingerprint takes 1 to %d builds, not %d", maxReferences, len(builds))
	}
	fp := &Fingerprint{Function: function, Texts: map[Feature]string{}}
	for _, b := range builds {
		if other := builds[0].Module; b.Module.Machine() != other.Machine() {
			return nil, fmt.Errorf("%s is for %v, and %s for %v: a fingerprint is for one kind of processor", builds[0].Label, other.Machine(), b.Label, b.Module.Machine())
		}
		i := b.Module.at(b.At)
		if i < 0 {
			return nil, fmt.Errorf("%s: %v: %w", b.Label, b.At, ErrNotThere)
		}
		if n := b.Module.body(i).insns; n < smallest {
			return nil, fmt.Errorf("%s: %w", b.Label, &TooSmall{n})
		}
		r := b.Module.reference(i)
		r.Label, r.Fixed = b.Label, b.Fixed
		if b.Whole {
			w, err := b.Module.Whole()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", b.Label, err)
			}
			r.Whole, r.Node = w, i
		}
		if b.Behaviour && b.Module.runner() != nil {
			r.Behaviour = b.Module.behaviourOf(i, b.Module.observed(i, &r))
		}
		fp.References = append(fp.References, r)
		for f, s := range b.Module.texts(i) {
			fp.Texts[f] = s
		}
		if err := b.Module.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", b.Label, err)
		}
	}
	if !slices.ContainsFunc(fp.References, func(r Reference) bool { return !r.Fixed }) {
		return nil, errors.New("every build given has the fix; at least one must have the function to be found")
	}
	return fp, nil
}

// reference describes function i and what is around it.
func (m *Module) reference(i int) Reference {
	all := m.everything()
	r := Reference{BuildID: m.BuildID, At: m.funcs[i].at, Functions: len(m.funcs), Sketch: *m.sketch(), Slot: m.slot(i), Target: m.sample(i, true)}
	r.Target.Features = append(r.Target.Features, Rated{Feature: m.arguments(i), Share: .5})
	r.Twins = all.twins[r.Target.Exact]
	r.Callees = m.samples(m.callees(i))
	r.Callers = m.samples(m.callers(i))
	lookalikes := m.nearest(&r, i, maxAround/2)
	alike := all.alike(m, i)
	for _, j := range alike[:min(len(alike), maxAround)] {
		if len(lookalikes) < maxAround && !slices.Contains(lookalikes, j) {
			lookalikes = append(lookalikes, j)
		}
	}
	for _, j := range lookalikes {
		r.Alike = append(r.Alike, m.sample(j, true))
	}
	for _, j := range m.kin(i, alike, lookalikes) {
		r.Kin = append(r.Kin, m.sample(j, true))
	}
	return r
}

// nearest returns the n functions of the module whose code is most like that of the
// reference's target, which is function i.
func (m *Module) nearest(r *Reference, i, n int) []int {
	s := &search{refs: []Reference{*r}, m: m, common: m.background(), absent: []address.Vaddr{m.funcs[i].at}}
	t := s.terms()
	var best []match
	s.sums(t, s.candidates(), func(c int32, sums []sum) {
		if either := t.targets[0].weight + s.rated(c).weight - sums[0].own; either > 0 {
			best = keepBest(best, match{fn: int(c), similarity: sums[0].shared / either}, (*match).alike)
		}
	})
	var out []int
	for _, c := range best[:min(n, len(best))] {
		out = append(out, c.fn)
	}
	return out
}

// samples describes the largest of some functions.
func (m *Module) samples(which []int32) []Sample {
	which = slices.Clone(which)
	slices.SortStableFunc(which, func(a, b int32) int { return cmp.Compare(m.body(int(b)).insns, m.body(int(a)).insns) })
	var out []Sample
	for _, j := range which[:min(len(which), maxAround)] {
		out = append(out, m.sample(int(j), false))
	}
	return out
}

func (m *Module) sample(i int, context bool) Sample {
	b := m.body(i)
	s := Sample{Size: min(m.funcs[i].size, maxFunctionSize), Insns: b.insns, Exact: b.exact, Features: m.rate(b.features)}
	if names := m.namesOf(i); len(names) > 0 {
		s.Name = names[0]
	}
	if context {
		s.Context = m.rate(m.context(i))
		for _, f := range m.pointersTo(i) {
			s.Context = append(s.Context, Rated{Feature: f, Share: 1 / float64(len(m.funcs)+1)})
		}
	}
	return s
}

func (m *Module) rate(features []Feature) []Rated {
	features = features[:min(len(features), maxFeatures)]
	out := make([]Rated, len(features))
	for i, f := range features {
		out[i] = Rated{Feature: f, Share: m.everything().census.share(f)}
	}
	return out
}

// whole is what is known of a module once all its functions were read.
type whole struct {
	census *census
	index  index
	twins  map[uint64]int // functions by the hash of their code
	like   map[uint64]int // functions by the outline of their code
	names  map[address.Vaddr][]string
	bySize []int32 // the functions that may be candidates, by their bytes
	rated  []rated // by function
	sums   []sum   // room for terms.all
}

func (m *Module) everything() *whole {
	if m.whole != nil {
		return m.whole
	}
	w := &whole{census: newCensus(len(m.funcs) * 128), twins: map[uint64]int{}, like: map[uint64]int{}}
	for i := range m.funcs {
		b := m.body(i)
		w.census.add(b.features)
		w.twins[b.exact]++
		w.like[b.outline]++
	}
	w.index = newIndex(m)
	w.bySize = m.bySize()
	w.rated = make([]rated, len(m.funcs))
	common := m.background()
	for i := range m.funcs {
		w.rated[i] = m.body(i).rate(common)
	}
	m.whole = w
	for i := range m.funcs {
		w.census.addContext(m, i)
	}
	return w
}

// alike returns the functions that share something rare with function i, most first.
func (w *whole) alike(m *Module, i int) []int {
	shared := map[int32]float64{}
	for _, f := range m.body(i).features {
		weight := models[f.Kind()].weight * -math.Log(w.census.share(f))
		have := w.index.rare(f)
		for k := range have {
			if j := have.function(k); int(j) != i {
				shared[j] += weight
			}
		}
	}
	type near struct {
		j     int
		score float64
	}
	var all []near
	for j, s := range shared {
		// Divided by the square root of the length, so that neither the longest
		// function nor the shortest is always the most alike.
		all = append(all, near{int(j), s / math.Sqrt(float64(10+len(m.body(int(j)).features)))})
	}
	slices.SortFunc(all, func(a, b near) int { return cmp.Or(cmp.Compare(b.score, a.score), a.j-b.j) })
	var out []int
	for _, a := range all {
		out = append(out, a.j)
	}
	return out
}

// TextsOf returns the texts of one kind that the targets refer to, sorted.
func (fp *Fingerprint) TextsOf(k Kind) []string {
	var out []string
	for f, s := range fp.Texts {
		if f.Kind() == k {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// ID names the content of a fingerprint.
func (fp *Fingerprint) ID() string {
	sum := sha256.Sum256(fp.Encode())
	return hex.EncodeToString(sum[:16])
}

// KnowsFix tells whether one of the builds has the vendor's fix.
func (fp *Fingerprint) KnowsFix() bool {
	return slices.ContainsFunc(fp.References, func(r Reference) bool { return r.Fixed })
}
