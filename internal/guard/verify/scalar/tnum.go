package scalar

import (
	"math"
	"math/bits"
)

// Tnum is a number with unknown bits: those set in Mask. Value has them 0.
type Tnum struct{ Value, Mask uint64 }

var unknown = Tnum{Mask: math.MaxUint64}

// between is the smallest Tnum that holds the unsigned numbers lo to hi.
func between(lo, hi uint64) Tnum {
	n := bits.Len64(lo ^ hi)
	if n == 64 {
		return unknown
	}
	mask := uint64(1)<<n - 1
	return Tnum{lo &^ mask, mask}
}

func (t Tnum) leq(u Tnum) bool { return t.Mask&^u.Mask == 0 && t.Value&^u.Mask == u.Value }

func (t Tnum) join(u Tnum) Tnum {
	mask := t.Mask | u.Mask | (t.Value ^ u.Value)
	return Tnum{t.Value &^ mask, mask}
}

func (t Tnum) meet(u Tnum) (Tnum, bool) {
	if (t.Value^u.Value)&^t.Mask&^u.Mask != 0 {
		return t, false
	}
	mask := t.Mask & u.Mask
	return Tnum{(t.Value | u.Value) &^ mask, mask}, true
}

// low is the low half.
func (t Tnum) low() Tnum { return Tnum{t.Value & math.MaxUint32, t.Mask & math.MaxUint32} }

// meetLow narrows the low half only.
func (t Tnum) meetLow(u Tnum) (Tnum, bool) {
	const upper = ^uint64(math.MaxUint32)
	return t.meet(Tnum{u.Value & math.MaxUint32, u.Mask&math.MaxUint32 | upper})
}

// bounds are the smallest and largest numbers of w bits that t allows.
func (t Tnum) bounds(w uint) Range {
	sign := uint64(1) << (w - 1)
	lo, hi := t.Value|t.Mask&sign, t.Value|t.Mask&^sign
	if w == 32 {
		return Range{t.Value, t.Value | t.Mask, int64(int32(lo)), int64(int32(hi))}
	}
	return Range{t.Value, t.Value | t.Mask, int64(lo), int64(hi)}
}

func (t Tnum) add(u Tnum) Tnum {
	known := t.Value + u.Value
	carries := (known + t.Mask + u.Mask) ^ known
	mask := carries | t.Mask | u.Mask
	return Tnum{known &^ mask, mask}
}

func (t Tnum) sub(u Tnum) Tnum {
	known := t.Value - u.Value
	borrows := (known + t.Mask) ^ (known - u.Mask)
	mask := borrows | t.Mask | u.Mask
	return Tnum{known &^ mask, mask}
}

func (t Tnum) and(u Tnum) Tnum {
	ones := t.Value & u.Value
	return Tnum{ones, (t.Value | t.Mask) & (u.Value | u.Mask) &^ ones}
}

func (t Tnum) or(u Tnum) Tnum {
	ones := t.Value | u.Value
	return Tnum{ones, (t.Mask | u.Mask) &^ ones}
}

func (t Tnum) xor(u Tnum) Tnum {
	mask := t.Mask | u.Mask
	return Tnum{(t.Value ^ u.Value) &^ mask, mask}
}

func (t Tnum) lsh(n uint) Tnum { return Tnum{t.Value << n, t.Mask << n} }
func (t Tnum) rsh(n uint) Tnum { return Tnum{t.Value >> n, t.Mask >> n} }

// signExtend extends from the low n bits; an unknown sign leaves the rest unknown.
func (t Tnum) signExtend(n uint) Tnum {
	shift := 64 - n
	return Tnum{uint64(int64(t.Value<<shift) >> shift), uint64(int64(t.Mask<<shift) >> shift)}.tidy()
}

// tidy clears value bits under the mask.
func (t Tnum) tidy() Tnum { return Tnum{t.Value &^ t.Mask, t.Mask} }

func (t Tnum) arsh(n uint) Tnum {
	return Tnum{uint64(int64(t.Value) >> n), uint64(int64(t.Mask) >> n)}.tidy()
}

// mul adds up the partial products: a known 1 adds u shifted, an unknown bit
// adds its bits as unknown ones.
func (t Tnum) mul(u Tnum) Tnum {
	var sum Tnum
	for n := uint(0); t.Value|t.Mask != 0; n++ {
		switch {
		case t.Value&1 != 0:
			sum = sum.add(u.lsh(n))
		case t.Mask&1 != 0:
			sum = sum.add(Tnum{0, (u.Value | u.Mask) << n})
		}
		t = t.rsh(1)
	}
	return sum
}

func (t Tnum) swap(width int32) Tnum {
	switch width {
	case 16:
		return Tnum{uint64(bits.ReverseBytes16(uint16(t.Value))), uint64(bits.ReverseBytes16(uint16(t.Mask)))}
	case 32:
		return Tnum{uint64(bits.ReverseBytes32(uint32(t.Value))), uint64(bits.ReverseBytes32(uint32(t.Mask)))}
	}
	return Tnum{bits.ReverseBytes64(t.Value), bits.ReverseBytes64(t.Mask)}
}

func (t Tnum) truncate(width int32) Tnum {
	mask := uint64(math.MaxUint64) >> (64 - uint(width))
	return Tnum{t.Value & mask, t.Mask & mask}
}

// set is every value that t allows.
func (t Tnum) set() Set { return Set{T: t, R: full64, H: full32}.must() }
