package fingerprint

import (
	"math"
	"slices"
)

// mostPerFeature bounds what one feature can say for a match, in nats: a
// thousand to one, whatever its rarity.
const mostPerFeature = 7

// sampled is a sample with what its features say when the other function lacks
// them, which does not depend on the other.
type sampled struct {
	*Sample
	alone []float64
	most  float64 // its score with itself
}

func (s *search) sampled(ref *Sample) *sampled {
	p := s.samples[ref]
	if p == nil {
		p = &sampled{Sample: ref, alone: make([]float64, len(ref.Features))}
		for i := range ref.Features {
			f := &ref.Features[i]
			p.alone[i] = f.alone()
			p.most += f.shared(f.Share)
		}
		s.samples[ref] = p
	}
	return p
}

// odds is the evidence that a sample and a function are one, in nats: the
// logarithm of how much more likely what they share, and what only one has, is if
// they were compiled from the same source than if not. c tells how common a feature
// is where the function comes from.
func (p *sampled) odds(features []Feature, c *census) float64 {
	sum := 0.0
	i, j := 0, 0
	ref := p.Features
	for i < len(ref) || j < len(features) {
		switch {
		case j == len(features) || i < len(ref) && ref[i].Feature < features[j]:
			sum += p.alone[i]
			i++
		case i == len(ref) || features[j] < ref[i].Feature:
			sum += c.rate(features[j]).lacking[features[j].Kind()]
			j++
		default:
			sum += ref[i].shared((ref[i].Share + c.rate(features[j]).share) / 2)
			i, j = i+1, j+1
		}
	}
	return sum
}

// shared is what a feature says that both have; share is how common it is.
func (f *Rated) shared(share float64) float64 {
	return models[f.Kind()].damp * min(math.Log(f.keep()/share), mostPerFeature)
}

// alone is what a feature of the reference says that the other function lacks.
func (f *Rated) alone() float64 {
	return models[f.Kind()].damp * min(math.Log((1-f.keep())/(1-min(f.Share, .99))), 0)
}

// lacking is what a feature says that the reference lacks: little for one that is
// everywhere in its module, as it then may be absent by chance too.
func lacking(k Kind, share float64) float64 {
	m := &models[k]
	return m.damp * min(math.Log((1-m.keep)/(1-min(share, .99))), 0)
}

// weight is the feature's part of the similarity, by how common it is and how
// sure another build has it.
func (f *Rated) weight(share float64) float64 {
	w := weight(f.Kind(), share)
	if f.Keep > 0 {
		w *= min(1, f.Keep/models[f.Kind()].keep)
	}
	return w
}

// contextOdds is odds for what is around a function, where only what is shared
// counts: callers and callees come and go more than the code does.
func contextOdds(ref []Rated, features []Feature) float64 {
	sum := 0.0
	i, j := 0, 0
	for i < len(ref) && j < len(features) {
		switch {
		case ref[i].Feature < features[j]:
			i++
		case features[j] < ref[i].Feature:
			j++
		default:
			sum += max(ref[i].shared(ref[i].Share), 0)
			i, j = i+1, j+1
		}
	}
	return min(sum, mostContext)
}

// mostContext bounds what the texts around a function can say: they are those of
// its callers' other callees too.
const mostContext = 20

// alike is the weighted Jaccard similarity of a reference's function and
// another: the weight of what both have by the weight of what either has.
func alike(ref []Rated, features []Feature, other func(Feature) float64) float64 {
	both, either := 0.0, 0.0
	i, j := 0, 0
	for i < len(ref) || j < len(features) {
		switch {
		case j == len(features) || i < len(ref) && ref[i].Feature < features[j]:
			either += ref[i].weight((ref[i].Share + other(ref[i].Feature)) / 2)
			i++
		case i == len(ref) || features[j] < ref[i].Feature:
			either += weight(features[j].Kind(), other(features[j]))
			j++
		default:
			w := ref[i].weight((ref[i].Share + other(ref[i].Feature)) / 2)
			both, either = both+w, either+w
			i, j = i+1, j+1
		}
	}
	if either == 0 {
		return 0
	}
	return both / either
}

