package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func If(c *libpie.Call, a, b int32) libpie.Verdict {
	if a > 10 {
		if b > 10 {
			return libpie.Reject(a)
		} else if b < 0 {
			return libpie.Reject(b)
		}
	} else if a < -10 {
		return libpie.Pass()
	}
	x := a
	if b&1 == 1 {
		x = b
	}
	return libpie.Reject(x + 1)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Switch(c *libpie.Call, a uint8, b int32) libpie.Verdict {
	n := int32(0)
	switch a {
	case 'a', 'e', 'i':
		n = 1
	case 'b':
		n = 2
		fallthrough
	case 'c':
		n += 10
	default:
		n = b
	}
	switch {
	case b < 0:
		n = -n
	case b > 1000:
		return libpie.Reject(n * 7)
	}
	switch x := n & 3; x {
	case 1:
		n++
	case 2:
		break
	case 3:
		n--
	}
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func Loops(c *libpie.Call, a uint32, b uint8) libpie.Verdict {
	sum := uint32(0)
	for i := uint8(0); i < b; i++ {
		if i%3 == 0 {
			continue
		}
		sum += a ^ uint32(i)
		if sum > 1<<31 {
			break
		}
	}
	n := a & 0xff
	for n > 10 {
		n -= 10
	}
	for {
		if n == 0 {
			break
		}
		n--
		sum++
	}
	return libpie.Reject(sum)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func NestedLoops(c *libpie.Call, a, b uint8) libpie.Verdict {
	n := 0
	for i := 0; i < int(a&15); i++ {
		for j := i; j < int(b&15); j++ {
			for k := 0; k < 3; k++ {
				n += i*j - k
			}
		}
	}
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func LabeledLoops(c *libpie.Call, a, b uint8) libpie.Verdict {
	n := 0
outer:
	for i := 0; i < 20; i++ {
		for j := 0; j < 20; j++ {
			if j == int(a) {
				continue outer
			}
			if i == int(b) {
				break outer
			}
			n += i ^ j
		}
	}
	return libpie.Reject(n)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func RangeInt(c *libpie.Call, a uint8) libpie.Verdict {
	n := 0
	for i := range int(a & 31) {
		n = n*3 + i
	}
	for range 4 {
		n++
	}
	return libpie.Reject(n)
}

// Rotate exchanges variables in a loop: the copies at its end are one cycle.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func Rotate(c *libpie.Call, x, y, z int32, n uint8) libpie.Verdict {
	for i := uint8(0); i < n&7; i++ {
		x, y, z = y, z, x
		if i&1 == 1 {
			x, y = y, x
		}
	}
	return libpie.Reject(x*31 + y*7 - z)
}

func clamp(x, low, high int32) int32 {
	if x < low {
		return low
	}
	if x > high {
		return high
	}
	return x
}

func even(x int32) bool { return x&1 == 0 }

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Inlined(c *libpie.Call, a, b int32) libpie.Verdict {
	if even(a) && !even(b) {
		return libpie.Reject(clamp(a, -100, 100))
	}
	return libpie.Reject(clamp(b, clamp(a, 0, 10), 1000))
}

func sumTo(n uint8) int {
	s := 0
	for i := 0; i < int(n); i++ {
		s += i
	}
	return s
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func InlinedTwice(c *libpie.Call, a, b uint8) libpie.Verdict {
	n := 0
	for i := range int(a & 3) {
		n += sumTo(b) + i
	}
	return libpie.Reject(n + sumTo(a))
}

func refuse(a int32) libpie.Verdict {
	if a > 100 {
		return libpie.Reject(a)
	}
	return otherwise(a)
}

func otherwise(a int32) libpie.Verdict {
	if a < 0 {
		return libpie.Log(uint32(-a))
	}
	return libpie.Pass()
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func TailVerdict(c *libpie.Call, a int32) libpie.Verdict {
	if a == 5 {
		return otherwise(-a)
	}
	return refuse(a * 2)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func PhiVerdict(c *libpie.Call, a, b int32) (v libpie.Verdict) {
	v = libpie.Pass()
	if a > b {
		v = libpie.Reject(a - b)
	} else if a == 7 {
		v = libpie.RejectErrno(libpie.EPERM, b)
	}
	return v
}

type span struct{ from, to int32 }

func (s span) length() int32       { return s.to - s.from }
func (s span) holds(x int32) bool  { return s.from <= x && x < s.to }
func (s *span) grow(n int32)       { s.to += n }
func (s span) join(o span) span    { return span{min(s.from, o.from), max(s.to, o.to)} }
func (k color) next() (n color)    { n = k + 1; return }
func (s *span) shift() (from bool) { s.from++; return s.from > s.to }

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Methods(c *libpie.Call, a, b, x int32) libpie.Verdict {
	s := span{a, b}
	if s.holds(x) {
		s.grow(x)
	}
	t := s.join(span{from: x})
	if t.shift() {
		return libpie.Reject(red.next())
	}
	return libpie.Reject(s.length() ^ t.length())
}

func divmod(a, b int32) (q, r int32, ok bool) {
	if b == 0 {
		return 0, a, false
	}
	return a / b, a % b, true
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func MultipleResults(c *libpie.Call, a, b int32) libpie.Verdict {
	q, r, ok := divmod(a, b)
	if !ok {
		return libpie.Reject(r)
	}
	_, r2, _ := divmod(q, 7)
	return libpie.Reject(q ^ r ^ r2)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Panics(c *libpie.Call, a int32) libpie.Verdict {
	if a > 100 {
		panic("too large")
	}
	return libpie.Reject(a)
}

func pick(cond bool, x, y uint32) uint32 {
	if cond {
		return x
	}
	return y
}

// Threaded computes between a condition and its use: a jump that knows the
// condition must not miss that.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func Threaded(c *libpie.Call, a uint32, b, d int8, e int64) libpie.Verdict {
	x := a
	for range 3 {
		x = pick(x < x>>(a&63) || b <= d && e >= int64(d), -x, x)
		if x == 44 {
			break
		}
	}
	return libpie.Reject(x)
}
