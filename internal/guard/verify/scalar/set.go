// Package scalar is the arithmetic of what is known about a 64-bit register:
// a Set stands for every value the register may have.
//
// A Set keeps five facts at once: which bits are known (Tnum), and the smallest
// and largest value as unsigned and signed number, of the register and of its
// low half. Each fact alone holds for every member; close lets each sharpen the
// others. Operations never lose a member (the invariant that the tests check);
// they may add some.
//
// The known-bits half is the tristate number of Vishwanathan, Shachnai, Narayana
// and Nagarakatte, "Sound, Precise, and Fast Abstract Interpretation with
// Tristate Numbers" (CGO 2022).
package scalar

import (
	"fmt"
	"math"
	"math/bits"
)

// Set is a non-empty set of 64-bit values. The zero Set is the number 0.
type Set struct {
	T Tnum
	R Range // of the whole register
	H Range // of the low 32 bits
}

// Range is the bounds of a number of 32 or 64 bits in both readings.
type Range struct {
	UMin, UMax uint64
	SMin, SMax int64
}

var (
	full64 = Range{0, math.MaxUint64, math.MinInt64, math.MaxInt64}
	full32 = Range{0, math.MaxUint32, math.MinInt32, math.MaxInt32}
)

func full(w uint) Range {
	if w == 32 {
		return full32
	}
	return full64
}

// Top is every value.
func Top() Set { return Set{T: unknown, R: full64, H: full32} }

// Const is the one value v.
func Const(v uint64) Set {
	return Set{
		T: Tnum{Value: v},
		R: Range{v, v, int64(v), int64(v)},
		H: Range{uint64(uint32(v)), uint64(uint32(v)), int64(int32(v)), int64(int32(v))},
	}
}

// Between is the unsigned values lo to hi; lo ≤ hi.
func Between(lo, hi uint64) Set {
	s := Top()
	s.R.UMin, s.R.UMax = lo, hi
	return s.must()
}

// SignedBetween is the signed values lo to hi; lo ≤ hi.
func SignedBetween(lo, hi int64) Set {
	s := Top()
	s.R.SMin, s.R.SMax = lo, hi
	return s.must()
}

// Loaded is what a load of n bytes (1, 2, 4, 8) can give.
func Loaded(n int, signed bool) Set {
	switch {
	case n == 8:
		return Top()
	case signed:
		return SignedBetween(-1<<(8*n-1), 1<<(8*n-1)-1)
	}
	return Between(0, 1<<(8*n)-1)
}

// Const returns the value of a set that has one.
func (s Set) Const() (uint64, bool) { return s.T.Value, s.T.Mask == 0 }

// Contains reports whether s allows v.
func (s Set) Contains(v uint64) bool { return Const(v).Leq(s) }

// Leq reports whether every member of s is one of t.
func (s Set) Leq(t Set) bool {
	return s == t || s.T.leq(t.T) && s.R.leq(t.R) && s.H.leq(t.H)
}

func (r Range) leq(q Range) bool {
	return r.UMin >= q.UMin && r.UMax <= q.UMax && r.SMin >= q.SMin && r.SMax <= q.SMax
}

// Join is the smallest set known here that holds s and t.
func (s Set) Join(t Set) Set {
	if s == t {
		return s
	}
	return Set{T: s.T.join(t.T), R: s.R.join(t.R), H: s.H.join(t.H)}
}

func (r Range) join(q Range) Range {
	return Range{min(r.UMin, q.UMin), max(r.UMax, q.UMax), min(r.SMin, q.SMin), max(r.SMax, q.SMax)}
}

// Meet is what s and t have in common; ok is false when that is nothing.
func (s Set) Meet(t Set) (m Set, ok bool) {
	if m.T, ok = s.T.meet(t.T); !ok {
		return m, false
	}
	m.R, m.H = s.R.meet(t.R), s.H.meet(t.H)
	return m.close()
}

func (r Range) meet(q Range) Range {
	return Range{max(r.UMin, q.UMin), min(r.UMax, q.UMax), max(r.SMin, q.SMin), min(r.SMax, q.SMax)}
}

func (r Range) empty() bool { return r.UMin > r.UMax || r.SMin > r.SMax }

