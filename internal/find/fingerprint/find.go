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

// Search is the search of one fingerprint in one module. What it computes serves
// the next answer too.
type Search struct{ search }

type search struct {
	fp     *Fingerprint
	refs   []Reference // of fp, and what several of them have in common
	m      *Module
	common *census
	absent []address.Vaddr // functions that the module is taken not to have
	scores [][]match       // by reference: the best candidates, best first

	// What was computed already.
	same    *bool // see sameSource
	near    *bool // see nearSource
	merged  []Reference
	samples map[*Sample]*sampled
	odds    map[compared]float64
	kin     map[*Reference][]Sample
	pairs   []*pairing // see pairings
}

// match is a candidate compared with a reference.
type match struct {
	ref, fn           int
	similarity, score float64
	plain             float64 // score without what is around the function
	exact             bool
	found, missed     int // of the functions around
	callers           int // of found
	unchanged         int // of found, those with the same code
	unsure            int // neither found nor missed: too small to tell
}

// alike and likely are what the candidates to be compared in full are chosen by.
func (m *match) alike() float64 {
	if m.exact {
		return 2
	}
	return m.similarity
}

func (m *match) likely() float64 { return m.plain }

const (
	// kept is how many candidates of each reference, by similarity and by score,
	// are compared in full.
	kept        = 8
	sizeWindow  = 1.9 // a candidate's size by the reference's, at most and inverse at least
	maxSearched = 200_000
)

// Find looks for the function in a module.
func (m *Module) Find(fp *Fingerprint) Finding { return m.Search(fp).Find() }

// Search begins a search.
func (m *Module) Search(fp *Fingerprint) *Search {
	return &Search{search{fp: fp, m: m, samples: map[*Sample]*sampled{}, odds: map[compared]float64{}, kin: map[*Reference][]Sample{}}}
}

// Find answers.
func (s *Search) Find() Finding { return s.Without(nil) }

// Without answers as if the module had not the functions at the given addresses:
// what is said when the function is absent can be measured so.
func (s *Search) Without(absent []address.Vaddr) Finding {
	if !s.m.comparable(s.fp) {
		return Finding{Why: []string{"the fingerprint is of code for another kind of processor"}}
	}
	f := s.answer(absent)
	if err := s.m.Err(); err != nil { // the file shrank meanwhile
		return Finding{Why: []string{"the file could not be read: " + err.Error()}}
	}
	return f
}

func (s *Search) answer(absent []address.Vaddr) Finding {
	s.absent, s.refs, s.pairs = absent, s.fp.References, nil
	if f, ok := s.known(); ok {
		return f
	}
	s.common = s.m.background()
	s.exactly()
	if f := s.decide(); f.Tier == Auto {
		return f // the same code, once: no other function can fit better
	}
	if s.merged == nil {
		s.merged = withMerged(s.fp.References)
	}
	s.refs = s.merged
	s.compare(s.candidates())
	return s.byBehaviour(s.decide())
}

// Identical returns the functions that have exactly the code of a build of the
// fingerprint, with its texts and imports.
func (s *Search) Identical(absent []address.Vaddr) []address.Vaddr {
	var out []address.Vaddr
	s.absent, s.refs = absent, s.fp.References
	for _, i := range s.ofSize() {
		for r := range s.refs {
			if s.isExactly(int(i), r) {
				out = append(out, s.m.funcs[i].at)
				break
			}
		}
	}
	return out
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
	for _, i := range s.ofSize() {
		for r := range s.refs {
			if s.isExactly(int(i), r) {
				s.scores[r] = append(s.scores[r], match{ref: r, fn: int(i), similarity: 1, exact: true})
			}
		}
	}
	for r := range s.scores {
		if len(s.scores[r]) == 1 { // once, if none is padded otherwise
			s.padded(r)
		}
	}
	s.rank()
}

// padding is how many bytes a function can be longer than another with the same code:
// one more of its loops is aligned.
const padding = 15

// padded adds the functions that have the code of a reference in another size.
func (s *search) padded(r int) {
	size := s.refs[r].Target.Size
	for _, i := range s.m.sized(size-min(size, padding), size+padding) {
		if s.m.funcs[i].size != size && !s.isAbsent(i) && s.hasCode(int(i), r) {
			s.scores[r] = append(s.scores[r], match{ref: r, fn: int(i), similarity: 1, exact: true})
		}
	}
}

// ofSize returns the functions that are as large as a target, ascending.
func (s *search) ofSize() []int32 {
	var out []int32
	for r := range s.refs {
		size := s.refs[r].Target.Size
		if !slices.ContainsFunc(s.refs[:r], func(o Reference) bool { return o.Target.Size == size }) {
			out = append(out, s.m.sized(size, size)...)
		}
	}
	slices.Sort(out)
	return out
}

func (s *search) isExactly(i, r int) bool {
	t := &s.refs[r].Target
	return s.m.funcs[i].size == t.Size && !s.isAbsent(int32(i)) && s.hasCode(i, r)
}

// hasCode tells whether a function has the code of a reference, perhaps aligned
// otherwise.
func (s *search) hasCode(i, r int) bool {
	b := s.m.body(i)
	return b.exact == s.refs[r].Target.Exact && b.whole
}

func (s *search) isAbsent(i int32) bool { return slices.Contains(s.absent, s.m.funcs[i].at) }

// candidates returns the functions whose size is near that of a reference.
func (s *search) candidates() []int32 {
	lo, hi := math.Inf(1), 0.0
	for i := range s.refs {
		size := float64(s.refs[i].Target.Size)
		lo, hi = min(lo, size/sizeWindow), max(hi, size*sizeWindow)
	}
	out := slices.DeleteFunc(s.m.sized(uint64(math.Ceil(lo)), uint64(hi)), s.isAbsent)
	return out[:min(len(out), maxSearched)]
}

func (s *search) share(f Feature) float64 { return s.common.rate(f).share }

// compare fills s.scores. All candidates are compared with all targets in one
// pass over the candidates' features; only the best of them then in full.
func (s *search) compare(candidates []int32) {
	refs := s.refs
	t := s.terms()
	alike, likely := make([][]match, len(refs)), make([][]match, len(refs))
	s.sums(t, candidates, func(c int32, sums []sum) {
		own := s.rated(c)
		for r := range refs {
			m := match{ref: r, fn: int(c), exact: s.hasCode(int(c), r)}
			if either := t.targets[r].weight + own.weight - sums[r].own; either > 0 {
				m.similarity = sums[r].shared / either
			}
			m.plain = t.targets[r].lacking + own.lacking + sums[r].gain
			alike[r] = keepBest(alike[r], m, (*match).alike)
			likely[r] = keepBest(likely[r], m, (*match).likely)
		}
	})
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
