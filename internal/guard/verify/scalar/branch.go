package scalar

import (
	"math"
	"math/bits"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// jmpClear is the opposite of JSET: no common bit.
const jmpClear = 0xe0

// opposites are what holds when a jump is not taken.
var opposites = map[uint8]uint8{
	bpf.JmpEQ: bpf.JmpNE, bpf.JmpNE: bpf.JmpEQ, bpf.JmpSET: jmpClear,
	bpf.JmpGT: bpf.JmpLE, bpf.JmpLE: bpf.JmpGT, bpf.JmpGE: bpf.JmpLT, bpf.JmpLT: bpf.JmpGE,
	bpf.JmpSGT: bpf.JmpSLE, bpf.JmpSLE: bpf.JmpSGT, bpf.JmpSGE: bpf.JmpSLT, bpf.JmpSLT: bpf.JmpSGE,
}

// Refine returns what is left of dst and src where the conditional jump i is
// taken, or not; ok is false when that cannot happen.
func Refine(i bpf.Insn, taken bool, dst, src Set) (d, s Set, ok bool) {
	op := i.Operation()
	if !taken {
		op = opposites[op]
	}
	d, s = dst, src
	narrow := i.Class() == bpf.ClassJMP32
	switch op {
	case bpf.JmpEQ:
		return equal(narrow, d, s)
	case bpf.JmpNE:
		ok = exclude(narrow, &d, s) && exclude(narrow, &s, d)
	case bpf.JmpSET:
		ok = share(narrow, &d, s) && share(narrow, &s, d)
	case jmpClear:
		ok = disjoint(narrow, &d, s) && disjoint(narrow, &s, d)
	case bpf.JmpGT:
		ok = less(narrow, false, true, &s, &d)
	case bpf.JmpGE:
		ok = less(narrow, false, false, &s, &d)
	case bpf.JmpLT:
		ok = less(narrow, false, true, &d, &s)
	case bpf.JmpLE:
		ok = less(narrow, false, false, &d, &s)
	case bpf.JmpSGT:
		ok = less(narrow, true, true, &s, &d)
	case bpf.JmpSGE:
		ok = less(narrow, true, false, &s, &d)
	case bpf.JmpSLT:
		ok = less(narrow, true, true, &d, &s)
	case bpf.JmpSLE:
		ok = less(narrow, true, false, &d, &s)
	}
	if !ok {
		return d, s, false
	}
	if d, ok = d.close(); !ok {
		return d, s, false
	}
	s, ok = s.close()
	return d, s, ok
}

// view is the range that a comparison looks at.
func (s *Set) view(narrow bool) *Range {
	if narrow {
		return &s.H
	}
	return &s.R
}

func equal(narrow bool, d, s Set) (Set, Set, bool) {
	if !narrow {
		m, ok := d.Meet(s)
		return m, m, ok
	}
	h := d.H.meet(s.H)
	dt, ok := d.T.meetLow(s.T)
	if !ok {
		return d, s, false
	}
	if s.T, ok = s.T.meetLow(d.T); !ok {
		return d, s, false
	}
	d.T, d.H, s.H = dt, h, h
	if d, ok = d.close(); !ok {
		return d, s, false
	}
	s, ok = s.close()
	return d, s, ok
}

// exclude takes the one value of s from the ends of d.
func exclude(narrow bool, d *Set, s Set) bool {
	c, r := s.view(narrow), d.view(narrow)
	if c.UMin != c.UMax {
		return true
	}
	if r.UMin == r.UMax && r.UMin == c.UMin {
		return false
	}
	switch c.UMin {
	case r.UMin:
		r.UMin++
	case r.UMax:
		r.UMax--
	}
	switch {
	case c.SMin != c.SMax: // the bounds are known in one reading only
	case c.SMin == r.SMin:
		r.SMin++
	case c.SMin == r.SMax:
		r.SMax--
	}
	return !r.empty()
}

// less makes a < b, or a ≤ b unless strict.
func less(narrow, signed, strict bool, a, b *Set) bool {
	x, y := a.view(narrow), b.view(narrow)
	top := full(64)
	if narrow {
		top = full(32)
	}
	if signed {
		lo, hi := x.SMin, y.SMax
		if strict {
			if lo == top.SMax || hi == top.SMin {
				return false
			}
			lo, hi = lo+1, hi-1
		}
		x.SMax, y.SMin = min(x.SMax, hi), max(y.SMin, lo)
		return !x.empty() && !y.empty()
	}
	lo, hi := x.UMin, y.UMax
	if strict {
		if lo == top.UMax || hi == 0 {
			return false
		}
		lo, hi = lo+1, hi-1
	}
	x.UMax, y.UMin = min(x.UMax, hi), max(y.UMin, lo)
	return !x.empty() && !y.empty()
}

// compared is the bits of a constant that a comparison looks at.
func compared(narrow bool, s Set) (uint64, bool) {
	t := s.T
	if narrow {
		t = t.low()
	}
	return t.Value, t.Mask == 0
}

// share makes d have a bit of the constant s.
func share(narrow bool, d *Set, s Set) bool {
	c, ok := compared(narrow, s)
	if !ok {
		return true
	}
	if narrow {
		c &= math.MaxUint32
	}
	if (d.T.Value|d.T.Mask)&c == 0 {
		return false
	}
	if bits.OnesCount64(c) == 1 {
		d.T.Mask &^= c
		d.T.Value |= c
	}
	return true
}

// disjoint makes d have no bit of the constant s.
func disjoint(narrow bool, d *Set, s Set) bool {
	c, ok := compared(narrow, s)
	if !ok {
		return true
	}
	if d.T.Value&c != 0 {
		return false
	}
	d.T.Mask &^= c
	return true
}
