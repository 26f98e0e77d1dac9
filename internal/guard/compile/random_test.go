package compile

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// program writes random guards with a variable of each kind: v0 is of kinds[0].
// They read no memory, so that another process can run them; all else of the
// language they mix as no person would.
type program struct {
	strings.Builder
	r      *rand.Rand
	loops  int
	indent string
}

var kinds = []string{"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}

const randomPrelude = `package random

import "github.com/patch-integration-engine/pie/libpie"

type pair struct{ x, y uint16 }

func (p *pair) add(n uint16) { p.x += n; if p.x > 1000 { p.y-- } }

func pick(cond bool, x, y int64) int64 { if cond { return x }; return y }

func sum(n uint8, x int64) int64 { for i := range n & 7 { x = x*3 + int64(i) }; return x }
`

func (p *program) line(format string, args ...any) {
	fmt.Fprintf(p, p.indent+format+"\n", args...)
}

func (p *program) v(kind int) string { return fmt.Sprintf("v%d", kind) }

// expr is an expression of a kind whose value is not constant.
func (p *program) expr(kind, depth int) string {
	if depth == 0 {
		return p.v(kind)
	}
	x := p.expr(kind, depth-1)
	switch p.r.IntN(9) {
	case 0, 1, 2:
		return fmt.Sprintf("(%s %s %s)", x, []string{"+", "-", "*", "&", "|", "^", "&^"}[p.r.IntN(7)], p.expr(kind, depth-1))
	case 3:
		return fmt.Sprintf("(%s %s %d)", x, []string{"+", "-", "*", "&", "|", "^"}[p.r.IntN(6)], p.r.IntN(128))
	case 4:
		return fmt.Sprintf("(%s %s (%s|1))", x, []string{"/", "%"}[p.r.IntN(2)], p.expr(kind, depth-1))
	case 5:
		return fmt.Sprintf("(%s %s (%s & %d))", x, []string{"<<", ">>"}[p.r.IntN(2)], p.expr(p.r.IntN(8), depth-1), []int{7, 31, 63, 127}[p.r.IntN(4)])
	case 6:
		return fmt.Sprintf("%s(%s)", kinds[kind], p.expr(p.r.IntN(8), depth-1))
	case 7:
		return fmt.Sprintf("%s(pick(%s, int64(%s), int64(%s)))", kinds[kind], p.cond(depth-1), x, p.v(p.r.IntN(8)))
	}
	return fmt.Sprintf("%s(%s, %s)", []string{"min", "max"}[p.r.IntN(2)], x, p.v(kind))
}

func (p *program) cond(depth int) string {
	if depth > 0 && p.r.IntN(3) == 0 {
		return fmt.Sprintf("(%s %s !%s)", p.cond(depth-1), []string{"&&", "||"}[p.r.IntN(2)], p.cond(depth-1))
	}
	kind := p.r.IntN(8)
	return fmt.Sprintf("(%s %s %s)", p.expr(kind, max(depth, 0)), []string{"<", "<=", "==", "!=", ">", ">="}[p.r.IntN(6)], p.v(kind))
}

func (p *program) block(depth int) {
	p.indent += "\t"
	for range 1 + p.r.IntN(3) {
		p.statement(depth)
	}
	p.indent = p.indent[1:]
}

func (p *program) statement(depth int) {
	kind := p.r.IntN(8)
	switch n := p.r.IntN(12); {
	case n < 4 || depth == 0:
		p.line("v%d = %s", kind, p.expr(kind, 3))
	case n < 6:
		p.line("if %s {", p.cond(2))
		p.block(depth - 1)
		p.line("} else {")
		p.block(depth - 1)
		p.line("}")
	case n < 8:
		p.loops++
		i := fmt.Sprintf("i%d", p.loops)
		p.line("for %s := uint8(0); %s < %d; %s++ {", i, i, 1+p.r.IntN(5), i)
		p.line("\tv1 ^= %s", i)
		p.block(depth - 1)
		p.line("\tif %s { %s }", p.cond(1), []string{"break", "continue"}[p.r.IntN(2)])
		p.line("}")
	case n == 8:
		p.line("switch %s {", p.v(kind))
		p.line("case %d, %d:", p.r.IntN(60), 60+p.r.IntN(60))
		p.block(depth - 1)
		p.line("default:")
		p.block(depth - 1)
		p.line("}")
	case n == 9:
		p.line("arr[v1&7] = %s", p.expr(4, 2))
		p.line("v4 ^= arr[%s&%d]", p.v(kind), []int{7, 7, 7, 15}[p.r.IntN(4)])
	case n == 10:
		p.line("pr.x, pr.y = pr.y+%s, %s", p.expr(3, 1), p.expr(3, 2))
		p.line("pr.add(v3)")
		p.line("v6 += sum(v1, int64(pr.x))")
	default:
		p.line("if %s { return libpie.Reject(%s) }", p.cond(1), p.expr(kind, 1))
	}
}

// guard writes guard number n.
func (p *program) guard(n int) {
	p.line("\n//pie:guard exe=x func=f onfault=reject:-77 onfuel=reject:-78")
	p.line("func G%d(c *libpie.Call, v0 int8, v1 uint8, v2 int16, v3 uint16, v4 int32, v5 uint32) libpie.Verdict {", n)
	p.line("\tv6, v7 := int64(v4)<<20^int64(v2), uint64(v5)*0x9e3779b97f4a7c15")
	p.line("\tvar arr [8]int32")
	p.line("\tvar pr pair")
	p.block(3)
	p.block(3)
	p.block(2)
	p.line("\treturn libpie.Reject(int64(v0) ^ int64(v1)*3 ^ int64(v2)*5 ^ int64(v3)*7 ^ int64(v4)*9 ^ int64(v5)*11 ^ v6*13 ^ int64(v7)*15 ^ int64(arr[v1&7]) ^ int64(pr.y))")
	p.line("}")
}

// randomTest runs the guards natively, on the words in a file, in another module.
const randomTest = `package random

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"github.com/patch-integration-engine/pie/libpie/libpietest"
)

func Test(t *testing.T) {
	in, _ := os.Open("words")
	out, _ := os.Create("results")
	defer out.Close()
	p := libpietest.New(t)
	for s := bufio.NewScanner(in); s.Scan(); {
		w := make([]uint64, 6)
		fmt.Sscan(s.Text(), &w[0], &w[1], &w[2], &w[3], &w[4], &w[5])
		for _, g := range guards {
			if r := p.RunWords(g, w...); r.Faulted {
				fmt.Fprintln(out, "fault")
			} else {
				fmt.Fprintln(out, uint64(r.Value()))
			}
		}
	}
}
`

// Random guards say the same natively and as bytecode. PIE_RANDOM is the seed;
// each seed is a new set.
func TestRandomGuardsAgree(t *testing.T) {
	seed, count := uint64(1), 25
	fmt.Sscan(os.Getenv("PIE_RANDOM"), &seed)
	p := &program{r: rand.New(rand.NewPCG(seed, 9))}
	p.WriteString(randomPrelude + "\n//pie:id random\n")
	list := "package random\n\nvar guards = []any{"
	for n := range count {
		p.guard(n)
		list += fmt.Sprintf("G%d, ", n)
	}
	var words [][]uint64
	var lines strings.Builder
	b := newBench(t, seed)
	for range 40 {
		w := make([]uint64, 6)
		for i := range w {
			w[i] = b.word()
		}
		words = append(words, w)
		fmt.Fprintln(&lines, strings.Trim(fmt.Sprint(w), "[]"))
	}
	native := runNatively(t, map[string]string{
		"guards.go": p.String(), "list.go": list + "}\n", "random_test.go": randomTest, "words": lines.String(),
	})
	defer native.Close()
	m, errs := load(map[string][]byte{"guards.go": []byte(p.String())})
	if errs != nil {
		t.Fatal(join(errs))
	}
	prepatch, err := source.Parse("guards.go", []byte(p.String()))
	if err != nil {
		t.Fatal(err)
	}
	agree(t, m, prepatch, words, bufio.NewScanner(native))
}

// runNatively runs files as the tests of a module of their own, and returns
// what they found.
func runNatively(t *testing.T, files map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	files["go.mod"] = "module random\n\ngo 1.26\n\nrequire github.com/patch-integration-engine/pie v0.0.0\n\nreplace github.com/patch-integration-engine/pie => " + root + "\n"
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Unoptimised: of about a thousand such functions, Go 1.26.8 compiled one to
	// code that says something else than with -N.
	cmd := exec.Command("go", "test", "-mod=mod", "-vet=off", "-gcflags=random=-N", "-count=1", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("running the guards natively: %v\n%s", err, out)
	}
	results, err := os.Open(filepath.Join(dir, "results"))
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// agree compares the bytecode of each guard on each input with what it said
// natively.
func agree(t *testing.T, m *module, p *source.Prepatch, words [][]uint64, native *bufio.Scanner) {
	t.Helper()
	guards := make([]*Guard, len(p.Guards)) // nil: needs more stack than there is
	compiled := 0
	for i, g := range p.Guards {
		c, err := m.guard(p, g)
		if err != nil && !strings.Contains(err.Msg, "bytes of stack") {
			t.Fatal(err)
		}
		if guards[i] = c; c != nil {
			compiled++
		}
	}
	if compiled < len(guards)/2 {
		t.Errorf("only %d of %d guards compile", compiled, len(guards))
	}
	for _, w := range words {
		for _, g := range guards {
			if !native.Scan() {
				t.Fatal("the native run ended early")
			}
			if g == nil {
				continue
			}
			in := bpf.Interp{Unit: g.Unit}
			got, err := in.Run(bpf.Frame{Args: [bpf.FrameArgs]uint64(append(w[:6:6], 0, 0, 0))})
			said := fmt.Sprint(got.Words[0])
			if got.Faulted {
				said = "fault"
			}
			if err != nil || got.OutOfFuel || said != native.Text() {
				t.Fatalf("%s on %#x: bytecode %s (%v), native %s\n%s", g.Name, w, said, err, native.Text(), bpf.Disassemble(g.Unit.Insns))
			}
		}
	}
}
