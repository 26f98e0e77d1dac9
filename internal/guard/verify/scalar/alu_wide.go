package scalar

import (
	"math"
	"math/bits"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// mulRange multiplies bounds, and knows nothing once a product can overflow.
func mulRange(w uint, a, b Range) Range {
	r := full(w)
	if hi, lo := bits.Mul64(a.UMax, b.UMax); hi == 0 && lo <= r.UMax {
		r.UMin, r.UMax = a.UMin*b.UMin, lo
	}
	smin, smax := int64(math.MaxInt64), int64(math.MinInt64)
	for _, x := range [2]int64{a.SMin, a.SMax} {
		for _, y := range [2]int64{b.SMin, b.SMax} {
			p, ok := mulS(w, x, y)
			if !ok {
				return r
			}
			smin, smax = min(smin, p), max(smax, p)
		}
	}
	r.SMin, r.SMax = smin, smax
	return r
}

// mulS multiplies signed w-bit numbers; ok is false on overflow.
func mulS(w uint, x, y int64) (p int64, ok bool) {
	hi, lo := bits.Mul64(magnitude(x), magnitude(y))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	p = int64(lo)
	if x < 0 != (y < 0) {
		p = -p
	}
	if w == 32 {
		_, over := wrap32(p)
		return p, over == 0
	}
	return p, true
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// shift shifts by what b allows, modulo the width.
func shift(op uint8, w uint, t Tnum, a, b Range) (Tnum, Range) {
	lo, hi := uint(0), w-1
	if b.UMin == b.UMax {
		lo = uint(b.UMin) & (w - 1)
		hi = lo
	} else if b.UMax < uint64(w) {
		lo, hi = uint(b.UMin), uint(b.UMax)
	}
	bits := unknown
	if lo == hi {
		bits = shiftBits(op, w, t, lo)
	}
	r := full(w)
	switch op {
	case bpf.AluLSH:
		if a.UMax<<hi>>hi == a.UMax && a.UMax<<hi <= r.UMax {
			r.UMin, r.UMax = a.UMin<<lo, a.UMax<<hi
		}
	case bpf.AluRSH:
		r.UMin, r.UMax = a.UMin>>hi, a.UMax>>lo
	case bpf.AluARSH:
		r.SMin, r.SMax = min(a.SMin>>lo, a.SMin>>hi), max(a.SMax>>lo, a.SMax>>hi)
	}
	return bits, r
}

func shiftBits(op uint8, w uint, t Tnum, n uint) Tnum {
	switch {
	case op == bpf.AluLSH && w == 32:
		return t.lsh(n).low()
	case op == bpf.AluLSH:
		return t.lsh(n)
	case op == bpf.AluRSH:
		return t.rsh(n)
	case w == 32:
		return t.signExtend(32).arsh(n).low()
	}
	return t.arsh(n)
}

// divideRange is division and remainder, signed when Off is 1, with 0 as a
// possible divisor (0, and the dividend itself).
func divideRange(i bpf.Insn, w uint, a, b Range) Range {
	r := full(w)
	mod := i.Operation() == bpf.AluMOD
	signed := i.Off == 1
	if signed && a.SMin >= 0 && b.SMin >= 0 {
		signed = false // the same as unsigned
		a.UMin, a.UMax = uint64(a.SMin), uint64(a.SMax)
		b.UMin, b.UMax = uint64(b.SMin), uint64(b.SMax)
	}
	switch {
	case signed && mod:
		r.SMin, r.SMax = min(a.SMin, 0), max(a.SMax, 0)
	case signed:
		if m := max(magnitude(a.SMin), magnitude(a.SMax)); m <= uint64(r.SMax) {
			r.SMin, r.SMax = -int64(m), int64(m)
		}
	case mod && a.UMax < b.UMin:
		r.UMin, r.UMax = a.UMin, a.UMax
	case mod && b.UMin > 0:
		r.UMin, r.UMax = 0, min(a.UMax, b.UMax-1)
	case mod:
		r.UMin, r.UMax = 0, a.UMax
	case b.UMin > 0:
		r.UMin, r.UMax = a.UMin/b.UMax, a.UMax/b.UMin
	default:
		r.UMin, r.UMax = 0, a.UMax
	}
	return r
}
