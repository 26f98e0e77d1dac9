package compile

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// hostile are files made to make the compiler work or grow. Each must end in
// bounded time and memory; whether in an error does not matter.
func hostile() map[string]string {
	r := strings.Repeat
	body := func(s string) string {
		return prelude + "\nfunc G(c *libpie.Call, n int, r *rec, a libpie.Addr) libpie.Verdict {\n" + s + "\nreturn libpie.Reject(n) }\n"
	}
	doubled := func(first, format, last string, times int) string {
		var b strings.Builder
		b.WriteString(first)
		for i := range times {
			fmt.Fprintf(&b, format, i+1, i)
		}
		return b.String() + fmt.Sprintf(last, times)
	}
	return map[string]string{
		"parentheses":      body("n = " + r("(", 100_000) + "n" + r(")", 100_000)),
		"unary":            body("n = " + r("-", 1) + r(" ^", 100_000) + "n"),
		"sum":              body("n = n" + r("+n", 100_000)),
		"and":              body("if n > 1" + r(" && n > 2", 20_000) + " { n++ }"),
		"blocks":           body(r("{", 100_000) + r("}", 100_000)),
		"ifs nested":       body(r("if n > 1 { n++;", 10_000) + r("}", 10_000)),
		"loops nested":     body(r("for n > 1 { n--;", 10_000) + r("}", 10_000)),
		"loops nested 400": body(r("for n > 1 { n--;", 120) + r("}", 120)),
		"else if":          body("if n == 0 { n++ }" + r(" else if n == 1 { n++ }", 8_000)),
		"ifs":              body(r("if n > 1 { n++ }\n", 10_000)),
		"ifs 1900":         body(r("if n > 1 { n++ }\n", 1900)),
		"loops 1900":       body(r("for n > 1 { n-- }\n", 1900)),
		"switch 1900":      body("switch n {" + r("case n: n++\n", 1900) + "}"),
		"and 1900":         body(r("if n > 1 && n < 5 || n == 9 { n++ }\n", 600)),
		"loops":            body(r("for n > 1 { n-- }\n", 10_000)),
		"calls":            body(r("n += c.Bytes(a, n).Count(1)\n", 7_000)),
		"loads":            body(r("n += int(r.a)\n", 15_000)),
		"switch":           body("switch n {" + r("case n: n++\n", 12_000) + "}"),
		"stars":            prelude + "\nfunc G(c *libpie.Call, p " + r("*", 100_000) + "int) libpie.Verdict { return libpie.Pass() }",
		"arrays":           prelude + "\nfunc G(c *libpie.Call, p *" + r("[2]", 100_000) + "int) libpie.Verdict { return libpie.Pass() }",
		"arrays 300":       prelude + "\nfunc G(c *libpie.Call, p *" + r("[2]", 300) + "int) libpie.Verdict { return libpie.Reject(p" + r("[1]", 300) + ") }",
		"wide array":       prelude + "\nfunc G(c *libpie.Call, p *[1<<40][1<<40]int) libpie.Verdict { return libpie.Reject(p[1][1]) }",
		"struct doubling":  prelude + doubled("\ntype t0 struct { x int }\n", "type t%d struct { x, y t%d }\n", "func G(c *libpie.Call, p *t%d) libpie.Verdict { x := *p; return libpie.Pass() }\n", 60),
		"struct doubling, compared": prelude + doubled("\ntype t0 struct { x int }\n", "type t%d struct { x, y t%d }\n",
			"func G(c *libpie.Call, p, q *t%d) libpie.Verdict { if *p == *q { return libpie.RejectVoid() }; return libpie.Pass() }\n", 60),
		"struct chain":                  prelude + doubled("\ntype t0 struct { x int }\n", "type t%d struct { x t%d }\n", "func G(c *libpie.Call, p *t%d) libpie.Verdict { x := *p; y := x; return libpie.Reject(y == x) }\n", 3000),
		"struct chain 2000":             prelude + doubled("\ntype t0 struct { x int }\n", "type t%d struct { x t%d }\n", "func G(c *libpie.Call, p *t%d) libpie.Verdict { x := *p; y := x; return libpie.Reject(y == x) }\n", 2000),
		"struct chain 1000":             prelude + doubled("\ntype t0 struct { x int }\n", "type t%d struct { x t%d }\n", "func G(c *libpie.Call, p *t%d) libpie.Verdict { x := *p; y := x; return libpie.Reject(y == x) }\n", 1000),
		"struct doubling by shadowing":  prelude + doubled("\ntype t0 struct { x int }\n", "type t%d struct { x, y t%d }\n", "func G(c *libpie.Call, p *t%[1]d) libpie.Verdict { type t0 struct { x *t%[1]d; y t%[1]d }; return libpie.Pass() }\n", 60),
		"generic functions":             prelude + doubled("\nfunc f0[T, U any](x T, y U) {}\n", "func f%d[T, U any](x T, y U) { f%[2]d(x, y); f%[2]d(y, x); f%[2]d(x, x) }\n", "func G(c *libpie.Call) libpie.Verdict { f%d(1, true); return libpie.Pass() }\n", 60),
		"generic type of itself":        prelude + "\ntype t[T any] struct{ x, y T }\nfunc G(c *libpie.Call) libpie.Verdict { var v, w " + r("t[", 60) + "int" + r("]", 60) + "; if v == w { return libpie.RejectVoid() }; return libpie.Pass() }",
		"generic types by name":         prelude + doubled("\ntype g[T any] struct { x, y T }; type t0 struct { x int }\n", "type t%d g[t%d]\n", "func G(c *libpie.Call, p, q *t%d) libpie.Verdict { if *p == *q { return libpie.RejectVoid() }; return libpie.Pass() }\n", 60),
		"generic type of more and more": prelude + "\ntype t[T any] struct { x *t[*T] }\nfunc G(c *libpie.Call, p *t[int]) libpie.Verdict { if p.x.x.x != nil { return libpie.RejectVoid() }; return libpie.Pass() }",
		"table of many strings":         prelude + "\nvar w = []string{" + r(`"abcdefgh",`, 3000) + "}\nfunc G(c *libpie.Call, a libpie.Addr) libpie.Verdict {\n" + r("for _, x := range w { if c.Bytes(a, 9).HasPrefix(x) { return libpie.RejectVoid() } }\n", 100) + "return libpie.Pass() }",
		"table at a far index":          prelude + "\nvar w = []string{1<<62: \"a\"}\nvar v = []int8{1<<63 - 1: 2}\nfunc G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(len(w[n])) }",
		"long lists":                    body(r("for _, x := range []int{"+r("1, 2, ", 1000)+"} { n += x }\n", 25)),
		"list given to functions":       prelude + "\nfunc f(l ...int) (n int) { for i := range l { n += l[i] }; return n }\nfunc G(c *libpie.Call, n int) libpie.Verdict {\n" + r("n += f("+r("1, ", 100)+"n)\n", 300) + "return libpie.Reject(n) }",
		"lists given to functions":      prelude + "\nfunc f(l ...int) (n int) { for i := range l { n += l[i] }; return n }\nfunc G(c *libpie.Call, n int) libpie.Verdict {\n" + r("n += f("+r("1, ", 100)+"3)\n", 300) + "return libpie.Reject(n) }",
		"generic uses":                  prelude + generics(1000),
		"generic uses 100":              prelude + generics(100),
		"empty structs":                 prelude + "\ntype t struct { n int; none [1<<40]struct{} }\nfunc G(c *libpie.Call, p *t) libpie.Verdict { x := *p; return libpie.Reject(x == *p) }\n",
		"text doubling":                 prelude + doubled("\nconst s0 = \"0123456789\"\n", "const s%d = s%[2]d + s%[2]d\n", "func G(c *libpie.Call) libpie.Verdict { return libpie.Reject(len(s%d)) }\n", 60),
		"number doubling":               prelude + doubled("\nconst s0 = 1<<400\n", "const s%d = s%[2]d * s%[2]d\n", "func G(c *libpie.Call) libpie.Verdict { return libpie.Reject(uint(s%d&1)) }\n", 60),
		"inline doubling":               prelude + doubled("\nfunc f0(n int) int { return n*3 }\n", "func f%d(n int) int { return f%[2]d(n) + f%[2]d(n+1) }\n", "func G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f%d(n)) }\n", 30),
		"inline doubling of constants": prelude + doubled("\nfunc f0(n int) int { return n*3 }\n", "func f%d(n int) int { return f%[2]d(n) + f%[2]d(n+1) }\n",
			"func G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f%d(1)) }\n", 30),
		"inline chain":                prelude + doubled("\nfunc f0(n int) int { return n*3 }\n", "func f%d(n int) int { return f%d(n) ^ 5 }\n", "func G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f%d(n)) }\n", 2000),
		"literals":                    body(r("n = func(x int) int { n++; return x }(n)\n", 3000)),
		"literals inside one another": body(r("func() { ", 2000) + "n++" + r(" }()", 2000)),
		"literals that use many variables": prelude + "\nfunc G(c *libpie.Call, n int) libpie.Verdict {\n" + doubled("x0 := n\n", "x%d := n + %d\n", "_ = x%d\n", 2500) +
			"func() { func() { func() { func() { " + doubled("x0++\n", "x%d++; _ = %d\n", "_ = x%d\n", 2500) + " }() }() }() }()\nreturn libpie.Reject(x0) }\n",
		"literal doubling": body(doubled("f0 := func(n int) int { return n*3 }\n", "f%d := func(n int) int { return f%[2]d(n) + f%[2]d(n+1) }\n", "n = f%d(n)\n", 30)),
		"functions given on, doubling": prelude + doubled("\nfunc f0(g func(int) int, n int) int { return g(g(n)) }\n", "func f%d(g func(int) int, n int) int { return f%[2]d(func(x int) int { return g(g(x)) }, n) }\n",
			"func G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f%d(func(x int) int { return x*3 + n }, n)) }\n", 30),
		"function given to itself": prelude + "\ntype f func(f, f) int\nfunc G(c *libpie.Call, n int) libpie.Verdict { w := f(func(x, y f) int { return x(y, x) + y(x, x) }); return libpie.Reject(w(w, w)) }\n",
		"functions that are made":  prelude + "\nfunc add(g func(int) int) func(int) int { return func(n int) int { return g(n) + g(n+1) } }\nfunc G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(" + r("add(", 60) + "func(x int) int { return x }" + r(")", 60) + "(n)) }\n",
		"functions":                prelude + doubled("\nfunc f0(n int) int { return n*3 }\n", "func f%d(n int) int { return n ^ %d }\n", "func G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f%d(n)) }\n", 4000),
		"many live":                body(live(300)),
		"many live 3000":           body(live(3000)),
		"literal":                  body("x := [512]uint8{" + r("1,", 512) + "}; n = int(x[n])"),
		"locals":                   body(r("{ var x [8]int; x[n&7] = n; n += x[(n+1)&7] }\n", 1000)),
		"results":                  prelude + "\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.RejectGo(" + r("libpie.Word(1),", 5000) + ") }",
		"endless loop":             body("for {}"),
		"endless loops":            body("for { for { n++ } }"),
		"rounds of range":          body(r("for range 5 {", 100) + r("}", 100)),
		"texts":                    body(strings.Join(texts(3000), "\n")),
		"directives":               r("//pie:guard exe=x func=f onfault=pass onfuel=pass\n", 4000) + body(""),
		"labels":                   body(r("L: for { break L }\n", 1)),
		"million lines":            prelude + r("\n", 200_000) + "func G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }",
		"garbage":                  r("\x00\xff(", 50_000),
		"shifts":                   body("n = 1" + r("<<n", 450)),
		"constant shifts":          body("const x = 1" + r("<<1", 450) + "; n = x & 1"),
		"exponents":                body("const x = 1e1000000000; n = int(x/x)"),
		"selectors":                prelude + "\ntype l struct { n *l; v int }\nfunc G(c *libpie.Call, p *l) libpie.Verdict { return libpie.Reject(p" + r(".n", 450) + ".v) }",
		"embedding":                prelude + doubled("\ntype t0 struct { x int }\n", "type t%d struct { t%d }\n", "func G(c *libpie.Call, p *t%d) libpie.Verdict { return libpie.Reject(p.x) }\n", 400),
		"embedding twice": prelude + doubled("\ntype t0 struct { x int }; type u0 struct { y int }\n", "type t%d struct { *t%[2]d; *u%[2]d }; type u%[1]d struct { *t%[2]d; *u%[2]d }\n",
			"func G(c *libpie.Call, p *t%d) libpie.Verdict { return libpie.Reject(p.z) }\n", 60),
	}
}

