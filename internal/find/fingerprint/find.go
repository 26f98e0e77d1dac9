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
	Evidence                  []string
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
	m      *Module
	count  *census
	logs   []float64 // -ln(share) by count
	scores [][]match // by reference: the best candidates, best first
}

// match is a candidate compared with a reference.
type match struct {
	ref, fn           int
	similarity, score float64
	exact             bool
	found, missed     int // of the functions around
	callers           int // of found
}

const (
	background  = 256 // functions read besides the candidates, to know what is common
	kept        = 12  // candidates of each reference that are compared in full
	sizeWindow  = 2.5 // a candidate's size by the reference's, at most and inverse at least
	maxSearched = 200_000
)

// Find looks for the function in a module.
func (m *Module) Find(fp *Fingerprint) Finding { return m.FindWithout(fp, nil) }

// FindWithout is Find as if the module had not the functions at the given
// addresses: what is answered when the function is absent can be measured so.
func (m *Module) FindWithout(fp *Fingerprint, absent []address.Vaddr) Finding {
	s := &search{fp: fp, m: m}
	candidates := s.candidates()
	s.takeCensus(candidates)
	candidates = slices.DeleteFunc(candidates, func(i int32) bool {
		return slices.Contains(absent, m.funcs[i].at) || m.body(int(i)).insns < smallest
	})
	s.compare(candidates)
	return s.decide()
}

// candidates returns the functions whose size is near that of a reference.
func (s *search) candidates() []int32 {
	lo, hi := math.Inf(1), 0.0
	for i := range s.fp.References {
		size := float64(s.fp.References[i].Target.Size)
		lo, hi = min(lo, size/sizeWindow), max(hi, size*sizeWindow)
	}
	var out []int32
	for i := range s.m.funcs {
		if size := float64(s.m.funcs[i].size); size >= lo && size <= hi && len(out) < maxSearched {
			out = append(out, int32(i))
		}
	}
	return out
}

func (s *search) takeCensus(candidates []int32) {
	step := max(1, len(s.m.funcs)/background)
	s.count = newCensus((len(candidates) + background) * 128)
	for _, i := range candidates {
		s.count.add(s.m.body(int(i)).features)
	}
	for i := 0; i < len(s.m.funcs); i += step {
		if _, twice := slices.BinarySearch(candidates, int32(i)); !twice {
			s.count.add(s.m.body(i).features)
		}
	}
	s.logs = make([]float64, s.count.functions+1)
	for n := range s.logs {
		s.logs[n] = -math.Log((float64(n) + .5) / (float64(s.count.functions) + 1.5))
	}
}

func (s *search) share(f Feature) float64 { return s.count.share(f) }

// term is a feature of a target.
type term struct {
	ref    int32
	weight float64
}

// compare fills s.scores. All candidates are compared with all targets in one
// pass over the candidates' features; only the best of them then in full.
func (s *search) compare(candidates []int32) {
	refs := s.fp.References
	terms, sums, filter := s.terms()
	best := make([][]match, len(refs))
	shared, own := make([]float64, len(refs)), make([]float64, len(refs))
	for _, c := range candidates {
		clear(shared)
		clear(own)
		total := 0.0
		b := s.m.body(int(c))
		for _, f := range b.features {
			w := models[f.Kind()].weight * s.logs[min(s.count.count(f), len(s.logs)-1)]
			total += w
			if filter[f.hash()>>6&1023]>>(f.hash()&63)&1 == 0 {
				continue
			}
			for _, t := range terms[f] {
				shared[t.ref] += t.weight
				own[t.ref] += w
			}
		}
		for r := range refs {
			sim := 0.0
			if either := sums[r] + total - own[r]; either > 0 {
				sim = shared[r] / either
			}
			exact := b.exact == refs[r].Target.Exact && b.whole
			best[r] = keepBest(best[r], match{ref: r, fn: int(c), similarity: sim, exact: exact})
		}
	}
	s.scores = best
	for r := range best {
		for i := range best[r] {
			s.score(&best[r][i])
		}
		slices.SortStableFunc(best[r], func(a, b match) int { return cmp.Compare(b.score, a.score) })
	}
}

// terms indexes the features of all targets: by feature, the total weight of
// each target, and a filter that most other features do not pass.
func (s *search) terms() (map[Feature][]term, []float64, *[1024]uint64) {
	index := map[Feature][]term{}
	sums := make([]float64, len(s.fp.References))
	var filter [1024]uint64
	for r := range s.fp.References {
		for _, f := range s.fp.References[r].Target.Features {
			w := weight(f.Kind(), (f.Share+s.share(f.Feature))/2)
			index[f.Feature] = append(index[f.Feature], term{int32(r), w})
			sums[r] += w
			filter[f.hash()>>6&1023] |= 1 << (f.hash() & 63)
		}
	}
	return index, sums, &filter
}

// keepBest keeps the most similar candidates, an exact one above all.
func keepBest(best []match, m match) []match {
	rank := func(m match) float64 {
		if m.exact {
			return 2
		}
		return m.similarity
	}
	if len(best) == kept && rank(best[kept-1]) >= rank(m) {
		return best
	}
	i := len(best)
	for i > 0 && rank(best[i-1]) < rank(m) {
		i--
	}
	best = slices.Insert(best, i, m)
	return best[:min(len(best), kept)]
}

// score compares a candidate with its reference in full.
func (s *search) score(c *match) {
	ref := &s.fp.References[c.ref]
	context := s.m.context(c.fn)
	c.score = s.against(&ref.Target, c.fn, context)
	found, missed := s.agreement(ref.Callees, s.m.calls[c.fn])
	more, less := s.agreement(ref.Callers, s.m.called[c.fn])
	c.found, c.missed, c.callers = found+more, missed+less, more
	c.score += min(2*float64(c.found), 16) - min(float64(c.missed), 8)
}

func (s *search) against(ref *Sample, fn int, context []Feature) float64 {
	return odds(ref.Features, s.m.body(fn).features, s.share) + contextOdds(ref.Context, context)
}
