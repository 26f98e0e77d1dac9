package fingerprint

import (
	"cmp"
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Tier says what may be done with an answer.
type Tier uint8

// Tiers, weakest first.
const (
	None    Tier = iota // no answer
	Hint                // for people, who look for themselves
	Confirm             // may be used when a person has seen the evidence
	Auto                // may be used alone
)

func (t Tier) String() string { return [...]string{"abstain", "HINT", "CONFIRM", "AUTO"}[min(t, Auto)] }

// Finding is the answer of a search.
type Finding struct {
	Tier Tier
	// Fixed says that the function found has the vendor's fix, as a reference of
	// the fingerprint has it.
	Fixed bool
	// Undecided says that it could not be told whether the function has the fix:
	// it lies between references with and without. The tier is then Confirm at most.
	Undecided bool
	At        address.Vaddr // set unless Tier is None
	Size      uint64
	Names     []string // of the function found, where the file tells
	Reference string   // label of the reference that matches best
	// Similarity is weighted Jaccard, 0 to 1; Score the evidence in nats; Margin
	// what the next best function lacks to it, in nats.
	Similarity, Score, Margin float64
	Exact                     bool // the same code apart from what the linker fills in
	// Found and Missed are how many functions around the reference were found around
	// this one, and not.
	Found, Missed int
	Evidence      []string
	// Why says what kept the tier from being higher.
	Why []string
	// Rivals are other functions that it could be as well.
	Rivals []Rival
}

// Rival is a function that fits nearly as well.
type Rival struct {
	At         address.Vaddr
	Names      []string
	Similarity float64
	Score      float64
}

// search is one search of one fingerprint in one module.
type search struct {
	fp     *Fingerprint
	refs   []Reference // of fp, and what several of them have in common
	m      *Module
	common *census
	absent []address.Vaddr // functions that the module is taken not to have
	scores [][]match       // by reference: the best candidates, best first

	// What was computed already.
	samples map[*Sample]*sampled
	odds    map[compared]float64
}

// match is a candidate compared with a reference.
type match struct {
	ref, fn           int
	similarity, score float64
	plain             float64 // score without what is around the function
	exact             bool
	found, missed     int // of the functions around
	callers           int // of found
}

const (
	// kept is how many candidates of each reference, by similarity and by score,
	// are compared in full.
	kept        = 8
	sizeWindow  = 1.9 // a candidate's size by the reference's, at most and inverse at least
	maxSearched = 200_000
)

// Find looks for the function in a module.
func (m *Module) Find(fp *Fingerprint) Finding { return m.FindWithout(fp, nil) }

// FindWithout is Find as if the module had not the functions at the given
// addresses: what is answered when the function is absent can be measured so.
func (m *Module) FindWithout(fp *Fingerprint, absent []address.Vaddr) Finding {
	if !m.comparable(fp) {
		return Finding{Why: []string{"the fingerprint is of code for another kind of processor"}}
	}
	s := &search{fp: fp, refs: fp.References, m: m, absent: absent, samples: map[*Sample]*sampled{}, odds: map[compared]float64{}}
	if f, ok := s.known(); ok {
		return f
	}
	s.common = m.background()
	s.exactly()
	if f := s.decide(); f.Tier == Auto {
		return f // the same code, once: no other function can fit better
	}
	s.refs = withMerged(fp.References)
	s.compare(s.candidates())
	return s.decide()
}

// known answers when the module is a build that the fingerprint was made from.
// The code must be there, as a build ID can be given to any file.
func (s *search) known() (Finding, bool) {
	for r := range s.refs {
		ref := &s.refs[r]
		i := s.m.at(ref.At)
		if ref.BuildID == "" || ref.BuildID != s.m.BuildID || i < 0 || slices.Contains(s.absent, ref.At) {
			continue
		}
		if b := s.m.body(i); !b.whole || b.exact != ref.Target.Exact {
			continue
		}
		fn := &s.m.funcs[i]
		return Finding{Tier: Auto, Fixed: ref.Fixed, At: fn.at, Size: fn.size, Names: s.m.namesOf(i), Reference: ref.Label, Similarity: 1, Exact: true,
			Evidence: []string{"this is the build " + ref.Label + ", by its build ID, and the code is at its place"}}, true
	}
	return Finding{}, false
}

// exactly fills s.scores with the functions that have the code of a reference.
func (s *search) exactly() {
	s.scores = make([][]match, len(s.refs))
	for i := range s.m.funcs {
		for r := range s.refs {
			t := &s.refs[r].Target
			if s.m.funcs[i].size != t.Size || !s.allowed(i) {
				continue
			}
			if b := s.m.body(i); b.exact == t.Exact && b.whole {
				s.scores[r] = append(s.scores[r], match{ref: r, fn: i, similarity: 1, exact: true})
			}
		}
	}
	s.rank()
}

func (s *search) allowed(i int) bool {
	return !slices.Contains(s.absent, s.m.funcs[i].at) && s.m.body(i).insns >= smallest
}

// candidates returns the functions whose size is near that of a reference.
func (s *search) candidates() []int32 {
	lo, hi := math.Inf(1), 0.0
	for i := range s.refs {
		size := float64(s.refs[i].Target.Size)
		lo, hi = min(lo, size/sizeWindow), max(hi, size*sizeWindow)
	}
	var out []int32
	for i := range s.m.funcs {
		if size := float64(s.m.funcs[i].size); size >= lo && size <= hi && len(out) < maxSearched && s.allowed(i) {
			out = append(out, int32(i))
		}
	}
	return out
}

func (s *search) share(f Feature) float64 { return s.common.rate(f).share }

// compare fills s.scores. All candidates are compared with all targets in one
// pass over the candidates' features; only the best of them then in full.
func (s *search) compare(candidates []int32) {
	refs := s.refs
	t := s.terms()
	alike, likely := make([][]match, len(refs)), make([][]match, len(refs))
	sums := make([]sum, len(refs))
	for _, c := range candidates {
		b := s.m.body(int(c))
		own := b.rate(s.common)
		t.sum(b, s.common, sums)
		for r := range refs {
			m := match{ref: r, fn: int(c), exact: b.exact == refs[r].Target.Exact && b.whole}
			if either := t.targets[r].weight + own.weight - sums[r].own; either > 0 {
				m.similarity = sums[r].shared / either
			}
			m.plain = t.targets[r].lacking + own.lacking + sums[r].gain
			alike[r] = keepBest(alike[r], m, func(m *match) float64 {
				if m.exact {
					return 2
				}
				return m.similarity
			})
			likely[r] = keepBest(likely[r], m, func(m *match) float64 { return m.plain })
		}
	}
	for r := range refs {
		for _, m := range likely[r] {
			if !slices.ContainsFunc(alike[r], func(o match) bool { return o.fn == m.fn }) {
				alike[r] = append(alike[r], m)
			}
		}
	}
	s.scores = alike
	s.rank()
}

// rank compares what s.scores has in full, and sorts it.
func (s *search) rank() {
	for r := range s.scores {
		for i := range s.scores[r] {
			s.score(&s.scores[r][i])
		}
		slices.SortStableFunc(s.scores[r], func(a, b match) int { return cmp.Compare(b.score, a.score) })
	}
}

// keepBest keeps the candidates that a rank puts first.
func keepBest(best []match, m match, rank func(*match) float64) []match {
	at := rank(&m)
	if len(best) == kept && rank(&best[kept-1]) >= at {
		return best
	}
	i := len(best)
	for i > 0 && rank(&best[i-1]) < at {
		i--
	}
	best = slices.Insert(best, i, m)
	return best[:min(len(best), kept)]
}

// score compares a candidate with its reference in full.
func (s *search) score(c *match) {
	ref := &s.refs[c.ref]
	c.plain = s.plain(&ref.Target, c.fn)
	c.score = s.against(&ref.Target, c.fn)
	s.around(c)
}

func (s *search) against(ref *Sample, fn int) float64 {
	return s.plain(ref, fn) + contextOdds(ref.Context, s.m.context(fn))
}
