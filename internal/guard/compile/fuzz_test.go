package compile

import (
	"errors"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// FuzzCompile holds that any file ends in errors with a place, or in bytecode
// that runs without a violation where the verifier accepts it.
func FuzzCompile(f *testing.F) {
	// Small seeds: the fuzzer spends its time where files are short.
	for _, body := range []string{
		"x := [4]int{n, 1}; x[n&3]++; return libpie.Reject(x[1]/n)",
		"for p := a; p != 0; p = libpie.At[rec](p).n { n++ }; return libpie.Reject(n<<n)",
		"switch { case n > 3: return libpie.Log(1); case c.Bytes(a, n).HasPrefix(\"GET\"): return libpie.RejectVoid() }; return libpie.Pass()",
		"if f(n) && !f(n+1) || int8(n) == 3 { return libpie.RejectErrno(libpie.EPERM, n) }; return libpie.Pass()",
	} {
		f.Add([]byte("package p; import \"github.com/patch-integration-engine/pie/libpie\"; type rec struct { n libpie.Addr }; func f(n int) bool { return n&1 == 0 }\nfunc G(c *libpie.Call, a libpie.Addr, n int) libpie.Verdict {" + body + "}"))
	}
	f.Add([]byte(prelude + "\ntype w interface { ~int8 | uint32 }; func f[T w, U any](x T, y U) (U, T) { return y, x<<3 }\nfunc G(c *libpie.Call, n int) libpie.Verdict { x, y := f(int8(n), n); return libpie.Reject(x + int(y)) }"))
	f.Add([]byte(prelude + "\nfunc G(c *libpie.Call, a libpie.Addr, n int) libpie.Verdict { for i := range n { if c.Bytes(a, n).At(i) == 'x' { return libpie.Reject(i) } }; return libpie.Pass() }"))
	f.Add([]byte(prelude + "\nfunc G(c *libpie.Call, r *rec, n uint8) libpie.Verdict { x := r.c; x[n&3] = 2; if r.ok { r = r.b }; return libpie.Reject(x[n] / r.c[0]) }"))
	f.Fuzz(func(t *testing.T, src []byte) {
		files := map[string][]byte{"g.go": src}
		p, err := source.ParseFiles(files)
		if err != nil {
			p = &source.Prepatch{ID: "X", Guards: []source.Guard{{Name: "G"}}}
		}
		c, err := Compile(p, files)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Msg == "" {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		for _, g := range c.Guards {
			if len(g.Unit.Pos) != len(g.Unit.Insns) {
				t.Fatalf("%d places for %d instructions", len(g.Unit.Pos), len(g.Unit.Insns))
			}
			if _, err := verify.Verify(g.Unit); err != nil {
				continue
			}
			in := bpf.Interp{Unit: g.Unit, Symbols: make([]uint64, len(g.Unit.Symbols)), MaxSteps: 1 << 20}
			var violation *bpf.Violation
			if _, err := in.Run(bpf.Frame{Args: [bpf.FrameArgs]uint64{1, 2, 3}}); errors.As(err, &violation) {
				t.Fatalf("%v\n%s", err, bpf.Disassemble(g.Unit.Insns))
			}
		}
	})
}
