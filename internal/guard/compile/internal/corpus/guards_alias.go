package corpus

import "github.com/patch-integration-engine/pie/libpie"

// Guards in which one variable goes by two names, or a check holds on one way only.

//pie:id corpus

// CheckedOnOneWay cuts memory at n where n has been looked at; elsewhere n may be anything.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func CheckedOnOneWay(c *libpie.Call, a libpie.Addr, n, k int) libpie.Verdict {
	m := c.Bytes(a, 30)
	if k&1 == 1 {
		if m = m.Slice(0, n); m.Len() == 3 {
			return libpie.Log(1)
		}
	}
	if n < 0 {
		return libpie.Reject(-1)
	}
	if uint64(n) > 1<<30 {
		return libpie.Reject(-2)
	}
	return libpie.Reject(int64(n) + int64(m.Len()))
}

// padded has a field that == does not look at.
type padded struct{ a, _ uint8 }

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func BlankFields(c *libpie.Call, p libpie.Addr, k uint8) libpie.Verdict {
	x, y := *libpie.At[padded](p), *libpie.At[padded](p + libpie.Addr(k&15))
	if both := [2]padded{x, y}; both == [2]padded{y, x} {
		return libpie.Log(uint32(x.a))
	}
	return libpie.Reject(x == y)
}

type point struct{ x, y int16 }

type named struct{ x, y int16 }

func (n *named) move(by int16) { n.x += by }

func movedByPointer(p point, by int16) int16 {
	(*named)(&p).move(by)
	return p.x
}

func setByPointer(p point, by int16) int16 {
	q := (*named)(&p)
	q.x = by
	return p.x - q.x + p.y
}

// Converted changes a variable by a pointer of another type.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Converted(c *libpie.Call, x, y, by int16) libpie.Verdict {
	return libpie.Reject(movedByPointer(point{x, y}, by)*3 + setByPointer(point{y, x}, by))
}

func either(p point, by int16) int16 {
	var q *point
	if by > 3 {
		q = &p
	} else {
		q = &p
	}
	q.y = by
	return p.y + q.x
}

// SamePlace changes a variable by a pointer that two ways set to the same.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func SamePlace(c *libpie.Call, x, y, by int16) libpie.Verdict {
	return libpie.Reject(either(point{x, y}, by))
}

func (p *point) bump()     { p.x++ }
func (p point) less() bool { return p.x < p.y }

type stepper int8

func (n *stepper) next() { *n += 2 }

// LoopVariables are structs, and numbers with methods.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func LoopVariables(c *libpie.Call, x, y int16) libpie.Verdict {
	n := int64(0)
	for p := (point{x & 15, y & 15}); p.less(); p.bump() {
		n = n*3 + int64(p.x)
	}
	for i := stepper(x & 7); i < 20; i.next() {
		n += int64(i)
	}
	for i, p := int16(0), (point{y: 9}); i < 5; i, p.x = i+1, p.x+2 {
		q := p
		p.y -= i
		n += int64(q.y) * int64(p.x+p.y)
	}
	return libpie.Reject(n)
}

// Copies are of arrays and structs: what is changed later does not change them.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Copies(c *libpie.Call, x uint8, y int32) libpie.Verdict {
	a := [4]int32{y, y + 1, y + 2, y + 3}
	b := a
	a[x&3] = 7
	a, b = b, a
	s := [2]point{{1, 2}, {int16(y), 4}}
	t := s
	s[x&1].y, s[0] = s[1].x, s[x>>1&1]
	p := &t[x&1]
	u := *p
	p.x += 5
	sum := int32(0)
	for i, v := range a {
		a[3-i] += v
		sum = sum*5 + v
	}
	return libpie.Reject(int64(sum) ^ int64(b[x>>2&3])<<7 ^ int64(s[0].x) ^ int64(s[1].y)<<3 ^ int64(u.x)<<9 ^ int64(t[0].x)<<11 ^ int64(a[0]))
}

// Orders of assignment: operands first, then from left to right.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Orders(c *libpie.Call, i uint8, x int16) libpie.Verdict {
	a := [5]int16{1, 2, 3, 4, 5}
	i &= 7
	i, a[i] = 2, x // faults where i was out of range
	a[i], i, a[0] = a[i]+1, uint8(a[1]), int16(i)
	i, j := i&3, i&1
	a[i], a[j] = a[j], a[i]
	return libpie.Reject(int64(a[0]) + int64(a[1])*7 + int64(a[2])*11 + int64(a[3])*13 + int64(a[4])*17 + int64(i))
}

func divided(x, y int8) (q, r int8, ok bool) {
	if y == 0 {
		return
	}
	q, r = x/y, x%y
	ok = q*y+r == x
	return
}

// NamedResults are set, returned bare and shadowed.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func NamedResults(c *libpie.Call, x, y int8) libpie.Verdict {
	q, r, ok := divided(x, y)
	if q, ok := q/2, !ok; ok {
		return libpie.Reject(int64(q) - 1000)
	}
	return libpie.Reject(int64(q)*1000 + int64(r) + int64(x/-1) + int64(x%-1) + int64(x/-128)<<20 + int64(y%-7)<<30 + int64(b2i(ok)))
}

func b2i(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// Falls goes through cases, and out of loops by name.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func Falls(c *libpie.Call, x uint8, y int8) libpie.Verdict {
	n := int64(y)
walk:
	for i := range x & 31 {
		switch k := i % 7; {
		case k == 1:
			n++
			fallthrough
		case n&1 == 0, k > 5:
			n *= 3
			if n > 1<<20 {
				break walk
			}
		case k == 2:
			continue walk
		case k == 3:
			for range 3 {
				if n += int64(k); n&7 == 5 {
					continue walk
				}
				if n&15 == 2 {
					break
				}
			}
			n -= 2
		default:
			n ^= int64(k) << 3
		}
		n++
	}
	return libpie.Reject(n)
}
