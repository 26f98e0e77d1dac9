package corpus

import (
	"math"
	"math/bits"

	"github.com/patch-integration-engine/pie/libpie"
)

//pie:id corpus

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Arithmetic8(c *libpie.Call, a, b int8, n uint8) libpie.Verdict {
	switch n % 8 {
	case 0:
		return libpie.Reject(a + b)
	case 1:
		return libpie.Reject(a - b)
	case 2:
		return libpie.Reject(a * b)
	case 3:
		return libpie.Reject(a & b)
	case 4:
		return libpie.Reject(a | b)
	case 5:
		return libpie.Reject(a ^ b)
	case 6:
		return libpie.Reject(a &^ b)
	}
	return libpie.Reject(-a + ^b)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Arithmetic16(c *libpie.Call, a, b int16) libpie.Verdict {
	a += 300
	a *= b
	b -= a
	return libpie.Reject(a ^ b&^1000 | -b)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Arithmetic32(c *libpie.Call, a, b int32) libpie.Verdict {
	x := a*b - a + b<<3
	if x < 0 {
		x = ^x
	}
	return libpie.Reject(x ^ 0x7fffffff)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Arithmetic64(c *libpie.Call, a, b int64) libpie.Verdict {
	x := a*b - a + b
	x = x ^ 0x123456789abcdef0
	x &^= -0x7000000000000000
	return libpie.Reject(x - 1)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Unsigned8(c *libpie.Call, a, b uint8) libpie.Verdict {
	return libpie.Reject((a+b)*(a-b) ^ ^a)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Unsigned16(c *libpie.Call, a, b uint16) libpie.Verdict {
	return libpie.Reject(a*b + -a)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Unsigned32(c *libpie.Call, a, b uint32) libpie.Verdict {
	if a*b > 0xfffffff0 || a-b > 0x80000000 {
		return libpie.Reject(uint32(1))
	}
	return libpie.Reject(^(a * b) + a)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Unsigned64(c *libpie.Call, a, b uint64) libpie.Verdict {
	if a > 0x8000000000000000 {
		return libpie.Reject(a - b)
	}
	return libpie.Reject(a*b + 0xfedcba9876543210)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Division(c *libpie.Call, a, b int64, d, e uint64, n int) libpie.Verdict {
	switch n & 7 {
	case 0:
		return libpie.Reject(a / b)
	case 1:
		return libpie.Reject(a % b)
	case 2:
		return libpie.Reject(d / e)
	case 3:
		return libpie.Reject(d % e)
	case 4:
		return libpie.Reject(a/7 + a%7)
	case 5:
		return libpie.Reject(d/8 + d%10)
	case 6:
		return libpie.Reject(a / -1)
	}
	return libpie.Reject(a%-1 + a/(b|1))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func DivisionNarrow(c *libpie.Call, a, b int32, d, e int8, f, g uint16) libpie.Verdict {
	if a&1 == 0 {
		return libpie.Reject(a/b + a%b)
	}
	if a&2 == 0 {
		return libpie.Reject(d / e)
	}
	return libpie.Reject(f/g*3 + f%g)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ShiftLeft(c *libpie.Call, a int32, b uint8, d uint64, n uint16) libpie.Verdict {
	return libpie.Reject(int64(a<<n) + int64(b<<n) + int64(d<<n) + int64(d<<(n&63)))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ShiftRight(c *libpie.Call, a int32, b uint8, d uint64, e int64, n uint16) libpie.Verdict {
	return libpie.Reject(int64(a>>n) + int64(b>>n) ^ int64(d>>n) ^ e>>n + e>>(n&31))
}

func shiftBoth(b uint8, n uint) uint8   { return b<<n ^ b>>n }
func shiftWide(d uint64, n uint) uint64 { return d<<n ^ d>>n }
func shiftSigned(e int8, n uint) int8   { return e>>n + e<<n }

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ShiftConstant(c *libpie.Call, a int32, b uint8, d uint64, e int8) libpie.Verdict {
	return libpie.Reject(int64(a<<31) + int64(a>>31) + int64(b<<7) + int64(d>>63) + int64(shiftBoth(b, 8)) + int64(shiftWide(d, 64)) + int64(shiftSigned(e, 100)) + int64(shiftSigned(e, 9)))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ShiftSigned(c *libpie.Call, a int64, n int32, m int8) libpie.Verdict {
	return libpie.Reject(a<<n ^ a>>m)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Conversions(c *libpie.Call, a int64, b uint32, d int8) libpie.Verdict {
	x := int64(int8(a)) + int64(uint8(a)) + int64(int16(a)) + int64(uint16(a)) + int64(int32(a)) + int64(uint32(a))
	x ^= int64(int32(b)) ^ int64(uint64(d)) ^ int64(uint16(d)) ^ int64(uint32(int16(d)))
	return libpie.Reject(x + int64(libpie.Addr(b)) + int64(uintptr(d)))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Comparisons(c *libpie.Call, a, b int32, d, e uint64, f int8) libpie.Verdict {
	n := 0
	if a < b {
		n |= 1
	}
	if a <= b {
		n |= 2
	}
	if d > e {
		n |= 4
	}
	if d >= e {
		n |= 8
	}
	if a == b {
		n |= 16
	}
	if d != e {
		n |= 32
	}
	if f > -3 && uint8(f) < 0xf0 {
		n |= 64
	}
	if d >= 1<<40 || d == 0xffffffff {
		n |= 128
	}
	less := a > b
	more := d < e
	if less == more {
		n |= 256
	}
	if 5 < a {
		n |= 512
	}
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Booleans(c *libpie.Call, a, b, d int32) libpie.Verdict {
	x := a > 0 && b > 0 || d > 0
	y := !x || a == b
	z := (a < d) != (b < d)
	if x && !y || z {
		return libpie.Reject(x)
	}
	return libpie.Reject(y)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func BoolArgs(c *libpie.Call, a, b bool, n int8) libpie.Verdict {
	if a != b {
		return libpie.Reject(a)
	}
	if !a && n > 3 {
		return libpie.Reject(b || n > 9)
	}
	return libpie.Pass()
}

const (
	first = iota + 5
	second
	third
	huge  = 1 << 62
	rune1 = 'x'
)

type color uint8

const (
	red color = iota + 1
	green
)

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Constants(c *libpie.Call, a int64, k color) libpie.Verdict {
	const local = third * 2.0
	if k == green {
		return libpie.Reject(a + huge + local)
	}
	return libpie.Reject(a*first + second + rune1 + int64(len("abc")))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Limits(c *libpie.Call, a int64, b uint64) libpie.Verdict {
	switch {
	case a > math.MaxInt32, a < math.MinInt32:
		return libpie.Reject(int64(1))
	case b == math.MaxUint64 || uint32(b) > math.MaxUint32-16:
		return libpie.Reject(int64(math.MinInt64 + 2))
	case int8(a) == math.MaxInt8 || a == math.MaxInt16 || b > math.MaxInt:
		return libpie.Reject(int64(3))
	}
	return libpie.Pass()
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func MinMax(c *libpie.Call, a, b int32, d, e uint8) libpie.Verdict {
	return libpie.Reject(int64(min(a, b, 100)) + int64(max(a, b, -5))*3 + int64(max(d, e)) - int64(min(d, e, 17)))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func BitCounts(c *libpie.Call, a uint64, b uint32, d uint16, e uint8) libpie.Verdict {
	n := bits.OnesCount64(a) + bits.OnesCount32(b)*3 + bits.OnesCount8(e)*5
	n += bits.LeadingZeros64(a)*7 + bits.LeadingZeros32(b)*11 + bits.LeadingZeros16(d)*13
	n += bits.TrailingZeros64(a)*17 + bits.TrailingZeros32(b)*19 + bits.TrailingZeros8(e)*23
	n += bits.Len64(a)*29 + bits.Len8(e)*31 + bits.Len(uint(b))*37
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func BitSwaps(c *libpie.Call, a uint64, b uint32, d uint16, e uint8, k int32) libpie.Verdict {
	x := bits.ReverseBytes64(a) ^ uint64(bits.ReverseBytes32(b)) ^ uint64(bits.ReverseBytes16(d)) ^ uint64(bits.ReverseBytes(uint(a)))
	x += bits.Reverse64(a) ^ uint64(bits.Reverse32(b)) ^ uint64(bits.Reverse8(e))
	x ^= bits.RotateLeft64(a, int(k)) ^ uint64(bits.RotateLeft32(b, int(k))) ^ uint64(bits.RotateLeft8(e, int(k))) ^ uint64(bits.RotateLeft16(d, -3))
	return libpie.Reject(x)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func BitCarry(c *libpie.Call, a, b uint64, d, e uint32) libpie.Verdict {
	hi, lo := bits.Mul64(a, b)
	sum, carry := bits.Add64(a, b, hi&1)
	diff, borrow := bits.Sub64(a, b, lo&1)
	h32, l32 := bits.Mul32(d, e)
	s32, c32 := bits.Add32(d, e, 1)
	return libpie.Reject(hi ^ lo ^ sum ^ carry<<7 ^ diff ^ borrow<<9 ^ uint64(h32)<<32 ^ uint64(l32) ^ uint64(s32+c32))
}
