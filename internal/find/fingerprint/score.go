package fingerprint

import "math"

// mostPerFeature bounds what one feature can say for a match, in nats: a
// thousand to one, whatever its rarity.
const mostPerFeature = 7

// odds is the evidence that two functions are one, in nats: the logarithm of
// how much more likely what they share, and what only one has, is if they were
// compiled from the same source than if not. other tells how common a feature is
// where the second comes from.
func odds(ref []Rated, features []Feature, other func(Feature) float64) float64 {
	sum := 0.0
	i, j := 0, 0
	for i < len(ref) || j < len(features) {
		switch {
		case j == len(features) || i < len(ref) && ref[i].Feature < features[j]:
			sum += lacking(ref[i].Kind(), ref[i].Share)
			i++
		case i == len(ref) || features[j] < ref[i].Feature:
			sum += lacking(features[j].Kind(), other(features[j]))
			j++
		default:
			sum += shared(ref[i].Kind(), (ref[i].Share+other(ref[i].Feature))/2)
			i, j = i+1, j+1
		}
	}
	return sum
}

// shared is what a feature says that both have.
func shared(k Kind, share float64) float64 {
	return models[k].damp * min(math.Log(models[k].keep/share), mostPerFeature)
}

// lacking is what a feature says that only one of the two has: little for one
// that is everywhere in its module, as it then may be absent by chance too.
func lacking(k Kind, share float64) float64 {
	m := &models[k]
	return m.damp * min(math.Log((1-m.keep)/(1-min(share, .99))), 0)
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
			k := &models[ref[i].Kind()]
			sum += k.damp * min(max(math.Log(k.keep/ref[i].Share), 0), mostPerFeature)
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
			either += weight(ref[i].Kind(), (ref[i].Share+other(ref[i].Feature))/2)
			i++
		case i == len(ref) || features[j] < ref[i].Feature:
			either += weight(features[j].Kind(), other(features[j]))
			j++
		default:
			w := weight(ref[i].Kind(), (ref[i].Share+other(ref[i].Feature))/2)
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

// agreement looks for each function around the target among those around the
// candidate.
func (s *search) agreement(ref []Sample, around []int32) (found, missed int) {
	for i := range ref {
		if ref[i].Insns < 6 {
			continue // too many look like it
		}
		if s.among(&ref[i], around) {
			found++
		} else {
			missed++
		}
	}
	return found, missed
}

// among tells whether one of some functions is likely to be the sample.
func (s *search) among(ref *Sample, around []int32) bool {
	for _, j := range around[:min(len(around), maxCompared)] {
		f := &s.m.funcs[j]
		if f.size > 4*ref.Size+64 || ref.Size > 4*f.size+64 {
			continue
		}
		if b := s.m.body(int(j)); b.exact == ref.Exact || alike(ref.Features, b.features, s.share) >= .4 {
			return true
		}
	}
	return false
}

// maxCompared bounds how many callers or callees of a candidate are looked at.
const maxCompared = 64
