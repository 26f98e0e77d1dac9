package fingerprint

import (
	"math"
	"math/bits"
)

// census counts how many functions have a feature. Several features may share
// a counter, so that a count may be too high, never too low: a feature then
// counts for less than it could.
type census struct {
	functions int
	counts    []uint16
	mask      uint64
	// byCount has, for each count, what a feature of that count weighs and, by kind,
	// what lacking it says; settle fills it.
	byCount []rating
}

// rating is what features of one count are worth.
type rating struct {
	share, log float64 // log is -ln(share)
	lacking    [kindEnd]float64
}

// newCensus makes room for about n features.
func newCensus(n int) *census {
	size := uint64(1) << min(max(bits.Len(uint(n)), 12), 22)
	return &census{counts: make([]uint16, size), mask: size - 1}
}

// slot spreads the kinds: context features have the hash of what they are of.
func (c *census) slot(f Feature) uint64 {
	return (f.hash() ^ uint64(f.Kind())*0x9e3779b97f4a7c15) & c.mask
}

// add counts one function.
func (c *census) add(features []Feature) {
	c.functions++
	c.tally(features)
}

func (c *census) tally(features []Feature) {
	for _, f := range features {
		if n := &c.counts[c.slot(f)]; *n < 1<<16-1 {
			*n++
		}
	}
}

// addContext adds the context of a function that was counted.
func (c *census) addContext(m *Module, i int) { c.tally(m.context(i)) }

// settle precomputes what counts are worth, once all functions were counted.
func (c *census) settle() {
	c.byCount = make([]rating, c.functions+1)
	for n := range c.byCount {
		r := &c.byCount[n]
		r.share = (float64(n) + .5) / (float64(c.functions) + 1.5)
		r.log = -math.Log(r.share)
		for k := Kind(1); k < kindEnd; k++ {
			r.lacking[k] = lacking(k, r.share)
		}
	}
}

// rate returns what a feature is worth here; settle came before.
func (c *census) rate(f Feature) *rating {
	return &c.byCount[min(c.count(f), c.functions)]
}

func (c *census) count(f Feature) int { return int(c.counts[c.slot(f)]) }

// share is the part of functions that have the feature, never 0 and less than
// 1.
func (c *census) share(f Feature) float64 {
	return (float64(c.count(f)) + .5) / (float64(c.functions) + 1.5)
}