// live keeps n values alive to the end.
func live(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "x%d := n * %d ^ int(r.a)\n", i, i+3)
	}
	for i := range n {
		fmt.Fprintf(&b, "n = n*5 + x%d\n", i)
	}
	return b.String()
}

func texts(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("if c.Bytes(a, n).Contains(\"text %d\") { n++ }", i)
	}
	return all
}

// generics are n types, each used with a function of n statements.
func generics(n int) string {
	var b strings.Builder
	b.WriteString("\nfunc f[T ~int](x T) T {" + strings.Repeat("x += x;", n) + " return x }\n")
	for i := range n {
		fmt.Fprintf(&b, "type t%d int\n", i)
	}
	b.WriteString("func G(c *libpie.Call, n int) libpie.Verdict {\n")
	for i := range n {
		fmt.Fprintf(&b, "n += int(f(t%d(n)))\n", i)
	}
	return b.String() + "return libpie.Reject(n) }\n"
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestHostileSourceIsBounded(t *testing.T) {
	const longest, most = 10 * time.Second, 1 << 30 // of processor time, so that a busy machine does not matter
	for name, src := range hostile() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := processorTime(t)
			files := map[string][]byte{"g.go": []byte(src)}
			_, _ = source.ParseFiles(files)
			p := &source.Prepatch{ID: "X", Guards: []source.Guard{{Name: "G"}}}
			_, err := Compile(p, files)
			took := processorTime(t) - start
			runtime.ReadMemStats(&after)
			allocated := after.TotalAlloc - before.TotalAlloc
			message := "accepted"
			if err != nil {
				message, _, _ = strings.Cut(err.Error(), "\n")
			}
			t.Logf("%v, %d MiB: %.150s", took.Round(time.Millisecond), allocated>>20, message)
			if took > longest || allocated > most {
				t.Errorf("took %v and %d MiB", took, allocated>>20)
			}
		})
	}
}