func weight(k Kind, share float64) float64 { return models[k].weight * -math.Log(share) }

// around compares what calls the candidate, and what it calls, with what is
// around the reference's target.
func (s *search) around(c *match) {
	ref := &s.refs[c.ref]
	callees := s.agreement(ref.Callees, s.m.callees(c.fn), &s.m.graph().called)
	callers := s.agreement(ref.Callers, s.m.callers(c.fn), &s.m.graph().calls)
	c.found, c.missed, c.callers = callees.found+callers.found, callees.missed+callers.missed, callers.found
	c.unchanged = callees.unchanged + callers.unchanged
	c.unsure = callees.unsure + callers.unsure
	c.score += min(callees.gain+callers.gain, mostAround) - min(float64(c.missed), 8)
}

// agreement is how many of the functions around the target were found around a
// candidate, and what that says, in nats.
type agreement struct {
	found, missed int
	unchanged     int // of found, those with the same code
	unsure        int // not found, and too small to be counted as missed
	gain          float64
}

const (
	// mostAround bounds what the functions around can say.
	mostAround = 24
	// A function around is found again by so much evidence; those that could not
	// give as much are not counted.
	aroundScore = 8
	aroundKeep  = .6 // share of the calls that are still there
	aroundDamp  = .6
	aroundLeast = 2 // nats
)

// agreement looks for samples among the functions around a candidate. Finding
// one says the more, the fewer other functions have it around them: degree has
// those.
func (s *search) agreement(samples []Sample, around []int32, degree *lists) agreement {
	var a agreement
	for i := range samples {
		if samples[i].Insns < 6 {
			continue // too many look like it
		}
		j, told := s.among(&samples[i], around)
		switch {
		case j >= 0:
			a.found++
			if s.m.body(j).exact == samples[i].Exact {
				a.unchanged++
			}
			rare := aroundKeep * float64(len(s.m.funcs)) / float64(len(degree.of(j))+1)
			a.gain += max(aroundDamp*min(math.Log(rare), mostPerFeature), aroundLeast)
		case told:
			a.missed++
		default:
			a.unsure++
		}
	}
	return a
}

// among returns the function that is likely to be the sample, or -1; told says
// whether it could have been recognized.
func (s *search) among(ref *Sample, around []int32) (best int, told bool) {
	told = s.sampled(ref).most >= aroundScore+4
	best, score := -1, float64(aroundScore)
	for _, j := range around[:min(len(around), maxCompared)] {
		f := &s.m.funcs[j]
		if f.size > 6*ref.Size+64 || ref.Size > 6*f.size+64 {
			continue
		}
		if s.m.body(int(j)).exact == ref.Exact {
			return int(j), true
		}
		if told {
			if o := s.plain(ref, int(j)); o >= score {
				best, score = int(j), o
			}
		}
	}
	return best, told
}

// maxCompared bounds how many callers or callees of a candidate are looked at.
const maxCompared = 64

// plain is the score of a sample and a function by their code alone.
func (s *search) plain(ref *Sample, fn int) float64 {
	k := compared{ref, fn}
	o, ok := s.odds[k]
	if !ok {
		o = s.sampled(ref).odds(s.m.body(fn).features, s.common)
		s.odds[k] = o
	}
	return o
}

// compared is a sample and a function whose score was computed.
type compared struct {
	ref *Sample
	fn  int
}

// texts is how much the texts and imports of a target and a function weigh: those
// that both have, and either has alone.
type texts struct{ both, missing, extra float64 }

func (s *search) texts(ref *Sample, fn int) texts {
	var t texts
	features := s.m.body(fn).features
	for _, f := range features {
		if f.Kind() > KindImport {
			break // they are ascending by kind
		}
		if !ref.contains(f) {
			t.extra += s.common.rate(f).log
		}
	}
	for _, f := range ref.Features {
		if f.Kind() > KindImport {
			break
		}
		if _, ok := slices.BinarySearch(features, f.Feature); ok {
			t.both -= math.Log(f.Share)
		} else {
			t.missing -= math.Log(f.Share)
		}
	}
	return t
}
