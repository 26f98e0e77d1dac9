package scalar

import (
	"math/bits"
	"slices"
)

// Thresholds are the numbers at which widening stops on its way to infinity:
// those a program compares with.
type Thresholds struct {
	unsigned []uint64
	signed   []int64
}

// maxThresholds bounds how often a bound can stop.
const maxThresholds = 64

// Add adds v and its neighbours.
func (t *Thresholds) Add(v uint64) {
	for _, n := range [3]uint64{v - 1, v, v + 1} {
		if at, ok := slices.BinarySearch(t.unsigned, n); !ok && len(t.unsigned) < maxThresholds {
			t.unsigned = slices.Insert(t.unsigned, at, n)
		}
		if at, ok := slices.BinarySearch(t.signed, int64(n)); !ok && len(t.signed) < maxThresholds {
			t.signed = slices.Insert(t.signed, at, int64(n))
		}
	}
}

// Widen returns a set that holds old and next. A bound that moved goes on to
// the next threshold, so that a chain of widenings is short.
func Widen(old, next Set, t *Thresholds) Set {
	if next.Leq(old) {
		return old
	}
	s := old.Join(next)
	s.R = widenRange(old.R, s.R, full64, t)
	s.H = widenRange(old.H, s.H, full32, t)
	if s.T != old.T {
		// Keep only what is known at the low end: the step of a counter.
		low := uint64(1)<<bits.TrailingZeros64(s.T.Mask) - 1
		s.T = Tnum{s.T.Value & low, ^low}
	}
	return s.must()
}

func widenRange(old, r, top Range, t *Thresholds) Range {
	if r.UMin < old.UMin {
		at, ok := slices.BinarySearch(t.unsigned, r.UMin)
		r.UMin = below(t.unsigned, at, ok, top.UMin)
	}
	if r.UMax > old.UMax {
		at, _ := slices.BinarySearch(t.unsigned, r.UMax)
		r.UMax = min(above(t.unsigned, at, top.UMax), top.UMax)
	}
	if r.SMin < old.SMin {
		at, ok := slices.BinarySearch(t.signed, r.SMin)
		r.SMin = max(below(t.signed, at, ok, top.SMin), top.SMin)
	}
	if r.SMax > old.SMax {
		at, _ := slices.BinarySearch(t.signed, r.SMax)
		r.SMax = min(above(t.signed, at, top.SMax), top.SMax)
	}
	return r
}

// above is the first threshold at or after index at.
func above[T any](list []T, at int, none T) T {
	if at < len(list) {
		return list[at]
	}
	return none
}

// below is the last threshold that is not above the number looked up.
func below[T any](list []T, at int, found bool, none T) T {
	if found {
		return list[at]
	}
	if at > 0 {
		return list[at-1]
	}
	return none
}
