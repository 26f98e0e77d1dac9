package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

// Readers read on from where the last one stopped: literals that use variables around them,
// and each other.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Readers(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m, at, short := c.Bytes(a, int(n)), 0, false
	u8 := func() uint64 {
		if at >= m.Len() {
			short = true
			return 0
		}
		at++
		return uint64(m.At(at - 1))
	}
	u16 := func() uint64 { return u8()<<8 | u8() }
	skip := func(n uint64) {
		if n > uint64(m.Len()-at) {
			short = true
			return
		}
		at += int(n)
	}
	tooShort := func() libpie.Verdict { return libpie.Reject(int64(-at)).WithCode(uint32(at)) }
	sum := uint64(0)
	for range 4 {
		kind := u8()
		sum = sum*31 + kind
		if kind&1 == 0 {
			skip(u16() & 3)
		}
		if short {
			return tooShort()
		}
	}
	return libpie.Reject(sum)
}

// Rounds have variables of their own, which literals change.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Rounds(c *libpie.Call, a, b int8) libpie.Verdict {
	total := int64(0)
	for i := 0; i < 6; i++ {
		j := i * 3
		more := func(by int) int {
			j += by
			i++
			total += int64(j)
			return j
		}
		if more(int(a)) > more(int(b)) {
			total ^= int64(i)
		}
	}
	for i := range 5 {
		add := func() { total += int64(i) * int64(b) }
		add()
		if i == int(a&7) {
			continue
		}
		add()
	}
	var last func() int64
	for i := 0; ; i++ {
		last = func() int64 { total++; return int64(i) }
		if i > int(a) || i > 20 {
			break
		}
	}
	product := last() * last() // in total+last() Go may read total first, or last
	return libpie.Reject(total + product)
}

func each(n int, f func(i int) bool) (seen int) {
	for i := range n {
		if !f(i) {
			return seen
		}
		seen++
	}
	return seen
}

func twice(f func(int32) int32, x int32) int32 { return f(f(x)) }

func negated(x int32) int32 { return -x }

func times[T ~int32 | ~int64](x T) T { return x * 7 }

func adder(by int32) func(int32) int32 {
	sum := by
	return func(x int32) int32 {
		sum += x
		return sum
	}
}

type predicate func(int) bool

func (p predicate) none(n int) bool { return each(n, func(i int) bool { return !p(i) }) == n }

// Given are functions that are given to others, returned, and named.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Given(c *libpie.Call, a libpie.Addr, x int32, n uint8) libpie.Verdict {
	zeros := 0
	seen := each(int(n&15), func(i int) bool {
		b := *libpie.At[uint8](a + libpie.Addr(i))
		if b == 0 {
			zeros++
		}
		return b != 'x'
	})
	flip := negated
	y := twice(flip, x) + twice(times[int32], x) + twice(func(v int32) int32 { return v ^ x }, x+1)
	one, other := adder(x), adder(int32(n))
	y += one(1) - other(2)*one(3)
	p := predicate(func(i int) bool { return int32(i) == x })
	return libpie.Reject(int64(y)*1000 + int64(seen)*16 + int64(zeros) + int64(b2i(p.none(int(n&7)))))
}

type counts struct {
	of    [4]int32
	total int32
}

// Captured are variables of every kind: arrays that are indexed, structs, pointers,
// memory, a verdict, and what was given to the guard.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Captured(c *libpie.Call, r *header, a libpie.Addr, n int32) libpie.Verdict {
	var buf [8]uint8
	var sums counts
	m := c.Bytes(a, 8)
	p, word, far := &sums, "GET", &counts{total: 3}
	no := libpie.Reject(int64(-3))
	fill := func(from int) {
		for i := range buf {
			buf[i] = m.At((from + i) & 7)
			p.of[i&3] += int32(buf[i])
			p.total++
		}
		far.of[from&3]++
		n++
	}
	fill(int(n & 7))
	func() {
		fill(1)
		if m.HasPrefix(word) {
			sums.total = -sums.total
			m = m.Slice(3, 8)
		}
	}()
	if func() bool { return r.kind == uint8(n) && m.Len() < 8 }() {
		return no
	}
	value := func() int64 {
		if sums.total > 0 {
			return int64(sums.of[n&3])
		}
		return int64(buf[n&7])
	}()
	list, names := []int32{3, n, 5, 1}, []string{"GET", "a", "P"}
	value += func() (sum int64) {
		for i, x := range list {
			sum += int64(x) * int64(i)
		}
		list[n&3]++
		for _, name := range names {
			if m.HasPrefix(name) {
				return int64(list[1]) - sum
			}
		}
		return sum + int64(list[n&1])
	}()
	return libpie.Reject(value<<8 + int64(n&0xff) ^ int64(far.of[2])<<40)
}

// Changing rewrites in a literal.
//
//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Changing(c *libpie.Call, a, b int64) libpie.Verdict {
	set := func(v int64) { c.SetArg(0, v) }
	if a > b {
		set(a - b)
		return libpie.Rewrite()
	}
	each(2, func(i int) bool {
		c.SetArg(1, int64(i)+a)
		return a != 7
	})
	return libpie.Rewrite()
}
