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
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

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
	content, _ := os.ReadFile("content")
	out, _ := os.Create("results")
	defer out.Close()
	p := libpietest.New(t)
	for s := bufio.NewScanner(in); s.Scan(); {
		w := []uint64{uint64(p.Bytes(content)), 0, 0, 0, 0, 0}
		fmt.Sscan(s.Text(), &w[1], &w[2], &w[3], &w[4], &w[5])
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

// randomContent is the memory of the random guards, and where it is for bytecode.
const (
	randomContent = "\x01\x00\x05\x00\x01aab\xff\xff\xff\x7fabc\x00aaaaaaaaaaaabbcc\x02\x00\x00\x00\x80\x00\x00\x00\x00\x01\xfe\xff3aab2\x00\x00\x00\x00\x00\x00\x00zabcdefghij"
	randomAddr    = 0x10_0000
)

type contentMemory struct{}

func (contentMemory) Read(addr uint64, p []byte) bool {
	if addr < randomAddr || addr+uint64(len(p)) > randomAddr+uint64(len(randomContent)) {
		return false
	}
	copy(p, randomContent[addr-randomAddr:])
	return true
}

func (contentMemory) Write(uint64, []byte) bool { return false }

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
		fmt.Fprintln(&lines, strings.Trim(fmt.Sprint(w[1:]), "[]"))
	}
	native := runNatively(t, map[string]string{
		"guards.go": p.String(), "list.go": list + "}\n", "random_test.go": randomTest, "words": lines.String(), "content": randomContent,
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
		if guards[i] = c; c == nil {
			continue
		}
		compiled++
		if _, err := verify.Verify(c.Unit); err != nil {
			t.Errorf("%s is not verified: %v", g.Name, err)
		}
	}
	if compiled < len(guards)/3 { // the others need too much stack
		t.Errorf("only %d of %d guards compile", compiled, len(guards))
	}
	runs, faulted := 0, 0
	for _, w := range words {
		for _, g := range guards {
			if !native.Scan() {
				t.Fatal("the native run ended early")
			}
			if g == nil {
				continue
			}
			w[0] = randomAddr
			in := bpf.Interp{Unit: g.Unit, Memory: contentMemory{}}
			got, err := in.Run(bpf.Frame{Args: [bpf.FrameArgs]uint64(append(w[:6:6], 0, 0, 0))})
			said := fmt.Sprint(got.Words[0])
			if runs++; got.Faulted {
				said = "fault"
				faulted++
			}
			if err != nil || got.OutOfFuel || said != native.Text() {
				t.Fatalf("%s on %#x: bytecode %s (%v), native %s\n%s", g.Name, w, said, err, native.Text(), bpf.Disassemble(g.Unit.Insns))
			}
		}
	}
	t.Logf("%d of %d guards, %d runs, of which %d faulted", compiled, len(guards), runs, faulted)
	if faulted > runs/2 {
		t.Errorf("%d of %d runs faulted: guards that do nothing else tell nothing", faulted, runs)
	}
}