// must closes a set that the caller knows not to be empty.
func (s Set) must() Set {
	c, ok := s.close()
	if !ok {
		return Top()
	}
	return c
}

// close lets each fact sharpen the others; ok is false when they contradict
// each other, so that there is no member. Two rounds reach nearly everything.
func (s Set) close() (c Set, ok bool) {
	for range 2 {
		s.R = s.R.meet(s.T.bounds(64)).cross(64)
		s.H = s.H.meet(s.T.low().bounds(32)).cross(32)
		if s.R.empty() || s.H.empty() {
			return s, false
		}
		s.R, s.H = exchange(s.R, s.H)
		s.R, s.H = s.R.cross(64), s.H.cross(32)
		if s.R.empty() || s.H.empty() {
			return s, false
		}
		if s.T, ok = s.T.meet(between(s.R.UMin, s.R.UMax)); !ok {
			return s, false
		}
		if s.T, ok = s.T.meetLow(between(s.H.UMin, s.H.UMax)); !ok {
			return s, false
		}
	}
	s.R = s.R.meet(s.T.bounds(64))
	s.H = s.H.meet(s.T.low().bounds(32))
	return s, !s.R.empty() && !s.H.empty()
}

// cross carries bounds between the two readings of a number of w bits, which
// agree where all of it has one sign.
func (r Range) cross(w uint) Range {
	mask := uint64(math.MaxUint64)
	signed := func(u uint64) int64 { return int64(u) }
	if w == 32 {
		mask = math.MaxUint32
		signed = func(u uint64) int64 { return int64(int32(u)) }
	}
	if lo, hi := signed(r.UMin), signed(r.UMax); lo <= hi {
		r.SMin, r.SMax = max(r.SMin, lo), min(r.SMax, hi)
	}
	if r.SMin >= 0 || r.SMax < 0 {
		r.UMin, r.UMax = max(r.UMin, uint64(r.SMin)&mask), min(r.UMax, uint64(r.SMax)&mask)
	}
	return r
}

// exchange carries bounds between a register r and its low half h.
func exchange(r, h Range) (Range, Range) {
	if hi := r.UMin >> 32; hi == r.UMax>>32 {
		h.UMin, h.UMax = max(h.UMin, r.UMin&math.MaxUint32), min(h.UMax, r.UMax&math.MaxUint32)
		r.UMin, r.UMax = max(r.UMin, hi<<32|h.UMin), min(r.UMax, hi<<32|h.UMax)
	}
	if hi := r.SMin >> 32; hi == r.SMax>>32 {
		h.UMin = max(h.UMin, uint64(r.SMin)&math.MaxUint32)
		h.UMax = min(h.UMax, uint64(r.SMax)&math.MaxUint32)
		r.SMin, r.SMax = max(r.SMin, hi<<32|int64(h.UMin)), min(r.SMax, hi<<32|int64(h.UMax))
	}
	if r.SMin >= math.MinInt32 && r.SMax <= math.MaxInt32 {
		h.SMin, h.SMax = max(h.SMin, r.SMin), min(h.SMax, r.SMax)
		r.SMin, r.SMax = max(r.SMin, h.SMin), min(r.SMax, h.SMax)
	}
	return r, h
}

// String shows the bounds in the reading that says more.
func (s Set) String() string {
	if v, ok := s.Const(); ok {
		return fmt.Sprint(int64(v))
	}
	if s.R.SMin != math.MinInt64 || s.R.SMax != math.MaxInt64 {
		return fmt.Sprintf("%d to %d", s.R.SMin, s.R.SMax)
	}
	if s.R != full64 {
		return fmt.Sprintf("%d to %d", s.R.UMin, s.R.UMax)
	}
	return "any number"
}

// Members returns every member of a set that has at most limit, ascending.
func (s Set) Members(limit int) ([]uint64, bool) {
	if bits.OnesCount64(s.T.Mask) > 16 {
		return nil, false
	}
	var list []uint64
	for sub := uint64(0); ; {
		if v := s.T.Value | sub; s.Contains(v) {
			if len(list) == limit {
				return nil, false
			}
			list = append(list, v)
		}
		if sub = (sub - s.T.Mask) & s.T.Mask; sub == 0 {
			return list, true
		}
	}
}
