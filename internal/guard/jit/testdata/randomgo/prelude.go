package random

//pie:id random

import "github.com/patch-integration-engine/pie/libpie"

type pair struct{ x, y uint16 }

type alias struct{ x, y uint16 }

type deep struct {
	p    pair
	_    uint8
	a    [3]int8
	q    [2]pair
	more int64
}

type record struct {
	kind uint8
	_    uint8
	size uint16
	flag bool
	n    int32
	p    [4]pair
	next uint64
}

const (
	first level = iota - 1
	second
	third
)

type level int8

var table = [16]int16{3, -7, 5: 500, 9: -30000, 12: 77}

var steps = [4]struct { by int8; ok bool }{{1, true}, {-2, false}, {by: 100}, {}}

var words = []string{"ab", "b", "", "aaaa", "cab", "aaaaaaaaaaaaa", 7: "bcabcabcabcabcabcabcabcabcabcabcabcabca"}

var rules = [...]struct { name string; least int8; also [2]string }{{"a", 3, [2]string{"b"}}, {name: "abc", least: -9}, {"", 1, [2]string{"cab", "b"}}}

type ring[T any] struct { n uint8; at [4]T }

func (r *ring[T]) put(v T) { r.at[r.n&3] = v; r.n++ }

func (r *ring[T]) last(back uint8) (v T, ok bool) { if back >= r.n { return v, false }; return r.at[(r.n-1-back)&3], true }

func anyOf(m libpie.Mem, list ...string) (n int64) {
	for i, w := range list { if m.HasPrefix(w) || m.HasSuffix(w) { n += 1 << i }; if m.Equal(w) { n++ } }
	return n
}

func total(list []int32, from uint8) (n int32) { for i, x := range list { if i >= int(from) { n = n*3 + x } }; return n }

func halve(list []int32) { for i := range list { list[i] /= 2 } }

func (p *pair) add(n uint16) { p.x += n; if p.x > 1000 { p.y-- } }

func (p *pair) sum() int64 { return int64(p.x)*3 + int64(p.y) }

func (p pair) turned() pair { p.x, p.y = p.y, p.x+1; return p }

func (l level) next() level { if l == third { return first }; return l + 1 }

func pick(cond bool, x, y int64) int64 { if cond { return x }; return y }

func sum(n uint8, x int64) int64 { for i := range n & 7 { x = x*3 + int64(i) }; return x }

func parts(x int64, y uint8) (low int32, high int16, ok bool) {
	low = int32(x)
	if y > 9 { return }
	high, ok = int16(x>>32), x < 0
	if ok { low, y := low+1, high; return low ^ int32(y), high, true }
	return
}

func (d *deep) change(by int64) { d.more += by; d.a[by&1+1]++; d.q[1] = d.p.turned(); d.p.add(uint16(by)) }

func changed(d deep, by int64) deep { d.change(by); q := (*alias)(&d.p); q.y ^= uint16(by); return d }

func mix(a [4]int32, at uint8) (n int32) { for i, v := range a { a[(i+int(at))&3] += v; n = n*5 + v }; return n }

func clear4(a *[8]int32, at uint8) { for i := at & 7; i < 8; i += 3 { a[i] = -a[i] } }

func turned[T int8 | uint16 | int64, U ~uint8 | ~int32](x T, y U) T { if int64(x) > int64(y) { return x << (y & 7) }; return -x / T(y&7+3) }

func applied(f func(int64) int64, x int64) int64 { return f(f(x) ^ 3) }

func counted(n uint8, f func(i uint8) bool) (seen int) {
	for i := range n & 7 { if !f(i) { return seen }; seen++ }
	return -seen
}

func counter(by int64) func() int64 { n := by; return func() int64 { n += by; by ^= 1; return n } }

func cut(m libpie.Mem, n int64, b uint8) libpie.Mem {
	if n >= 0 && n < int64(m.Len()) { return m.Slice(int(n), m.Len()) }
	if i := m.Index(b); i >= 0 { return m.Slice(0, i) }
	return m
}

type number interface {
	~int8 | ~int32 | ~uint16 | ~int64
}

func folded[T number](xs [4]T, at uint8) (n T) { for i := range xs { n = n*3 + xs[(i+int(at))&3] }; return n }

func both[T any](first bool, x, y T) T { if first { return x }; return y }

func walked(a libpie.Addr, n uint8) (sum uint32) {
	end := a + libpie.Addr(n&31)
	for p := a; p+4 <= end; p += 3 { sum = sum<<3 ^ sum>>29 ^ *libpie.At[uint32](p) }
	return sum
}

func hashed(m libpie.Mem, from int) (h uint64) {
	for i := from & 15; i < m.Len(); i++ { h = h*31 + uint64(m.At(i)) }
	return h
}

func longest(m libpie.Mem) (best, run int) {
	for i := range m.Len() {
		switch b := m.At(i); {
		case b >= 'a' && b <= 'c': run++
		case b == 0: return max(best, run), i
		default: best, run = max(best, run), 0
		}
	}
	return
}

func pairs(m libpie.Mem) (n int) {
	for at := m.Find("ab"); at >= 0; at = m.Find("ab") { n++; m = m.Slice(at+2, m.Len()) }
	return n
}

var (
	hits    libpie.Counter
	seen    = libpie.NewMap[uint16, int32](5)
	wide    = libpie.NewMap[int64, uint64](60)
	byFlag  = libpie.NewMap[bool, uint8](2)
	depth   = libpie.NewPerThread[int16](8)
	rate    = libpie.NewLimiter[uint8](libpie.Limit{Calls: 5, Seconds: 1, Burst: 3, Keys: 4, Full: libpie.FullRefuse})
	lenient = libpie.NewLimiter[libpie.Addr](libpie.Limit{Calls: 1, Seconds: 2, Burst: 1, Keys: 3, Full: libpie.FullAllow})
)
