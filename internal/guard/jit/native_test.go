package jit

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	compiler "github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Random guards in Go, run three times on the same calls: natively, in the interpreter and
// as machine code. The calls of a set are made in one order everywhere, for they share
// state and memory.

const (
	goContent = "\x01\x00\x05\x00\x01aab\xff\xff\xff\x7fabc\x00aaaaaaaaaaaabbcc\x02\x00\x00\x00\x80\x00\x00\x00\x00\x01\xfe\xff3aab2\x00\x00\x00\x00\x00\x00\x00zabcdefghij\x00\x00\x00"
	contentAt = dataAt + dataLen - address.Addr(len(goContent)) // behind it nothing can be read

	goVariable = 0xfedc_ba98_7654_3210 // what variables of the target hold

	goGuards, goCalls = 24, 40 // of a set
)

// A goCall is one call of a random guard.
type goCall struct {
	now   uint64
	words [6]uint64 // the first is the address of the memory
}

// A goSet is guards, the calls they get, and what each call came to natively.
type goSet struct {
	seed    uint64
	abi     ABI
	guards  []goGuard
	calls   []goCall
	refused int
}

type goGuard struct {
	name, text string
	p          *verify.Program
}

// unmetered is a guard with fuel for all that it does natively.
type unmetered struct{ *verify.Program }

func (p unmetered) Unit() *bpf.Unit {
	u := p.Program.Unit()
	u.Fuel = 1 << 30
	return u
}

// TestRandomGoGuards compares a set of random guards, or with a longer -differential as many
// sets as there is time for.
func TestRandomGoGuards(t *testing.T) {
	prelude, err := os.ReadFile("testdata/randomgo/prelude.go")
	if err != nil {
		t.Fatal(err)
	}
	seed, sets, guards, refused, calls, faults := firstSeed(t), 0, 0, 0, 0, 0
	for end := time.Now().Add(*diffTime); sets == 0 || time.Now().Before(end) && !t.Failed(); seed++ {
		s := newGoSet(t, seed, prelude)
		d := newDifferential(t, seed)
		d.m.mapAt(farStateAt, bpf.MaxState+0x1000, protRead|protWrite, 0)
		native := runNatively(t, s.files(prelude, d.m))
		s.compare(t, d, bufio.NewScanner(native))
		native.Close()
		d.finish(t)
		sets, guards, refused, calls, faults = sets+1, guards+len(s.guards), refused+s.refused, calls+d.calls, faults+d.faults
	}
	t.Logf("%d sets: %d guards, %d more cannot be had, %d calls as machine code, of which %d faulted", sets, guards, refused, calls, faults)
	if refused > guards || faults > calls/2 {
		t.Error("too few of the guards, or of their calls, tell anything")
	}
}

// newGoSet writes guards and compiles them.
func newGoSet(t *testing.T, seed uint64, prelude []byte) *goSet {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	s := &goSet{seed: seed, abi: ABI(r.IntN(2))}
	p := &goProgram{r: r, goABI: s.abi == GoInternal}
	for n := range goGuards {
		g := goGuard{name: fmt.Sprintf("G%d", n), text: p.guard(n)}
		if s.compile(t, &g, prelude) {
			s.guards = append(s.guards, g)
		} else {
			s.refused++
		}
	}
	now := uint64(1e9)
	for range goCalls {
		c := goCall{now: now, words: [6]uint64{uint64(contentAt)}}
		for i := range c.words[1:] {
			c.words[1+i] = goWord(r)
		}
		s.calls = append(s.calls, c)
		now += r.Uint64N(4e8)
	}
	return s
}

// goWord is an argument: a number that matters, with or without garbage above it.
func goWord(r *rand.Rand) uint64 {
	switch r.IntN(4) {
	case 0:
		return oddNumber(r)
	case 1:
		return -uint64(r.IntN(20))
	case 2:
		return uint64(r.IntN(20)) | r.Uint64()<<32
	}
	return uint64(r.IntN(300))
}

// compile reports whether the guard can be had: one that needs more stack than there is
// cannot, nor one that asks for what only code does that nothing leads to.
func (s *goSet) compile(t *testing.T, g *goGuard, prelude []byte) bool {
	t.Helper()
	files := map[string][]byte{"prelude.go": prelude, g.name + ".go": []byte(g.text)}
	src, err := source.ParseFiles(files)
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", s.seed, err, g.text)
	}
	c, err := compiler.Compile(src, files)
	if err != nil && (strings.Contains(err.Error(), "bytes of stack") || strings.Contains(err.Error(), "has no effect: no guard")) {
		return false
	}
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", s.seed, err, g.text)
	}
	if g.p, err = verify.Verify(c.Guards[0].Unit); err != nil {
		t.Fatalf("seed %d: %s is not verified: %v\n%s", s.seed, g.name, err, g.text)
	}
	return true
}

