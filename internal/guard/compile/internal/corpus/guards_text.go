package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

// words are what text in the tests' memory may hold; one is longer than what is compared
// in pieces, one is empty.
var words = []string{"ab", "bbc", "aaaaaaaa", "", "abcab", "a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 9: "cd"}

type labelled struct {
	kind  uint8
	name  string
	least int32
	also  [2]string
}

var names = [...]labelled{
	{1, "abc", -5, [2]string{"b", "ab"}},
	{kind: 2, least: 1 << 20},
	4: {3, "aaaaaaaaaaa", 7, [2]string{1: "xyabcab"}},
}

var grid = [2][3]string{{"a", "bb", "ccc"}, {1: "ab"}}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func AnyOfWords(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m := c.Bytes(a, int(n&63))
	sum := int64(0)
	for i, w := range words {
		if w == "" && i != 3 {
			continue
		}
		if m.HasPrefix(w) {
			sum |= 1 << i
		}
		if m.HasSuffix(w) {
			sum |= 1 << (i + 12)
		}
		if m.Contains(w) {
			sum |= 1 << (i + 24)
		}
		if m.Equal(w) {
			sum |= 1 << (i + 36)
		}
		sum += int64(m.Find(w)) << 48
	}
	return libpie.Reject(sum + int64(len(words)))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func NamedRules(c *libpie.Call, a libpie.Addr, i uint8, k uint8) libpie.Verdict {
	m := c.Bytes(a, 16)
	r := names[i&7] // faults where there is none
	sum := int64(r.least)
	for _, x := range names {
		if x.name == r.name && x.kind != r.kind {
			sum += 1000
		}
		if x.also[k&1] != "" && m.Contains(x.also[k&1]) {
			sum += int64(x.kind) << 32
		}
	}
	if m.HasPrefix(r.name) || m.HasPrefix(grid[k&1][i%3]) {
		sum = -sum
	}
	if r == names[0] {
		sum++
	}
	return libpie.Reject(sum + int64(len(r.name)) + int64(r.name[k]))
}

func oneOf(m libpie.Mem, list ...string) int {
	for i := range list {
		if m.HasPrefix(list[i]) {
			return i
		}
	}
	return -len(list)
}

func total(list []int32, from int) (sum int32) {
	for i, n := range list {
		if i >= from {
			sum += n
		}
	}
	return sum
}

func double(list []int32) {
	for i := range list {
		list[i] *= 2
	}
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Lists(c *libpie.Call, a libpie.Addr, n int32, k uint8) libpie.Verdict {
	m := c.Bytes(a, 9)
	sum := int64(oneOf(m, "x", "b", "aab", "ab") + oneOf(m))
	for _, w := range [...]string{"aa", "bb", "a"} {
		if m.HasPrefix(w) {
			sum += 100
		}
	}
	for i, p := range []struct {
		b byte
		n int64
	}{{'a', 3}, {'b', 5}, {'c', 1 << 40}} {
		if m.Index(p.b) >= 0 {
			sum += p.n << i
		}
	}
	own := []int32{n, 2, 3, n * 2}
	double(own)
	own[k&3]++
	all := [3]int32{1, n, 5}
	double(all[:])
	steps := []int32{1, 10, 100}
	return libpie.Reject(sum + int64(total(own, 1)) + int64(total(all[:], 0)) + int64(total(nil, 0)) + int64(steps[k]) + int64(len(own)))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ChosenText(c *libpie.Call, a libpie.Addr, n int32, k uint8) libpie.Verdict {
	m := c.Bytes(a, 40)
	name, last := "aab", ""
	switch {
	case n == 0:
		name = "ab"
	case n < 0:
		name = words[k%10]
	}
	for i := range n & 3 {
		if m.HasPrefix(words[i]) {
			last = words[i]
		}
	}
	sum := int64(0)
	if name != last && m.Contains(name) {
		sum = 1 << 20
	}
	switch name {
	case "ab", "bbc":
		sum += 7
	case "":
		sum += 9
	}
	for i := range len(name) {
		sum += int64(name[i]) << i
	}
	return libpie.Reject(sum + int64(len(last))<<32 + int64(m.Find(last)))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Characters(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m := c.Bytes(a, int(n&31))
	sum := 0
	for i, r := range "b\x00d/" {
		if r == '/' && n&64 != 0 {
			break
		}
		sum += m.Count(byte(r)) << (4 * i)
	}
	for _, b := range []byte("cab") {
		sum += m.Index(b) << 20
	}
	for range "xyz" {
		sum += 1 << 30
	}
	return libpie.Reject(int64(sum) + int64([]byte("abc")[n&3]))
}

// pile is a stack of anything.
type pile[T any] struct {
	n  int
	at [4]T
}

func (p *pile[T]) push(v T) bool {
	if p.n == len(p.at) {
		return false
	}
	p.at[p.n] = v
	p.n++
	return true
}

func (p *pile[T]) pop() (v T, ok bool) {
	if p.n == 0 {
		return v, false
	}
	p.n--
	return p.at[p.n], true
}

type two[K, V any] struct {
	key   K
	value V
}

func reversed[K, V any](t two[K, V]) two[V, K] { return two[V, K]{t.value, t.key} }

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func GenericTypes(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	m := c.Bytes(a, int(n&15))
	var open pile[byte]
	var at pile[int32]
	for i := range m.Len() {
		switch b := m.At(i); b {
		case 'a':
			if !open.push(b) || !at.push(int32(i)) {
				return libpie.Reject(int64(-1))
			}
		case 'b':
			if _, ok := open.pop(); !ok {
				return libpie.Reject(int64(-2))
			}
		}
	}
	v, _ := at.pop()
	t := reversed(two[int32, uint8]{v, n})
	return libpie.Reject(int64(t.key)<<32 + int64(t.value) + int64(open.n))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Words(c *libpie.Call, a libpie.Addr, n uint8, i int8) libpie.Verdict {
	m, at := c.Bytes(a, int(n)), int(i)
	sum := uint64(m.Big16(at)) + uint64(m.Little16(at))*3
	if m.Len() > 9 {
		sum ^= uint64(m.Big32(6)) + m.Little64(1)
	}
	if at > 3 {
		sum -= m.Big64(at-4) + uint64(m.Little32(at+2))
	}
	return libpie.Reject(sum)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Anew(c *libpie.Call, a, b int32) libpie.Verdict {
	p, q := new(int32), new([4]int32)
	for i := range 6 {
		r := new(int32)
		*r += a + int32(i)
		q[i&3] += *r
		*p ^= q[b&3]
	}
	return libpie.Reject(*p)
}
