package fingerprint

import "math"

// leastApart is what the target and a look-alike must each have, in nats, for its own
// place over the other's, that the two together count.
const leastApart = 3

// swaps is, for functions of the module where a look-alike of the reference has its place,
// what the look-alike would lose by taking the match's place instead.
type swaps struct {
	byAlike []float64 // by look-alike; 0 for one that has no place of its own
	byPlace map[int]float64
}

// swapped finds the places of the reference's look-alikes. In one source both are there,
// and a wrong answer means that they changed places: then each must fit the other's
// place, and what speaks against that is the sum of what each lacks there. A sibling that
// differs in few numbers is told by them twice. In another source one of the two may be
// gone. apart has how much less each fits there.
func (s *search) swapped(top *match, ref *Reference, apart []float64) swaps {
	others := s.others(ref)
	w := swaps{byAlike: make([]float64, len(others)), byPlace: map[int]float64{}}
	var asked []int
	for i := range others {
		if apart[i] >= leastApart && apart[i] < marginFar {
			asked = append(asked, i)
		}
	}
	if len(asked) == 0 || !s.nearSource() && !s.foreignSource() {
		return w
	}
	for k, at := range s.places(others, asked, top.fn) {
		o := &others[asked[k]]
		if at < 0 {
			continue
		}
		if back := s.against(o, at) - s.against(o, top.fn); back >= leastApart {
			w.byAlike[asked[k]] = back
			w.byPlace[at] = max(w.byPlace[at], back)
		}
	}
	return w
}

// places returns where in the module, but at one function, some of the samples fit best,
// or -1. Two samples with one place have none.
func (s *search) places(samples []Sample, which []int, except int) []int {
	p := &search{m: s.m, common: s.common, absent: s.absent}
	for _, i := range which {
		p.refs = append(p.refs, Reference{Target: samples[i]})
	}
	t := p.terms()
	best, score := make([]int, len(which)), make([]float64, len(which))
	for k := range best {
		best[k], score[k] = -1, math.Inf(-1)
	}
	p.sums(t, p.candidates(), func(c int32, sums []sum) {
		if int(c) == except {
			return
		}
		lacking := p.rated(c).lacking
		for k := range best {
			if plain := t.targets[k].lacking + lacking + sums[k].gain; plain > score[k] {
				best[k], score[k] = int(c), plain
			}
		}
	})
	users := map[int]int{}
	for _, at := range best {
		users[at]++
	}
	for k, at := range best {
		if users[at] > 1 {
			best[k] = -1
		}
	}
	return best
}
