package scalar

import (
	"math"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// ALU returns what the arithmetic instruction i gives on members of dst and
// src, as bpf.ALU does on numbers.
func ALU(i bpf.Insn, dst, src Set) Set {
	if d, ok := dst.Const(); ok {
		if s, ok := src.Const(); ok {
			v, _ := bpf.ALU(i, d, s)
			return Const(v)
		}
	}
	wide := i.Class() == bpf.ClassALU64
	switch {
	case i.Operation() == bpf.AluEND:
		return swapped(i, dst.T)
	case i.Operation() == bpf.AluMOV:
		v := src
		if i.Off != 0 {
			v = src.SignExtend(uint(i.Off))
		}
		if !wide {
			v = v.Low()
		}
		return v
	case !wide:
		t, h := compute(i, 32, dst.T.low(), src.T.low(), dst.H, src.H)
		return zeroExtended(t, h)
	}
	var s Set
	s.T, s.R = compute(i, 64, dst.T, src.T, dst.R, src.R)
	s.H = full32
	switch i.Operation() {
	case bpf.AluADD, bpf.AluSUB, bpf.AluMUL, bpf.AluAND, bpf.AluOR, bpf.AluXOR, bpf.AluNEG:
		// The low half of the result depends on the low halves only.
		_, s.H = compute(i, 32, dst.T.low(), src.T.low(), dst.H, src.H)
	}
	return s.must()
}

// Low is the low halves, zero-extended.
func (s Set) Low() Set { return zeroExtended(s.T.low(), s.H) }

// zeroExtended is the 32-bit numbers in h with the known bits t.
func zeroExtended(t Tnum, h Range) Set {
	return Set{T: t.low(), R: Range{h.UMin, h.UMax, int64(h.UMin), int64(h.UMax)}, H: h}.must()
}

// Truncate is the low n bytes, zero-extended.
func (s Set) Truncate(n int) Set {
	switch n {
	case 8:
		return s
	case 4:
		return s.Low()
	}
	if s.R.UMax < 1<<(8*n) {
		return s
	}
	return s.T.truncate(int32(8 * n)).set()
}

// SignExtend is the low n bits (8, 16, 32), sign-extended to 64.
func (s Set) SignExtend(n uint) Set {
	lo, hi := int64(-1)<<(n-1), int64(1)<<(n-1)-1
	if s.R.SMin >= lo && s.R.SMax <= hi {
		return s
	}
	t := Set{T: s.T.signExtend(n), R: full64, H: full32}
	t.R.SMin, t.R.SMax = lo, hi
	if n == 32 {
		t.R.SMin, t.R.SMax = s.H.SMin, s.H.SMax
	}
	return t.must()
}

func swapped(i bpf.Insn, t Tnum) Set {
	if i.Class() == bpf.ClassALU64 || i.Op&bpf.SrcX != 0 {
		return t.swap(i.Imm).set()
	}
	return t.truncate(i.Imm).set()
}

// compute is an operation on numbers of w bits.
func compute(i bpf.Insn, w uint, t, u Tnum, a, b Range) (Tnum, Range) {
	switch i.Operation() {
	case bpf.AluADD:
		return t.add(u), addRange(w, a, b)
	case bpf.AluSUB:
		return t.sub(u), subRange(w, a, b)
	case bpf.AluNEG:
		return Tnum{}.sub(t), subRange(w, Range{}, a)
	case bpf.AluMUL:
		return t.mul(u), mulRange(w, a, b)
	case bpf.AluAND:
		r := full(w)
		r.UMax = min(a.UMax, b.UMax)
		return t.and(u), r
	case bpf.AluOR:
		r := full(w)
		r.UMin = max(a.UMin, b.UMin)
		return t.or(u), r
	case bpf.AluXOR:
		return t.xor(u), full(w)
	case bpf.AluLSH, bpf.AluRSH, bpf.AluARSH:
		return shift(i.Operation(), w, t, a, b)
	}
	return unknown, divideRange(i, w, a, b)
}

// addU adds w-bit numbers; carry is what left the top.
func addU(w uint, a, b uint64) (sum uint64, carry bool) {
	sum = a + b
	if w == 32 {
		return sum & math.MaxUint32, sum > math.MaxUint32
	}
	return sum, sum < a
}

// addS adds signed w-bit numbers; over is −1, 0 or 1: below, inside or above.
func addS(w uint, a, b int64) (sum int64, over int) {
	sum = a + b
	if w == 32 {
		return wrap32(sum)
	}
	if (a^sum)&(b^sum) >= 0 {
		return sum, 0
	}
	if a < 0 {
		return sum, -1
	}
	return sum, 1
}

func subS(w uint, a, b int64) (diff int64, over int) {
	diff = a - b
	if w == 32 {
		return wrap32(diff)
	}
	if (a^b)&(a^diff) >= 0 {
		return diff, 0
	}
	if a < 0 {
		return diff, -1
	}
	return diff, 1
}

func wrap32(v int64) (int64, int) {
	switch {
	case v < math.MinInt32:
		return int64(int32(v)), -1
	case v > math.MaxInt32:
		return int64(int32(v)), 1
	}
	return v, 0
}

// addRange adds bounds. When both ends leave the range on the same side, all
// between them do, and order is kept.
func addRange(w uint, a, b Range) Range {
	r := full(w)
	lo, c := addU(w, a.UMin, b.UMin)
	hi, d := addU(w, a.UMax, b.UMax)
	if c == d {
		r.UMin, r.UMax = lo, hi
	}
	slo, o := addS(w, a.SMin, b.SMin)
	shi, p := addS(w, a.SMax, b.SMax)
	if o == p {
		r.SMin, r.SMax = slo, shi
	}
	return r
}

func subRange(w uint, a, b Range) Range {
	r := full(w)
	mask := r.UMax
	if (a.UMin < b.UMax) == (a.UMax < b.UMin) {
		r.UMin, r.UMax = (a.UMin-b.UMax)&mask, (a.UMax-b.UMin)&mask
	}
	lo, o := subS(w, a.SMin, b.SMax)
	hi, p := subS(w, a.SMax, b.SMin)
	if o == p {
		r.SMin, r.SMax = lo, hi
	}
	return r
}
