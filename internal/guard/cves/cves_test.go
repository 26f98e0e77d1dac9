package cves

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// wanted is how many guards the corpus must have.
const wanted = 60

// read returns the corpus: texts by file name.
func read(t testing.TB) map[string][]byte {
	t.Helper()
	files := os.DirFS("testdata")
	names, err := fs.Glob(files, "*.go")
	if err != nil {
		t.Fatal(err)
	}
	corpus := map[string][]byte{}
	for _, name := range names {
		if corpus[name], err = fs.ReadFile(files, name); err != nil {
			t.Fatal(err)
		}
	}
	return corpus
}

// steps is how long each step of one prepatch took.
type steps struct{ compile, verify, jit time.Duration }

func (s steps) total() time.Duration { return s.compile + s.verify + s.jit }

// build takes a prepatch from its text to machine code.
func build(t testing.TB, name string, text []byte) (s steps, programs []*verify.Program) {
	t.Helper()
	files := map[string][]byte{name: text}
	start := time.Now()
	lap := func() time.Duration {
		d := time.Since(start)
		start = time.Now()
		return d
	}
	p := compileFiles(t, files)
	s.compile = lap()
	programs = verifyGuards(t, p)
	s.verify = lap()
	for i, program := range programs {
		if _, err := jit.Compile(program, jit.Site{ABI: abi(p.Guards[i].ABI)}, layout(p.Guards[i].Unit)); err != nil {
			t.Fatal(err)
		}
	}
	s.jit = lap()
	return s, programs
}

// compileFiles makes bytecode of a prepatch.
func compileFiles(t testing.TB, files map[string][]byte) *compile.Prepatch {
	t.Helper()
	src, err := source.ParseFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	p, err := compile.Compile(src, files)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// verifyGuards proves the guards of a prepatch, in their order.
func verifyGuards(t testing.TB, p *compile.Prepatch) (programs []*verify.Program) {
	t.Helper()
	for _, g := range p.Guards {
		program, err := verify.Verify(g.Unit)
		if err != nil {
			t.Fatalf("%v\n%s", err, bpf.Disassemble(g.Unit.Insns))
		}
		programs = append(programs, program)
	}
	return programs
}

func abi(a source.ABI) jit.ABI {
	if a == source.GoInternal {
		return jit.GoInternal
	}
	return jit.SysV
}

// layout is a place like one in a process; nothing is put there.
func layout(u *bpf.Unit) jit.Layout {
	const base = address.Addr(0x7f00_0000_0000)
	l := jit.Layout{
		Code: base, Control: base + 0x10000, Counters: base + 0x12000, Events: base + 0x13000, State: base + 0x400000,
		Errno: jit.ErrnoSlot{Known: true, Offset: -128}, StackEnd: base + 0x1000000, Pointer: true, XSave: 4 << 10, Gettid: true, Faults: jit.Table,
		After: func(at address.Addr) ([]byte, error) { return jit.Jump(at, base+0x200000, 5) },
	}
	for i := range u.Symbols {
		l.Symbols = append(l.Symbols, base+0x100000+address.Addr(16*i))
	}
	return l
}

// timeCap is the time a guard may take at worst unless it asks for more.
const timeCap = 101 * time.Microsecond

// Every guard of the corpus goes all the way to machine code.
func TestAccepted(t *testing.T) {
	corpus := read(t)
	if len(corpus) < wanted {
		t.Errorf("%d prepatches, want at least %d", len(corpus), wanted)
	}
	for name, text := range corpus {
		t.Run(name, func(t *testing.T) {
			s, programs := build(t, name, text)
			for _, p := range programs {
				c := p.Cost()
				t.Logf("compile %v, verify %v, jit %v: %d instructions, %d bytes of stack, at most %.0f ns, fuel cap %v", s.compile, s.verify, s.jit, c.Insns, p.Stack(), c.Ns, c.FuelCap)
				if c.Ns > float64(timeCap.Nanoseconds()) {
					t.Errorf("%s takes %.0f ns at worst, more than %v", p.Unit().Name, c.Ns, timeCap)
				}
			}
		})
	}
}

// Every whole prepatch in the documentation goes all the way, too.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/libpie.md")
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(page, -1) {
		if !strings.HasPrefix(string(block[1]), "// Package prepatch") {
			continue
		}
		whole++
		name := identity.FindSubmatch(block[1])
		if name == nil {
			t.Errorf("no //pie:id in\n%s", block[1])
			continue
		}
		t.Run(string(name[1]), func(t *testing.T) { build(t, "guard.go", block[1]) })
	}
	if whole < 9 {
		t.Errorf("%d whole prepatches in the page", whole)
	}
}

var identity = regexp.MustCompile(`(?m)^//pie:id +(CVE-\d{4}-\d{4,})$`)

// Every file is named after the CVE it names, and says where to read of it.
func TestNamed(t *testing.T) {
	for name, text := range read(t) {
		m := identity.FindSubmatch(text)
		if m == nil || strings.ToLower(string(m[1]))+".go" != name {
			t.Errorf("%s: its //pie:id is not its name", name)
		}
		if !strings.Contains(string(text), "//pie:ref") {
			t.Errorf("%s: no //pie:ref to the advisory or the commit that fixed it", name)
		}
		if m != nil && !strings.Contains(strings.SplitN(string(text), "\n", 2)[0], "("+string(m[1])+")") {
			t.Errorf("%s: its first line does not name %s", name, m[1])
		}
	}
}

// BenchmarkBuild times the way from text to machine code, for each guard.
func BenchmarkBuild(b *testing.B) {
	for name, text := range read(b) {
		b.Run(strings.TrimSuffix(name, ".go"), func(b *testing.B) {
			var sum steps
			for b.Loop() {
				s, _ := build(b, name, text)
				sum.compile += s.compile
				sum.verify += s.verify
				sum.jit += s.jit
			}
			for unit, d := range map[string]time.Duration{"compile-ms": sum.compile, "verify-ms": sum.verify, "jit-ms": sum.jit, "total-ms": sum.total()} {
				b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), unit)
			}
		})
	}
}
