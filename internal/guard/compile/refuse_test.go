package compile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// prelude is in front of each snippet below; a snippet's first line is line 1.
const prelude = `package prepatch; import "github.com/patch-integration-engine/pie/libpie"; type rec struct { a int32; b *rec; c [4]uint16; ok bool };`

// refuse compiles a file and returns what it is refused for, one line each.
func refuse(t *testing.T, src string) []string {
	t.Helper()
	p := &source.Prepatch{ID: "X", Guards: []source.Guard{{Name: "G", OnFault: source.Action{Pass: true}, OnFuel: source.Action{Pass: true}}}}
	_, err := Compile(p, map[string][]byte{"g.go": []byte(src)})
	if err == nil {
		return nil
	}
	var lines []string
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("%T is not joined errors", err)
	}
	for _, e := range joined.Unwrap() {
		var ce *Error
		if !errors.As(e, &ce) {
			t.Fatalf("%T is no *Error: %v", e, e)
		}
		lines = append(lines, e.Error())
	}
	return lines
}

// What is outside the subset is refused where it stands, with the reason and,
// mostly, what to write instead.
func TestRefusals(t *testing.T) {
	for _, test := range []struct{ name, src, at, want string }{
		// Statements and expressions.
		{"goroutine", "func G(c *libpie.Call) libpie.Verdict {\n\tgo f()\n\treturn libpie.Pass() }; func f() {}", "2:2", "cannot start goroutines: it runs on the caller's thread; do the work in the guard itself"},
		{"defer", "func G(c *libpie.Call) libpie.Verdict {\n\tdefer f()\n\treturn libpie.Pass() }; func f() {}", "2:2", "cannot defer"},
		{"channel", "func G(c *libpie.Call) libpie.Verdict {\n\tvar x chan int; _ = x\n\treturn libpie.Pass() }", "2:8", "cannot use channels"},
		{"select", "func G(c *libpie.Call) libpie.Verdict {\n\tselect {}\n}", "2:2", "cannot use channels"},
		{"function that depends", "func f(n int32) int32 { return n }\nfunc g(n int32) int32 { return -n }\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\th := f; if n > 0 { h = g }; return libpie.Reject(h(n)) }", "4:", "which function a variable is cannot depend on a condition; call each function where the condition says which"},
		{"function that one of two returns", "func f(n int32) func() int32 { if n > 0 { return func() int32 { return 1 } }; return func() int32 { return 2 } }\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Reject(f(n)()) }", "2:", "f cannot return different values of type func() int32"},
		{"function of no value", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tvar f func() int32; g := func() int32 { return f() }; n = g(); f = g; return libpie.Reject(n) }", "2:49", "a variable that a function literal uses is read before it is set; declare it with its value"},
		{"nil function", "func f(g func() int32) int32 { return g() }\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Reject(f(nil)) }", "2:", "a function value is nil here"},
		{"function set twice", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tf := func() int32 { return 1 }; g := func() int32 { return f() }; f = func() int32 { return 2 }; return libpie.Reject(g()) }", "2:", "cannot take the address of a func() int32"},
		{"literal that calls itself", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tvar f func(int32) int32; f = func(x int32) int32 { if x > 0 { return f(x-1) }; return x }; return libpie.Reject(f(n)) }", "2:", "calls itself: a guard has no recursion"},
		{"function given to itself", "type w func(w, int32) int32\nfunc f(g w, n int32) int32 { if n > 0 { return g(g, n-1) }; return n }\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Reject(f(f, n)) }", "2:", "f calls itself"},
		{"list of functions", "func f() int32 { return 1 }\nfunc G(c *libpie.Call) libpie.Verdict {\n\tn := int32(0); for _, g := range []func() int32{f, f} { n += g() }; return libpie.Reject(n) }", "3:", "cannot take the address of a [2]func() int32"},
		{"function in a struct", "type s struct{ f func() }\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:16", "it cannot hold a function; a local variable or a parameter can"},
		{"function for all calls", "var f = func() int32 { return 1 }\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Reject(f()) }", "1:5", "cannot hold a function"},
		{"function behind a round", "func G(c *libpie.Call) libpie.Verdict {\n\tvar f func(); for i := 0; i < 9; f() { f = func() { i += 2 } }\n\treturn libpie.Pass() }", "2:35", "f is a function value in the last clause of a loop; call it at the end of the loop's body"},
		{"pointer behind a round", "func G(c *libpie.Call) libpie.Verdict {\n\tvar p *int; for i := 0; i < 9; *p += 2 { p = &i }\n\treturn libpie.Pass() }", "2:34", "p is a pointer in the last clause of a loop whose variables have an address; do it at the end of the loop's body"},
		{"function of libpie", "func f(g func() libpie.Verdict) libpie.Verdict { return g() }\nfunc G(c *libpie.Call) libpie.Verdict { return f(libpie.RejectVoid) }", "2:", "a function of another package, cannot be kept as a value; write func(…) { … } that calls it"},
		{"guard's function", "func G(c *libpie.Call, f func()) libpie.Verdict { return libpie.Pass() }", "1:24", "cannot take a func()"},
		{"literals in literals", "func G(c *libpie.Call) libpie.Verdict {\n\tfunc() { func() { func() { func() { func() {}() }() }() }() }()\n\treturn libpie.Pass() }", "2:", "more than 4 deep inside one another; declare a function"},
		{"compared function", "func G(c *libpie.Call) libpie.Verdict {\n\tf := func() {}; if f == nil { return libpie.RejectVoid() }\n\treturn libpie.Pass() }", "2:", "nil"},
		{"map", "func G(c *libpie.Call) libpie.Verdict {\n\tvar m map[int]int; _ = m\n\treturn libpie.Pass() }", "2:8", "cannot use maps; use a switch"},
		{"interface", "func G(c *libpie.Call) libpie.Verdict {\n\tvar x interface{ f() }; _ = x\n\treturn libpie.Pass() }", "2:8", "cannot use interfaces"},
		{"any", "func G(c *libpie.Call) libpie.Verdict {\n\tvar x any = 1; _ = x\n\treturn libpie.Pass() }", "2:6", "cannot hold an interface value"},
		{"error", "func f() error { return nil }\nfunc G(c *libpie.Call) libpie.Verdict {\n\terr := f(); if err != nil { return libpie.RejectVoid() }\n\treturn libpie.Pass() }", "3:2", "cannot hold an interface value; use the concrete type; an error that the function is given is a libpie.GoError"},
		{"type switch", "func G(c *libpie.Call, x any) libpie.Verdict {\n\tswitch x.(type) {}\n\treturn libpie.Pass() }", "2:2", "cannot use interfaces"},
		{"slice type", "func G(c *libpie.Call) libpie.Verdict {\n\tvar s []byte; _ = s\n\treturn libpie.Pass() }", "2:8", "cannot use slices here; a list is written where it is declared, x := []T{…}, or is a parameter"},
		{"slice of the target's array", "func G(c *libpie.Call, p *[4]int) libpie.Verdict {\n\tx := p[1:2]; return libpie.Reject(x[0]) }", "2:8", "cannot cut memory of the target; Mem has Slice"},
		{"slice of a string that is chosen", "var t = [2]string{\"ab\", \"cd\"}\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tx := t[n&1][1:]; return libpie.Reject(x[0]) }", "3:13", "cannot cut this string; begin and end of a piece of a constant string are constants"},
		{"slice of a string by a variable", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tx := \"abcd\"[n:]; return libpie.Reject(x[0]) }", "2:13", "where a guard cuts a string must be a constant; loop over its bytes"},
		{"slice that moves", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tvar a [4]int; x := a[:]; for len(x) > int(n) { x = x[1:] }; return libpie.Reject(len(x)) }", "2:", "cannot depend on a condition"},
		{"copy to a table", "var t = [4]int{1, 2}\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tcopy(t[:], []int{1}); return libpie.Pass() }", "3:", "can copy to local arrays only; declare a local array, and copy to a[:]"},
		{"clear of a table", "var t = [4]int{1, 2}\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tclear(t[:]); return libpie.Pass() }", "3:", "can clear local arrays only"},
		{"copy within an array", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tvar a [40]int; copy(a[1:], a[:n]); return libpie.Reject(a[n]) }", "2:", "cannot copy within one array by more than 16 numbers, or as many as a variable says; write the loop"},
		{"slice of slices", "var t = [][]int{{1}, {2, 3}}\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Reject(t[1][1]) }", "1:11", "cannot use slices here"},
		{"slice that depends", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tx := []int{1, 2}; if n > 0 { x = []int{3} }; return libpie.Reject(x[0]) }", "2:", "cannot depend on a condition"},
		{"slice parameter of a guard", "func G(c *libpie.Call, s []byte) libpie.Verdict { return libpie.Pass() }", "1:24", "cannot take a []byte; a parameter is a sized integer"},
		{"slice field", "type s struct{ b []byte }\nfunc G(c *libpie.Call, p *s) libpie.Verdict { return libpie.Pass() }", "1:18", "the slice parameter of a Go function is a libpie.GoSlice"},
		{"slice result", "func f() []int { return []int{1} }\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Reject(f()[0]) }", "1:10", "cannot use slices here"},
		{"table assigned", "var t = []int{1, 2}\nfunc G(c *libpie.Call) libpie.Verdict {\n\tt = []int{3}; return libpie.Reject(t[0]) }", "3:", "a table of constants is read only"},
		{"bytes of text changed", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tx := []byte(\"abc\"); x[0] = 1; return libpie.Reject(x[n]) }", "2:", "a table of constants is read only"},
		{"append", "func G(c *libpie.Call, s libpie.GoSlice) libpie.Verdict {\n\t_ = append([]int{}, 1)\n\treturn libpie.Pass() }", "2:6", "cannot use append"},
		{"make", "func G(c *libpie.Call) libpie.Verdict {\n\t_ = make([]int, 3)\n\treturn libpie.Pass() }", "2:6", "cannot use make; use an array with a fixed length"},
		{"print", "func G(c *libpie.Call) libpie.Verdict {\n\tprintln(1); return libpie.Pass() }", "2:2", "cannot use println; return libpie.Log"},
		{"recover", "func G(c *libpie.Call) libpie.Verdict {\n\t_ = recover(); return libpie.Pass() }", "2:6", "always ends the guard with its onfault"},
		{"float", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tx := float64(n); if x > 1 { return libpie.Pass() }; return libpie.RejectVoid() }", "2:2", "no floating-point arithmetic; read the bits as an integer"},
		{"float result", "func half(n int32) float32 { return 1 }\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tif half(n) > 2 { return libpie.RejectVoid() }; return libpie.Pass() }", "3:13", "no floating-point arithmetic"},
		{"complex", "func G(c *libpie.Call) libpie.Verdict {\n\t_ = 2i\n\treturn libpie.Pass() }", "2:6", "complex"},
		{"recursion", "func f(n int) int {\n\tif n == 0 { return 0 }; return f(n-1) }\nfunc G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f(n)) }", "2:34", "f calls itself: a guard has no recursion; use a loop"},
		{"mutual recursion", "func f(n int) int { return g(n-1) }\nfunc g(n int) int { return f(n) }\nfunc G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f(n)) }", "2:29", "calls itself"},
		{"method value", "func (r rec) f() int { return 1 }\nfunc G(c *libpie.Call, r *rec) libpie.Verdict {\n\tx := r.f; return libpie.Reject(x()) }", "3:", "a method, or a function of another package, cannot be kept as a value"},
		{"range over function", "func f(yield func(int) bool) {}\nfunc G(c *libpie.Call) libpie.Verdict {\n\tfor range f { return libpie.RejectVoid() }\n\treturn libpie.Pass() }", "3:2", "cannot range over a function; write the loop out"},
		{"range over text", "var t = [2]string{\"a\", \"b\"}\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tfor _, r := range t[n&1] { return libpie.Reject(r) }\n\treturn libpie.Pass() }", "3:", "can range over the characters of constant text only; for i := range len(s) goes over the bytes"},
		{"order of strings", "var t = [2]string{\"a\", \"b\"}\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tif t[n&1] < \"b\" { return libpie.RejectVoid() }; return libpie.Pass() }", "3:", "strings cannot be ordered; only == and != can"},
		{"sum of strings", "var t = [2]string{\"a\", \"b\"}\nfunc G(c *libpie.Call, a libpie.Addr, n int32) libpie.Verdict {\n\tif c.Bytes(a, 2).Equal(t[n&1]+\"x\") { return libpie.RejectVoid() }; return libpie.Pass() }", "3:", "cannot"},
		{"name that is chosen", "var t = [2]string{\"a\", \"b\"}\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.RejectPtr(c.Global(t[n&1])) }", "2:", "the string for Call.Global is not a constant"},
		{"error result", "func f(n int32) error { return nil }\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tif f(n) != nil { return libpie.RejectVoid() }; return libpie.Pass() }", "1:", "cannot hold an interface value, of type error; return a bool or a number"},
		{"float operand", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tif float64(n)*1.5 > 9 { return libpie.RejectVoid() }; return libpie.Pass() }", "2:", "no floating-point arithmetic; compute with integers"},
		{"table that is changed", "var t = [4]int{1, 2}\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tt[n&3] = 5; return libpie.Pass() }", "3:", "a table of constants is read only; copy it into a local variable"},
		{"table changed through a pointer", "var t = [4]int{1, 2}\nfunc set(p *[4]int) { p[0] = 1 }\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\tset(&t); return libpie.Pass() }", "2:", "a table of constants is read only"},
		{"table without values", "var t [4]int\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Reject(t[n&3]) }", "1:5", "t has no values"},
		{"table of what is computed", "func f() int { return 1 }\nvar t = [2]int{1, f()}\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Reject(t[n&1]) }", "2:19", "a table is made of constants"},
		{"table of pointers", "var r = [1]*rec{nil}\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Pass() }", "1:5", "cannot be a table of constants"},
		{"table of nothing", "var t = [0]int{}\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Reject(t[n]) }", "1:5", "t has no values"},
		{"table too large", "var t = [1 << 30]uint8{1}\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Reject(t[n]) }", "1:5", "more than 64 KiB"},
		{"address of a table", "var t = [4]int{1, 2}\nfunc G(c *libpie.Call, n int32) libpie.Verdict { return libpie.Reject(libpie.AddrOf(&t)) }", "2:", "only memory of the target has an address"},

		// Declarations.
		{"variable", "var n = 3\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Reject(n) }", "1:5", "no package-level variables but tables of constants and libpie's state; use a constant"},
		{"state in a function", "func G(c *libpie.Call) libpie.Verdict {\n\tvar n libpie.Counter; return libpie.Reject(n.Add(c, 1)) }", "2:", "no package-level variable of the prepatch; declare it outside of functions"},
		{"state made in a function", "func G(c *libpie.Call) libpie.Verdict {\n\tm := libpie.NewMap[int32, int32](3); _ = m; return libpie.Pass() }", "2:", "state is made where a package-level variable is declared"},
		{"state that is copied", "var n libpie.Counter\nfunc G(c *libpie.Call) libpie.Verdict {\n\tm := n; return libpie.Reject(m.Value(c)) }", "3:", "cannot be copied; call its methods"},
		{"state that is assigned", "var n, m libpie.Counter\nfunc G(c *libpie.Call) libpie.Verdict {\n\tn = m; return libpie.Pass() }", "3:", "copied; call its methods"},
		{"state that depends", "var n, m libpie.Counter\nfunc G(c *libpie.Call, a int32) libpie.Verdict {\n\tp := &n; if a > 0 { p = &m }; return libpie.Reject(p.Add(c, 1)) }", "3:", "a pointer to a variable cannot depend on a condition"},
		{"state without size", "var m libpie.Map[int32, int32]\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:5", "a Map is made by libpie.NewMap, where it is declared; var m = libpie.NewMap[…](…)"},
		{"size that is no constant", "var k = libpie.NewMap[int32, int32](len(s))\nvar s [3]int\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "2:5", "s has no values"},
		{"size 0", "var m = libpie.NewPerThread[int32](0)\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:36", "must be a constant from 1 to 16384"},
		{"too much state", "var a, b = libpie.NewMap[int32, int32](2700), libpie.NewMap[int32, int32](2700)\nvar d = libpie.NewMap[int32, int32](2700)\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:8", "more than 256 KiB of state; keep fewer keys: 1365 fit here"},
		{"keys beyond what fits", "var a, b = libpie.NewMap[int32, int32](2000), libpie.NewMap[int32, int32](2000)\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:8", "with b the prepatch has more than 256 KiB of state; keep fewer keys: 1365 fit here"},
		{"map of bools", "var a = libpie.NewMap[int32, bool](20)\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:", "a value that is kept is an integer: 1 in a uint8 is a yes"},
		{"limit without a rate", "var l = libpie.NewLimiter[int32](libpie.Limit{Seconds: 1, Burst: 1, Keys: 1, Full: libpie.FullAllow})\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:34", "does not say Calls: each of its fields is a decision"},
		{"limit full of nothing", "var l = libpie.NewLimiter[int32](libpie.Limit{Calls: 1, Seconds: 1, Burst: 1, Keys: 1, Full: 7})\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:94", "Full must be a constant from 1 to 2"},
		{"limit by position", "var l = libpie.NewLimiter[int32](libpie.Limit{1, 1, 1, 1, 1})\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:47", "written with their names"},
		{"init", "func init() {}\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:1", "init does not run"},
		{"generic function of arrays", "func f[T any](x T) T { return x }\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Reject(f([2]int{})[1]) }", "2:62", "f cannot be used with [2]int: a type argument is one word"},
		{"generic function of what grows", "func f[T any](x *T, n int) int { return n }\nfunc g[T any](x T) int { return f[*T](nil, 1) }\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Reject(g(1)) }", "2:33", "f cannot be used with *T: a type argument is one word"},
		{"three type parameters", "func f[T, U, V any](x T, y U, z V) T { return x }\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Reject(f(1, 2, 3)) }", "1:7", "more than 2 type parameters"},
		{"generic guard", "func G[T any](c *libpie.Call, x T) libpie.Verdict { return libpie.Pass() }", "1:6", "a guard cannot be generic"},
		{"generic array", "func f[T any](x T) (a [1<<30]T) { a[0] = x; return a }\nfunc G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f(n)[n]) }", "2:69", "the type is larger than 2147483648 bytes"},
		{"generic array of any size", "func f[T any](x T, n int) T { var a [1<<61]T; a[n] = x; return a[1] }\nfunc G(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(f(n, n)) }", "1:35", "too large for the stack of a guard"},
		{"generic type of arrays", "type t[T any] struct{ x T }\nfunc G(c *libpie.Call) libpie.Verdict { var v t[[2]int]; return libpie.Reject(v.x[0]) }", "2:47", "t cannot be used with [2]int: a type argument is one word"},
		{"generic type of itself", "type t[T any] struct{ x, y T }\nfunc G(c *libpie.Call) libpie.Verdict { var v t[t[int]]; return libpie.Reject(v.x.y) }", "2:47", "t cannot be used with t[int]: a type argument is one word"},
		{"generic type that grows", "type t[T any] struct{ x *t[*T] }\nfunc G(c *libpie.Call, p *t[int]) libpie.Verdict { return libpie.Pass() }", "1:", ""},
		{"generic alias", "type t[T any] = struct{ x T }\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:7", "generic aliases"},
		{"generic type of three", "type t[T, U, V any] struct{ x T }\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:7", "a type has more than 2 type parameters"},
		{"no body", "func f() int\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Reject(f()) }", "1:1", "no body"},

		// Signatures.
		{"no call", "func G(n int32) libpie.Verdict { return libpie.Pass() }", "1:6", "does not take a *libpie.Call first; declare it as func(c *libpie.Call, …) libpie.Verdict"},
		{"call by value", "func G(c libpie.Call) libpie.Verdict { return libpie.Pass() }", "1:6", "does not take a *libpie.Call first"},
		{"no verdict", "func G(c *libpie.Call) bool { return true }", "1:6", "does not return a libpie.Verdict"},
		{"two results", "func G(c *libpie.Call) (libpie.Verdict, bool) { return libpie.Pass(), true }", "1:6", "does not return a libpie.Verdict"},
		{"variadic", "func G(c *libpie.Call, x ...int) libpie.Verdict { return libpie.Pass() }", "1:6", "cannot be variadic; libpie.Arg reads variadic arguments"},
		{"method", "func (r rec) G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "0:0", "there is no function G; put //pie:guard directly above a function that is no method"},
		{"missing", "func F(c *libpie.Call) libpie.Verdict { return libpie.Pass() }", "0:0", "there is no function G"},
		{"struct parameter", "func G(c *libpie.Call,\n\tr rec) libpie.Verdict { return libpie.Pass() }", "2:2", "cannot take a rec; a parameter is a sized integer"},
		{"array parameter", "func G(c *libpie.Call, r [2]int32) libpie.Verdict { return libpie.Pass() }", "1:24", "cannot take a [2]int32"},
		{"float parameter", "func G(c *libpie.Call, x float64) libpie.Verdict { return libpie.Pass() }", "1:24", "floating-point"},
		{"string parameter", "func G(c *libpie.Call, s string) libpie.Verdict { return libpie.Pass() }", "1:24", "cannot take a string"},
		{"mem parameter", "func G(c *libpie.Call, m libpie.Mem) libpie.Verdict { return libpie.Pass() }", "1:24", "cannot take a libpie.Mem"},

		// Memory.
		{"write", "func G(c *libpie.Call, r *rec) libpie.Verdict {\n\tr.a = 1\n\treturn libpie.Pass() }", "2:4", "does not assign to the program's memory; c.Put8, Put16, Put32 and Put64 write"},
		{"write element", "func G(c *libpie.Call, r *rec) libpie.Verdict {\n\tr.c[2]++\n\treturn libpie.Pass() }", "2:5", "does not assign to the program's memory"},
		{"string field", "type s struct{ n string }\nfunc G(c *libpie.Call, p *s) libpie.Verdict {\n\tif p.n == \"x\" { return libpie.RejectVoid() }; return libpie.Pass() }", "3:7", "cannot be read from the target; declare integers"},
		{"mem in target", "func G(c *libpie.Call, p *libpie.Mem) libpie.Verdict {\n\treturn libpie.Reject(p.Len()) }", "", "a libpie.Mem cannot be read from the target"},
		{"at of interface", "func G(c *libpie.Call, a libpie.Addr) libpie.Verdict {\n\t_ = libpie.At[error](a); return libpie.Pass() }", "2:", "error cannot be read from the target"},
		{"address of a local", "func G(c *libpie.Call) libpie.Verdict {\n\tvar x int32\n\treturn libpie.Reject(libpie.AddrOf(&x)) }", "3:", "only memory of the target has an address"},
		{"address of the call", "func G(c *libpie.Call) libpie.Verdict {\n\treturn libpie.Reject(libpie.AddrOf(c)) }", "2:", "has no address in the target"},
		{"pointer to local kept", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tr := rec{a: n}; r.b = &r; n = r.b.a; return libpie.Reject(n) }", "2:20", "a *rec cannot be kept here"},
		{"pointers to different locals", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tvar x, y rec; p := &x; if n > 0 { p = &y }; p.a = 1; return libpie.Reject(p.a) }", "2:", "cannot depend on a condition"},
		{"large local", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tvar x [600]uint8; x[n]++; return libpie.Reject(x[3]) }", "2:6", "at most 512"},
		{"many locals", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tvar x, y [300]uint8; x[n]++; y[n] = x[n+1]; return libpie.Reject(y[3]) }", "", "bytes of stack, which has 512"},
		{"huge copy", "func G(c *libpie.Call, p *[200]int64) libpie.Verdict {\n\tx := *p; y := x; return libpie.Reject(y[3]) }", "2:", "too large to be copied"},

		// libpie.
		{"invoke", "func G(c *libpie.Call) libpie.Verdict {\n\treturn libpie.Reject(c.Invoke(\"f\").Word) }", "2:31", "calls a function of the program without having asked for it; add //pie:cap call"},
		{"exit", "func G(c *libpie.Call) libpie.Verdict {\n\treturn libpie.Exit(1) }", "2:20", "ends the process without having asked for it; add //pie:cap exit"},
		{"put", "func G(c *libpie.Call, a libpie.Addr) libpie.Verdict {\n\tc.Put8(a, 1); return libpie.Pass() }", "2:8", "writes to the program's memory without having asked for it; add //pie:cap write"},
		{"zero", "func G(c *libpie.Call, a libpie.Addr) libpie.Verdict {\n\tc.Zero(a, 8); return libpie.Pass() }", "2:8", "add //pie:cap write"},
		{"a float as an integer", "func G(c *libpie.Call) libpie.Verdict { return libpie.Reject(1.5) }", "1:48", "libpie.RejectFloat rejects with a double"},
		{"put of any size", "func G(c *libpie.Call, a libpie.Addr) libpie.Verdict {\n\tc.Put(a, 1); return libpie.Pass() }", "2:4", "c.Put8, Put16, Put32 and Put64"},
		{"set argument", "func G(c *libpie.Call) libpie.Verdict {\n\tc.SetArg(1, 2); return libpie.Pass() }", "2:10", "add //pie:cap rewrite"},
		{"test facility", "func G(c *libpie.Call) libpie.Verdict {\n\tif libpie.Pass().Outcome().Code == 1 { return libpie.Pass() }; return libpie.Pass() }", "2:", "for tests, not for guards"},
		{"source", "func G(c *libpie.Call) libpie.Verdict {\n\t_ = libpie.Source; return libpie.Pass() }", "2:13", "undefined"},
		{"argument index", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\treturn libpie.Reject(libpie.Arg[int32](c, int(n))) }", "2:", "must be a constant"},
		{"verdict kept", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tv := check(n)\n\tif n > 1 { return libpie.Pass() }; return v }; func check(n int32) libpie.Verdict { if n > 5 { return libpie.Reject(n) }; return libpie.Pass() }", "2:", "not returned at once; write return check(…)"},
		{"verdict compared", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tif v := libpie.Pass(); v == libpie.RejectVoid() { return v }; return libpie.Pass() }", "2:", "struct containing"},
		{"mem compared", "func G(c *libpie.Call, a libpie.Addr) libpie.Verdict {\n\tif c.Bytes(a, 2) == c.Bytes(a, 3) { return libpie.RejectVoid() }; return libpie.Pass() }", "2:19", "cannot be compared with ==; use EqualMem"},
		{"results of RejectGo", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tr := libpie.Word(1); if n > 1 { r = libpie.GoVar(\"io.EOF\") }; return libpie.RejectGo(r) }", "2:", "cannot depend on a condition"},
		{"variable name", "func G(c *libpie.Call) libpie.Verdict {\n\treturn libpie.RejectGo(libpie.GoVar(\"\")) }", "2:", "has no name"},

		// Types.
		{"undefined", "func G(c *libpie.Call) libpie.Verdict {\n\treturn libpie.Reject(x) }", "2:23", "undefined: x"},
		{"mismatch", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\treturn libpie.Reject(n + int64(1)) }", "2:23", "mismatched types"},
		{"unused", "func G(c *libpie.Call) libpie.Verdict {\n\tx := 1\n\treturn libpie.Pass() }", "2:2", "declared and not used"},
		{"missing return", "func G(c *libpie.Call) libpie.Verdict {\n}", "2:1", "missing return"},
		{"syntax", "func G(c *libpie.Call libpie.Verdict {\n}", "1:23", "missing"},
		{"text conversion", "func G(c *libpie.Call, n int32) libpie.Verdict {\n\tif string(rune(n)) == \"x\" { return libpie.RejectVoid() }; return libpie.Pass() }", "2:", "cannot convert"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := refuse(t, prelude+"//\n"+test.src)
			if len(got) == 0 {
				t.Fatal("accepted")
			}
			at := ""
			if test.at != "" {
				line, col, _ := strings.Cut(test.at, ":")
				var n int
				fmt.Sscan(line, &n)
				if at = fmt.Sprintf("g.go:%d:%s", n+1, col); n == 0 {
					at = ":0:0" // where the directive, which these snippets lack, would be
				}
			}
			for _, e := range got {
				if strings.HasPrefix(e, at) && strings.Contains(e, test.want) {
					return
				}
			}
			t.Errorf("want %s: … %s\ngot  %s", at, test.want, strings.Join(got, "\n     "))
		})
	}
}

func TestRefusedImports(t *testing.T) {
	for path, want := range map[string]string{
		"unsafe": "libpie.At and libpie.AddrOf", "sort": `cannot import "sort"; only github.com/patch-integration-engine/pie/libpie and math/bits`, "C": "cannot use cgo",
		"encoding/binary": "m.Big16(i), Big32, Big64", "strings": "a libpie.Mem, from c.CStr or c.Bytes, has Index", "sync": "libpie.Counter, Map",
		"github.com/patch-integration-engine/pie/libpie/libpietest": "cannot import",
	} {
		got := refuse(t, "package p\nimport _ \""+path+"\"")
		if len(got) == 0 || !strings.HasPrefix(got[0], "g.go:2:8: ") || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// Several mistakes are told at once.
func TestSeveralErrors(t *testing.T) {
	src := prelude + "\nfunc init() {}\nfunc G(c *libpie.Call) libpie.Verdict { go f(); defer f(); println(1); return libpie.Pass() }; func f() {}"
	if got := refuse(t, src); len(got) != 4 {
		t.Errorf("got %d: %q", len(got), got)
	}
	var many strings.Builder
	many.WriteString(prelude + "\n")
	for i := range 1000 {
		fmt.Fprintf(&many, "var x%d = y\n", i)
	}
	if got := refuse(t, many.String()); len(got) != maxErrors {
		t.Errorf("1000 mistakes: %d told", len(got))
	}
}

// A Go function's arguments behind the ninth word are refused, a C function's
// come from the stack.
func TestWordsBeyondRegisters(t *testing.T) {
	src := prelude + "\nfunc G(c *libpie.Call, a, b, d libpie.GoSlice, n int) libpie.Verdict { return libpie.Reject(n) }"
	for abi, ok := range map[source.ABI]bool{source.SysV: true, source.GoInternal: false} {
		p := &source.Prepatch{ID: "X", Guards: []source.Guard{{Name: "G", ABI: abi}}}
		_, err := Compile(p, map[string][]byte{"g.go": []byte(src)})
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "g.go:2:48: argument word 9 of a Go function is on the stack") {
			t.Errorf("abi %d: %v", abi, err)
		}
	}
}

// A directive without effect would promise what is not kept.
func TestDirectivesWithoutEffect(t *testing.T) {
	for _, line := range []string{"//pie:cap write", "//pie:cap rewrite", "//pie:cap call", "//pie:cap exit", "//pie:shared"} {
		src := prelude + "\n" + line + "\n\n//pie:id X\n\n//pie:guard exe=x func=f onfault=pass onfuel=pass\nfunc G(c *libpie.Call) libpie.Verdict { return libpie.Pass() }\n"
		files := map[string][]byte{"g.go": []byte(src)}
		p, err := source.ParseFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = Compile(p, files); err == nil || !strings.HasPrefix(err.Error(), "g.go:2:7: //pie:") || !strings.Contains(err.Error(), "has no effect") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Which words SetArg changes must be seen before anything is inlined.
func TestSetArgOfAParameter(t *testing.T) {
	src := prelude + "\n//pie:id X\n\n//pie:cap rewrite\n\nfunc set(c *libpie.Call, i int) { c.SetArg(i, 5) }\n\n" +
		"//pie:guard exe=x func=f onfault=pass onfuel=pass\nfunc G(c *libpie.Call) libpie.Verdict { set(c, 1); c.SetArg(0, 1); return libpie.Rewrite() }\n"
	files := map[string][]byte{"g.go": []byte(src)}
	p, err := source.ParseFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Compile(p, files); err == nil || !strings.Contains(err.Error(), "g.go:6:43: the index of an argument that changes must be a constant from 0 to 8; write the number") {
		t.Error(err)
	}
}

// Of package math a guard has the limits of integers.
func TestMathHasLimitsOnly(t *testing.T) {
	got := refuse(t, "package p\nimport \"math\"\nconst most, pi = math.MaxInt32, math.Pi")
	if len(got) == 0 || !strings.Contains(got[0], "g.go:3:38: undefined: math.Pi; of math a guard has the limits of integers") {
		t.Errorf("%q", got)
	}
}

// Of package math/bits a guard has all but division.
func TestBitsDivideNot(t *testing.T) {
	got := refuse(t, "package p\nimport \"math/bits\"\nfunc f(n uint64) (q, r uint64) { return bits.Div64(1, 2, n) }")
	if len(got) == 0 || !strings.Contains(got[0], "undefined: bits.Div64; of math/bits a guard has what counts, turns, adds, subtracts and multiplies; / and % divide") {
		t.Errorf("%q", got)
	}
}

// What a guard cannot call, or not so, is refused.
func TestInvokeRefused(t *testing.T) {
	for _, x := range []struct{ cap, abi, body, want string }{
		{"call", "", `c.Invoke("f", libpie.Word(1), libpie.Word(2), libpie.Word(3), libpie.Word(4), libpie.Word(5), libpie.Word(6), libpie.Word(7))`, "at most 6 words"},
		{"call", "", `c.Invoke("_ZN1x1yEv")`, "is a C++ or Rust function"},
		{"call", "", `c.Invoke("")`, "the name for Call.Invoke is empty"},
		{"call", "", `w := libpie.Word(n); if n > 1 { w = libpie.Word(3) }; c.Invoke("f", w)`, "cannot depend on a condition"},
		{"call", "", `c.Invoke("f", libpie.GoVar("io.EOF"))`, "each argument of Invoke is written as libpie.Word"},
		{"call", " abi=go", `c.Invoke("f")`, "a guard of a Go function cannot call functions"},
		{"call\n//pie:shared", "", `c.Invoke("f"); n += int32(k.Add(c, 1))`, "exclude each other"},
	} {
		src := prelude + "\n//pie:id X\n\n//pie:cap " + x.cap + "\n\nvar k libpie.Counter\n\n//pie:guard exe=x func=f onfault=pass onfuel=pass" + x.abi +
			"\nfunc G(c *libpie.Call, n int32) libpie.Verdict {\n\t" + x.body + "\n\treturn libpie.Pass()\n}\n"
		files := map[string][]byte{"g.go": []byte(src)}
		p, err := source.ParseFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(p, files); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", x.body, err, x.want)
		}
	}
}
