package compile

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// program writes random guards with a variable of each kind: v0 is of kinds[0].
// The memory they read is 64 bytes at a; all else of the language they mix as no
// person would.
type program struct {
	strings.Builder
	r      *rand.Rand
	names  int
	indent string
	labels []string // of the loops around
}

var kinds = []string{"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "int", "uint"}

const randomPrelude = `package random

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

func cut(m libpie.Mem, n int64, b uint8) libpie.Mem {
	if n >= 0 && n < int64(m.Len()) { return m.Slice(int(n), m.Len()) }
	if i := m.Index(b); i >= 0 { return m.Slice(0, i) }
	return m
}
`

func (p *program) line(format string, args ...any) {
	fmt.Fprintf(p, p.indent+format+"\n", args...)
}

func (p *program) v(kind int) string { return fmt.Sprintf("v%d", kind) }

func (p *program) kind() int { return p.r.IntN(len(kinds)) }

func (p *program) one(of ...string) string { return of[p.r.IntN(len(of))] }

func (p *program) name(of string) string {
	p.names++
	return fmt.Sprintf("%s%d", of, p.names)
}

// expr is an expression of a kind whose value is not constant.
func (p *program) expr(kind, depth int) string {
	if depth == 0 {
		return p.v(kind)
	}
	x, d := p.expr(kind, depth-1), depth-1
	switch p.r.IntN(14) {
	case 0, 1, 2:
		return fmt.Sprintf("(%s %s %s)", x, p.one("+", "-", "*", "&", "|", "^", "&^"), p.expr(kind, d))
	case 3:
		return fmt.Sprintf("(%s %s %d)", x, p.one("+", "-", "*", "&", "|", "^", "&^", "/"), 1+p.r.IntN(127))
	case 4:
		return fmt.Sprintf("(%s %s (%s|1))", x, p.one("/", "%"), p.expr(kind, d))
	case 5:
		return fmt.Sprintf("(%s %s (%s & %d))", x, p.one("<<", ">>"), p.expr(p.kind(), d), []int{7, 31, 63, 127}[p.r.IntN(4)])
	case 6:
		return fmt.Sprintf("%s(%s)", kinds[kind], p.expr(p.kind(), d))
	case 7:
		return fmt.Sprintf("%s(pick(%s, int64(%s), int64(%s)))", kinds[kind], p.cond(d), x, p.v(p.kind()))
	case 8:
		return fmt.Sprintf("%s(%s)", p.one("-", "^"), x)
	case 9:
		return fmt.Sprintf("(%s %s %d)", x, p.one("<<", ">>"), p.r.IntN(70))
	case 10: // an unsigned count of any size, or rarely one that may be negative or a divisor that may be 0
		switch p.r.IntN(6) {
		case 0:
			return fmt.Sprintf("(%s %s %s)", x, p.one("<<", ">>"), p.v(p.kind()))
		case 1:
			return fmt.Sprintf("(%s %s %s)", x, p.one("/", "%"), p.v(kind))
		}
		return fmt.Sprintf("(%s %s %s)", x, p.one("<<", ">>"), p.expr(1+2*p.r.IntN(5), d))
	case 11:
		return fmt.Sprintf("%s(%s)", kinds[kind], p.read(d))
	}
	return fmt.Sprintf("%s(%s, %s)", p.one("min", "max"), x, p.v(kind))
}

// read is an expression that looks at memory, a table, an array or a struct.
func (p *program) read(d int) string {
	i := p.expr(p.kind(), d)
	switch p.r.IntN(13) {
	case 12:
		return fmt.Sprintf("turned(%s(%s), v%d)", p.one("int8", "uint16", "int64"), i, []int{1, 4}[p.r.IntN(2)])
	case 0:
		return fmt.Sprintf("m.At(int(%s&%d))", i, []int{15, 31}[p.r.IntN(2)])
	case 1:
		return fmt.Sprintf("m.%s(uint8(%s&3))", p.one("Index", "Count"), i)
	case 2: // always there: natively Go drops a read that nothing depends on
		return fmt.Sprintf("*libpie.At[%s](a + libpie.Addr(%s&%d))", p.one(kinds...), i, []int{7, 31, 48}[p.r.IntN(3)])
	case 3:
		return fmt.Sprintf("table[%s&15]", i)
	case 4:
		return fmt.Sprintf("steps[%s&3].by", i)
	case 5:
		return fmt.Sprintf("arr[%s&7]", i)
	case 6:
		return fmt.Sprintf("dp.q[%s&1].%s", i, p.one("x", "y"))
	case 7:
		return p.one("dp.a[2]", "dp.more", "dp.p.sum()", "pr.turned().y", "rec.n", "rec.size", "rec.p[2].y", "m.Len()", "lv.next()", `"abcd"[v1&3]`)
	case 8:
		return fmt.Sprintf("rec.p[%s&3].x", i)
	case 9:
		return fmt.Sprintf("cut(m, int64(%s), %s).Len()", i, p.v(1))
	case 10:
		return fmt.Sprintf("mix([4]int32{v4, int32(%s), 3, arr[1]}, v1)", i)
	}
	return fmt.Sprintf("sum(%s, int64(%s))", p.v(1), i)
}

func (p *program) cond(depth int) string {
	if depth > 0 && p.r.IntN(3) == 0 {
		return fmt.Sprintf("(%s %s !%s)", p.cond(depth-1), p.one("&&", "||"), p.cond(depth-1))
	}
	if p.r.IntN(5) == 0 {
		return p.one("ok", "rec.flag", "steps[v3&3].ok", "(pr == dp.p)", "(dp.q[0] == dp.q[1])", "(*dp == changed(*dp, v6&1))", `m.Contains("ab")`, `m.HasPrefix("aab")`, `m.HasSuffix("c")`, "m.EqualMem(cut(m, v6, v1))", "(lv == second)", "(lv < third)")
	}
	kind := p.kind()
	op := p.one("<", "<=", "==", "!=", ">", ">=")
	if p.r.IntN(3) == 0 {
		return fmt.Sprintf("(%s %s %d)", p.expr(kind, max(depth, 0)), op, p.r.IntN(128))
	}
	return fmt.Sprintf("(%s %s %s)", p.expr(kind, max(depth, 0)), op, p.v(kind))
}

func (p *program) block(depth int) {
	p.indent += "\t"
	for range 1 + p.r.IntN(3) {
		p.statement(depth)
	}
	p.indent = p.indent[1:]
}

func (p *program) statement(depth int) {
	kind := p.kind()
	switch n := p.r.IntN(18); {
	case n < 4 || depth == 0:
		p.assign(kind)
	case n < 6:
		p.line("if %s {", p.cond(2))
		p.block(depth - 1)
		p.line("} else {")
		p.block(depth - 1)
		p.line("}")
	case n < 9:
		p.loop(depth)
	case n < 11:
		p.choice(kind, depth)
	case n < 14:
		p.change(kind)
	case n == 14:
		x, y := p.name("x"), p.name("y")
		p.line("if %s, %s := %s, %s; %s < %s {", x, y, p.expr(kind, 2), p.expr(kind, 1), x, y)
		p.line("\tv%d := %s(%s)", kind, kinds[kind], x) // another variable of that name
		p.block(depth - 1)
		p.line("\tv6 += int64(v%d)", kind)
		p.line("}")
	case n == 15:
		p.line("{ low, high, yes := parts(%s, %s); v4 ^= low; v2 += high; ok = ok != yes }", p.expr(6, 2), p.expr(1, 1))
	case n == 16:
		p.line("if n := %s; n %s %d { m = cut(m, n, %s) }", p.expr(6, 2), p.one("<", ">="), p.r.IntN(40), p.v(1))
	default:
		p.line("if %s { return libpie.Reject(%s) }", p.cond(1), p.expr(kind, 1))
	}
}

func (p *program) assign(kind int) {
	x := p.v(kind)
	switch p.r.IntN(6) {
	case 0:
		other := p.v(p.r.IntN(4))
		p.line("%s, pr.x, %s = %s, uint16(%s), %s", x, "v4", p.expr(kind, 2), other, p.expr(4, 1))
	case 1:
		p.line("%s %s= %s", x, p.one("+", "-", "*", "^", "&", "|", "&^"), p.expr(kind, 3))
	case 2:
		p.line("%s%s", x, p.one("++", "--"))
	default:
		p.line("%s = %s", x, p.expr(kind, 3))
	}
}

// change changes what is no number.
func (p *program) change(kind int) {
	switch i := p.expr(kind, 1); p.r.IntN(12) {
	case 0:
		p.line("arr[v1&7] = %s", p.expr(4, 2))
		p.line("v4 ^= arr[%s&%d]", p.v(kind), []int{7, 7, 7, 15}[p.r.IntN(4)])
	case 1:
		p.line("pr.x, pr.y = pr.y+%s, %s", p.expr(3, 1), p.expr(3, 2))
		p.line("pr.add(v3)")
	case 2:
		p.line("dp.change(int64(%s))", i)
	case 3:
		p.line("*dp = changed(*dp, int64(%s))", i)
	case 4:
		p.line("{ was := *dp; dp.q[%s&1].x++; v6 += was.q[1].sum() - dp.q[0].sum() }", i)
	case 5:
		p.line("arr[%s&7], arr[0] = arr[0], arr[%s&7]", i, p.v(p.kind()))
	case 6:
		p.line("clear4(&arr, %s)", p.expr(1, 1))
	case 7:
		p.line("{ was := arr; arr[%s&7]++; for k, x := range was { v6 = v6*3 + int64(x) ^ int64(arr[k]) } }", i)
	case 8:
		p.line("lv = lv.next(); ok = %s", p.cond(1))
	case 9:
		p.line("{ q := &dp.q[v1&1]; r := *q; q.add(%s); v6 ^= q.sum() - r.sum() }", p.expr(3, 1))
	case 10:
		p.line("pr, dp.p = dp.p, pr.turned()")
	default:
		p.line("dp.p, dp.a = pair{%s, dp.p.x}, [3]int8{1: %s}", p.expr(3, 1), p.expr(0, 1))
	}
}

func (p *program) loop(depth int) {
	label, i := p.name("loop"), p.name("i")
	p.labels = append(p.labels, label)
	p.line("%s:", label)
	switch p.r.IntN(6) {
	case 0, 1:
		p.line("for %s := uint8(0); %s < %d; %s++ {", i, i, 1+p.r.IntN(5), i)
	case 2:
		p.line("for %s := range %s & 3 {", i, p.expr(1, 1))
	case 3:
		p.line("for %s := int8(%d); %s >= 0; %s -= %d {", i, 3+p.r.IntN(5), i, i, 2+p.r.IntN(3))
	case 4:
		p.line("for _, %s := range [3]uint8{1, v1, uint8(v4)} {", i)
	default:
		p.line("for %s := (pair{1, %s & 3}); %s.x <= %s.y; %s.add(1) {", i, p.v(3), i, i, i)
		p.line("\tv6 += %s.sum()", i)
		i = i + ".x"
	}
	p.line("\tv1 ^= uint8(%s)", i)
	p.block(depth - 1)
	p.line("\tif %s { %s %s }", p.cond(1), p.one("break", "continue"), p.one(p.labels...))
	p.line("\tif %s { %s %s }", p.cond(0), p.one("break", "continue"), label)
	p.line("}")
	p.labels = p.labels[:len(p.labels)-1]
}

func (p *program) choice(kind, depth int) {
	if p.r.IntN(2) == 0 {
		p.line("switch %s {", p.expr(kind, 1))
		p.line("case %d, %d:", p.r.IntN(60), 60+p.r.IntN(60))
	} else {
		p.line("switch x := %s; {", p.expr(kind, 1))
		p.line("case x < %d:", p.r.IntN(100))
	}
	p.block(depth - 1)
	if p.r.IntN(2) == 0 {
		p.line("\tfallthrough")
	}
	p.line("default:")
	p.block(depth - 1)
	p.line("}")
}

// guard writes guard number n.
func (p *program) guard(n int) {
	p.line("\n//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78")
	p.line("func G%d(c *libpie.Call, a libpie.Addr, v0 int8, v1 uint8, v2 int16, v4 int32, v5 uint32) libpie.Verdict {", n)
	p.line("\tv3, v6, v7 := uint16(v5>>7), int64(v4)<<20^int64(v2), uint64(v5)*0x9e3779b97f4a7c15")
	p.line("\tv8, v9, ok, lv := int(v2)<<v1, uint(v7>>9), v0 > 3, first")
	p.line("\tvar arr [8]int32")
	p.line("\tvar pr pair")
	p.line("\tm, rec, dp := c.Bytes(a, 40), libpie.At[record](a), &deep{more: v6}")
	p.block(3)
	p.block(3)
	p.block(2)
	p.line("\tv7 ^= uint64(dp.p.sum()) ^ uint64(dp.more)*3 ^ uint64(m.Len()) ^ uint64(lv)<<50 ^ uint64(v8)*7 ^ uint64(v9)*5 ^ uint64(dp.a[1])")
	p.line("\tif ok { v7 ^= rec.next }")
	p.line("\treturn libpie.Reject(int64(v0) ^ int64(v1)*3 ^ int64(v2)*5 ^ int64(v3)*7 ^ int64(v4)*9 ^ int64(v5)*11 ^ v6*13 ^ int64(v7)*15 ^ int64(arr[v1&7]) ^ int64(pr.y))")
	p.line("}")
}
