package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Callers(c *libpie.Call, a int32) libpie.Verdict {
	n := int64(a)
	if c.CalledFrom("parse") {
		n ^= 1
	}
	if c.CalledFrom("lib.c:emit") {
		n ^= 2
	}
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Globals(c *libpie.Call, a uint8) libpie.Verdict {
	h := libpie.GlobalOf[header](c, "current")
	if h.kind > a {
		return libpie.Reject(h.count)
	}
	return libpie.Reject(c.Bytes(c.Global("table"), int(a)).Count('a'))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Recursion(c *libpie.Call, most uint16) libpie.Verdict {
	if n := c.StackUsed(); n > int(most) {
		return libpie.Reject(n)
	}
	return libpie.Pass()
}

type narrow interface {
	~int8 | ~uint8 | ~int16 | ~uint16
}

type small int8

func (s small) twice() small { return 2 * s }

func clamped[T narrow](x, least, most T) (T, bool) {
	if x < least || x > most {
		return min(max(x, least), most), true
	}
	return x, false
}

func folded[T narrow, U int64 | uint32](a libpie.Addr, start U) U {
	var last [3]T
	for i := range last {
		last[i] = *libpie.At[T](a + libpie.Addr(i))
		start = start<<3 ^ U(last[i])/5
	}
	x, y := exchanged(last[0], last[2])
	return start + U(x>>1-y)
}

func exchanged[T any](x, y T) (T, T) { return y, x }

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Generic(c *libpie.Call, a libpie.Addr, x int8, y uint16, z small) libpie.Verdict {
	i, cut := clamped(x, -5, 90)
	j, _ := clamped(y, 3, 60000)
	k, _ := clamped(z, -100, 7)
	n := int64(i) + int64(j)*3 + int64(k.twice())*5
	if cut {
		return libpie.Reject(n)
	}
	n += folded[int8](a, n) + int64(folded[uint16](a, uint32(y)))
	_, b := exchanged(cut, x > 3)
	p, q := exchanged(libpie.At[small](a), nil)
	return libpie.Reject(n ^ int64(*q) + int64(b2i(b != (p == nil))))
}
