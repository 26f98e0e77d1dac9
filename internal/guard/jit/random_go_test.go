package jit

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// goProgram writes random guards with a variable of each kind: v0 is of goKinds[0].
// The memory they read is 64 bytes at a; all else of the language they mix as no
// person would.
type goProgram struct {
	strings.Builder
	r      *rand.Rand
	names  int
	indent string
	labels []string        // of the loops around
	goABI  bool            // the guards are of Go functions
	caps   map[string]bool // what the guard asks for
	acts   int             // how many acts it may still have
	silent bool            // in a function that has no result
}

var goKinds = []string{"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "int", "uint"}

func (p *goProgram) line(format string, args ...any) {
	fmt.Fprintf(p, p.indent+format+"\n", args...)
}

func (p *goProgram) v(kind int) string { return fmt.Sprintf("v%d", kind) }

func (p *goProgram) kind() int { return p.r.IntN(len(goKinds)) }

func (p *goProgram) one(of ...string) string { return of[p.r.IntN(len(of))] }

func (p *goProgram) name(of string) string {
	p.names++
	return fmt.Sprintf("%s%d", of, p.names)
}

// expr is an expression of a kind whose value is not constant.
func (p *goProgram) expr(kind, depth int) string {
	if depth == 0 {
		return p.leaf(kind)
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
		return fmt.Sprintf("%s(%s)", goKinds[kind], p.expr(p.kind(), d))
	case 7:
		return fmt.Sprintf("%s(pick(%s, int64(%s), int64(%s)))", goKinds[kind], p.cond(d), x, p.v(p.kind()))
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
		return fmt.Sprintf("%s(%s)", goKinds[kind], p.read(d))
	}
	return fmt.Sprintf("%s(%s, %s)", p.one("min", "max"), x, p.v(kind))
}

// leaf is a variable of a kind, or another one that is made one of it.
func (p *goProgram) leaf(kind int) string {
	if other := p.kind(); p.r.IntN(2) == 0 && other != kind {
		return fmt.Sprintf("%s(%s)", goKinds[kind], p.v(other))
	}
	return p.v(kind)
}

// read is an expression that looks at memory, a table, an array or a struct.
func (p *goProgram) read(d int) string {
	i := p.expr(p.kind(), d)
	switch p.r.IntN(19) {
	case 18:
		return fmt.Sprintf("m.%s(int(%s&%d))", p.one("Big16", "Big32", "Big64", "Little16", "Little32", "Little64"), i, []int{15, 31}[p.r.IntN(2)])
	case 12:
		return fmt.Sprintf("turned(%s(%s), v%d)", p.one("int8", "uint16", "int64"), i, []int{1, 4}[p.r.IntN(2)])
	case 13:
		kind := []int{0, 3, 4, 6}[p.r.IntN(4)]
		return fmt.Sprintf("folded([4]%s{%s, 1, %s(%s), 0}, v1)", goKinds[kind], p.v(kind), goKinds[kind], i)
	case 14:
		return fmt.Sprintf("hashed(m, int(%s))", i)
	case 15:
		return fmt.Sprintf("walked(a, %s)", p.v(1))
	case 16:
		return p.one("c.Tid()", "c.Now()", "c.ReturnAddr()", "*libpie.GlobalOf[uint32](c, \"g\")", "libpie.Arg[int16](c, 2)", "libpie.Arg[uint64](c, 4)", "pairs(m)", `m.Find("bc")`, `m.Find("aaaa")`)
	case 17:
		kind := p.kind()
		return fmt.Sprintf("both(%s, %s, %s(%s))", p.cond(0), p.v(kind), goKinds[kind], i)
	case 0:
		return fmt.Sprintf("m.At(int(%s&%d))", i, []int{15, 31}[p.r.IntN(2)])
	case 1:
		return fmt.Sprintf("m.%s(uint8(%s&3))", p.one("Index", "Count"), i)
	case 2: // always there: natively Go drops a read that nothing depends on
		return fmt.Sprintf("*libpie.At[%s](a + libpie.Addr(%s&%d))", p.one(goKinds...), i, []int{7, 31, 48}[p.r.IntN(3)])
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

func (p *goProgram) cond(depth int) string {
	if depth > 0 && p.r.IntN(3) == 0 {
		return fmt.Sprintf("(%s %s !%s)", p.cond(depth-1), p.one("&&", "||"), p.cond(depth-1))
	}
	if p.r.IntN(5) == 0 {
		return p.one("ok", "rec.flag", "steps[v3&3].ok", "(pr == dp.p)", "(dp.q[0] == dp.q[1])", "(*dp == changed(*dp, v6&1))", `m.Contains("ab")`, `m.HasPrefix("aab")`, `m.HasSuffix("c")`, `m.Equal("aab")`, `m.HasPrefix("\x01\x00\x05")`, "(c.StackUsed() < 1<<20)", `c.CalledFrom("near")`, "m.EqualMem(cut(m, v6, v1))", "(lv == second)", "(lv < third)")
	}
	kind := p.kind()
	op := p.one("<", "<=", "==", "!=", ">", ">=")
	if p.r.IntN(3) == 0 {
		return fmt.Sprintf("(%s %s %d)", p.expr(kind, max(depth, 0)), op, p.r.IntN(128))
	}
	return fmt.Sprintf("(%s %s %s)", p.expr(kind, max(depth, 0)), op, p.v(kind))
}
