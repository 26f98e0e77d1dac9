package corpus

import "github.com/patch-integration-engine/pie/libpie"

//pie:id corpus

type header struct {
	kind  uint8
	flag  int8
	size  uint16
	count int32
	total uint64
	diff  int64
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Fields(c *libpie.Call, h *header, k int8) libpie.Verdict {
	if h == nil {
		return libpie.Pass()
	}
	if h.kind > 200 || h.flag == k {
		return libpie.Reject(int64(h.flag) + int64(h.size))
	}
	return libpie.Reject(int64(h.count) + int64(h.total) ^ h.diff)
}

type inner struct {
	a  uint16
	xs [3]int32
}

type outer struct {
	tag    uint32
	in     inner
	more   [2]inner
	parent *outer
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func NestedFields(c *libpie.Call, o *outer, n uint8) libpie.Verdict {
	in := &o.more[1]
	x := int64(o.in.a) + int64(o.in.xs[2]) + int64(in.a) + int64(in.xs[n&1])
	if o.tag&1 == 1 {
		x += int64(o.parent.tag)
	}
	return libpie.Reject(x)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func TargetArray(c *libpie.Call, p *[8]uint16, i int32, j uint8) libpie.Verdict {
	return libpie.Reject(p[i] + p[j&7] + p[3] + uint16(len(p)))
}

type node struct {
	_    uint32
	next libpie.Addr
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func List(c *libpie.Call, first libpie.Addr, limit uint8) libpie.Verdict {
	n := 0
	for a := first; a != 0 && n < int(limit); n++ {
		a = libpie.At[node](a).next
	}
	return libpie.Reject(n)
}

type link struct {
	next *link
	_    [2]uint32
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func ListByAddr(c *libpie.Call, l *link) libpie.Verdict {
	n := 0
	for ; l != nil && n < 5; l = l.next {
		n++
	}
	return libpie.Reject(libpie.AddrOf(l) + libpie.Addr(n))
}

type entry struct{ chunk, samples, _ uint32 }

type table struct {
	pos, last libpie.Addr
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func Table(c *libpie.Call, a libpie.Addr, n uint8) libpie.Verdict {
	t := table{a, a + libpie.Addr(n)}
	for p := t.pos; p+24 <= t.last; p += 12 {
		cur, next := libpie.At[entry](p), libpie.At[entry](p+12)
		if next.chunk < cur.chunk || uint64(next.chunk-cur.chunk)*uint64(cur.samples) > 1<<32-1 {
			return libpie.Reject(int32(p - t.pos))
		}
	}
	return libpie.Pass()
}

type far struct {
	pad  [70000]uint8
	last uint32
	_    uint8
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func FarField(c *libpie.Call, f *far, near *struct {
	pad  [4090]uint8
	x, y uint8
}) libpie.Verdict {
	return libpie.Reject(int64(f.pad[0]) + int64(f.last) + int64(near.pad[1]) + int64(near.x) + int64(near.y))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func Addresses(c *libpie.Call, h *header, a libpie.Addr) libpie.Verdict {
	if h.kind == 1 || libpie.At[inner](a).a == 0 {
		return libpie.Pass()
	}
	p := libpie.AddrOf(&h.count)
	if p == a || libpie.AddrOf(h) > a {
		return libpie.Reject(p - a)
	}
	return libpie.Reject(libpie.At[header](a-8).total + uint64(libpie.AddrOf(&libpie.At[inner](a).xs[1])))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func StructCopy(c *libpie.Call, h *header) libpie.Verdict {
	x := *h
	y := x
	y.count++
	if x.size > y.size {
		y = *h
	}
	return libpie.Reject(int64(y.count) + int64(x.count) + y.diff)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func StructEqual(c *libpie.Call, a, b libpie.Addr) libpie.Verdict {
	x, y := *libpie.At[inner](a), *libpie.At[inner](b)
	same := x == y
	if x.xs != y.xs {
		return libpie.Reject(same)
	}
	return libpie.Reject(x.a == y.a == same)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func TargetRange(c *libpie.Call, p *outer) libpie.Verdict {
	n := int32(0)
	for i, x := range p.in.xs {
		n += x * int32(i+1)
	}
	for i := range p.more {
		n ^= p.more[i].xs[i]
	}
	return libpie.Reject(n)
}

type flags struct{ a, b, c, _ bool }

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func BoolField(c *libpie.Call, f *flags) libpie.Verdict {
	if raw := libpie.At[[4]uint8](libpie.AddrOf(f)); raw[0]|raw[1]|raw[2]|raw[3] > 1 {
		return libpie.Pass() // no bools
	}
	if f.a {
		return libpie.Reject(!f.b)
	}
	if !f.c {
		return libpie.Pass()
	}
	return libpie.Log(1)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func LocalStruct(c *libpie.Call, a, b int32) libpie.Verdict {
	var s span
	s.from = a
	if b > 0 {
		s.to = b
	}
	t := s
	t.from += 2
	s = span{to: t.from}
	return libpie.Reject(s.from + s.to*3 + t.to)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func LocalArray(c *libpie.Call, a uint8, b, d int32) libpie.Verdict {
	xs := [4]int32{b, d, b ^ d}
	xs[a&3] = 7
	xs[3] += xs[(a>>2)&3]
	var bytes [16]uint8
	bytes[a%16] = a
	bytes[b&15]++
	return libpie.Reject(xs[a&3] + xs[3] + int32(bytes[a%16]) + int32(bytes[d&15]))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func Histogram(c *libpie.Call, a libpie.Addr, n uint8, i int16) libpie.Verdict {
	var seen [64]uint16
	m := c.Bytes(a, int(n))
	for k := 0; k < m.Len(); k++ {
		seen[m.At(k)&63]++
	}
	return libpie.Reject(seen[i])
}

func set(s *span, a int32) int32 {
	s.from = a
	if a > 0 {
		s.to++
	}
	return s.to
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ByPointer(c *libpie.Call, a, b int32) libpie.Verdict {
	s := span{b, b}
	n := set(&s, a)
	x := b
	p := &x
	*p += n
	return libpie.Reject(s.from + s.to*n + x)
}

func fill(xs *[4]int64, from int64) {
	for i := range xs {
		xs[i] = from * int64(i)
	}
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ArrayByPointer(c *libpie.Call, a int64, i uint8) libpie.Verdict {
	var xs [4]int64
	fill(&xs, a)
	return libpie.Reject(xs[i&3] + xs[1])
}

func third3(xs [3]int32, i int32) int32 {
	ys := xs
	ys[i&1] = 5
	return ys[2] + xs[0] + ys[0]
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func ArrayValue(c *libpie.Call, a, b, i int32) libpie.Verdict {
	xs := [3]int32{a, b, a - b}
	n := third3(xs, i)
	for k, x := range xs {
		xs[2] = 1
		n += x * int32(k)
	}
	return libpie.Reject(n + xs[i%3])
}

func weigh(xs [4]uint8, at uint8) (sum int32) {
	for k, x := range xs {
		sum += int32(x) << k
	}
	return sum + int32(xs[at])
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func ArrayParameter(c *libpie.Call, a, b uint8, at uint8) libpie.Verdict {
	return libpie.Reject(weigh([4]uint8{a, b, a ^ b, 9}, at%5) - weigh([4]uint8{b, 1}, 0))
}

type lanes struct {
	a [4]uint8
	b [4]uint32
	n int
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func StructOfArrays(c *libpie.Call, x uint32, i, j uint8) libpie.Verdict {
	var l lanes
	l.n = int(i)
	l.a[i&3] = uint8(x)
	l.b[j&3] = x
	l.b[1] ^= 5
	m := l
	m.a[2]++
	return libpie.Reject(uint64(l.b[i&3]) + uint64(m.a[j&3])<<32 + uint64(l.n))
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=pass
func ManyLive(c *libpie.Call, a, b, d, e int32, n uint8) libpie.Verdict {
	p, q, r, s := a+b, b+d, d+e, e+a
	t, u, v, w := a^b, b^d, d^e, e^a
	x, y, z := a*d, b*e, p*q
	for i := uint8(0); i < n&7; i++ {
		p, q, r, s, t, u, v, w = q+x, r+y, s+z, t, u, v^a, w^b, p
		x, y, z = y, z+d, x-e
	}
	return libpie.Reject(p ^ q*3 ^ r*5 ^ s*7 ^ t*9 ^ u*11 ^ v*13 ^ w*15 ^ x*17 ^ y*19 ^ z*21 ^ a ^ b ^ d ^ e)
}

//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78
func ManyLiveCalls(c *libpie.Call, a, b libpie.Addr, n, m uint8) libpie.Verdict {
	x, y := c.Bytes(a, int(n)), c.Bytes(b, int(m))
	i, j := x.Index('a'), y.Index('b')
	k, l := x.Count('c'), y.Count('d')
	s, ok := c.CStr(a, int(m))
	f, g := x.Find("ab"), y.Find("ba")
	if ok && x.EqualMem(y) || s.HasPrefix("a") {
		return libpie.Reject(i + j*3 + k*5 + l*7 + f*11 + g*13 + s.Len())
	}
	return libpie.Reject(i - j + k - l + f - g + int(n) + int(m))
}