// files are those of the module in which the guards run natively.
func (s *goSet) files(prelude []byte, m *machine) map[string]string {
	native, _ := os.ReadFile("testdata/randomgo/random_test.go")
	files := map[string]string{"prelude.go": string(prelude), "random_test.go": string(native), "content": goContent}
	files["environment"] = fmt.Sprintln(m.tid, uint64(m.returned), 4096, s.seed, uint64(goVariable))
	list := "package random\n\nvar guards = []any{"
	for _, g := range s.guards {
		files[g.name+".go"] = g.text
		list += g.name + ", "
	}
	files["list.go"] = list + "}\n"
	for _, c := range s.calls {
		files["calls"] += fmt.Sprintln(c.now, strings.Trim(fmt.Sprint(c.words[1:]), "[]"))
	}
	return files
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

// compare holds what each call came to natively against the interpreter, and that against
// machine code.
func (s *goSet) compare(t *testing.T, d *differential, native *bufio.Scanner) {
	t.Helper()
	native.Buffer(nil, 1<<20)
	data := make([]byte, dataLen)
	for i := 0x80; i < 0x800; i += 8 {
		binary.LittleEndian.PutUint64(data[i:], goVariable)
	}
	copy(data[contentAt-dataAt:], goContent)
	d.renew(data)
	state := make([]byte, bpf.MaxState)
	binary.LittleEndian.PutUint64(state[bpf.StateSeed:], s.seed)
	for k, g := range s.guards {
		r := &generator{Rand: rand.New(rand.NewPCG(s.seed, uint64(k))), abi: s.abi}
		x := s.place(d, g, r)
		for _, c := range s.calls {
			if !native.Scan() {
				t.Fatal("the native run ended early")
			}
			got := s.call(t, d, x, c, state, r)
			if got != native.Text() {
				t.Errorf("interpreter %s\nnative      %s", got, native.Text())
			}
			if t.Failed() || !d.agree() {
				t.Errorf("seed %d, guard %s, time %d, words %#x:\n%s\n%s", s.seed, g.name, c.now, c.words[1:], g.text, bpf.Disassemble(g.p.Unit().Insns))
				return
			}
		}
	}
}

// place places a guard, or has it ready for the interpreter alone: one that ends the
// process, or that is too large for the test process.
func (s *goSet) place(d *differential, g goGuard, r *generator) *trial {
	p := unmetered{g.p}
	if p.Unit().Caps&bpf.CapExit == 0 {
		if x := d.place(p, r, s.seed); x != nil {
			return x
		}
	}
	x := &trial{m: d.m, p: p, u: p.Unit(), s: Site{ABI: s.abi}, l: d.m.layout(), seed: s.seed}
	x.l.StackEnd, x.l.Symbols = stackAt+stackLen, symbolsOf(x.u, d.m.returned)
	return x
}

// call makes one call, and returns what the interpreter says of it and of the memory. What
// machine code does is compared with that by d.
func (s *goSet) call(t *testing.T, d *differential, x *trial, c goCall, state []byte, r *generator) string {
	t.Helper()
	call := *x
	call.enter(r)
	call.audit, call.now = false, c.now
	for i, reg := range conventionOf(s.abi).args[:len(c.words)] {
		call.in.GPR[reg] = c.words[i]
	}
	copy(call.state, state)
	if call.c != nil {
		was := d.strayed
		if d.call(&call); d.strayed != was {
			t.Error("the call read what the two sides do not share")
		}
	} else {
		var err error
		if call.want, err = call.interpret(d.mem); err != nil {
			t.Errorf("interpreter: %v", err)
		}
		d.renew(d.mem.data)
	}
	copy(state, call.state[:call.guardState()])
	return fmt.Sprintf("%s memory %x", goEnded(call.want, c.words), d.mem.data[contentAt-dataAt:])
}

// goEnded says how a call ended, as the native run does.
func goEnded(r bpf.Result, args [6]uint64) string {
	v := r.Verdict
	if r.Faulted {
		if v != bpf.Reject(1, 0) || int64(r.Words[0]) != -77 {
			return "another verdict than onfault's"
		}
		return "fault"
	}
	if r.OutOfFuel {
		return "out of fuel"
	}
	told := fmt.Sprintf("verdict %d", v.Kind())
	switch v.Kind() {
	case bpf.VerdictReject:
		for _, w := range r.Words[:v.Words()] {
			told += fmt.Sprintf(" %d", w)
		}
	case bpf.VerdictExit:
		told += fmt.Sprintf(" %d", r.Words[0])
	case bpf.VerdictRewrite:
		for i := 1; i < len(args); i++ {
			if v.Rewrites()&(1<<i) != 0 {
				args[i] = r.Words[i]
			}
			told += fmt.Sprintf(" %d", args[i])
		}
	}
	if v&bpf.VerdictXMM0 != 0 {
		told += fmt.Sprintf(" float %d", r.XMM0)
	}
	if v&bpf.VerdictErrno != 0 {
		told += fmt.Sprintf(" errno %d", r.Errno)
	}
	if v.Kind() == bpf.VerdictReject || v.Kind() == bpf.VerdictLog {
		told += fmt.Sprintf(" code %d", r.Code)
	}
	return told
}
