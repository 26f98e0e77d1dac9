package verify

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A sample is a program of the corpus: its name, which begins with a directory
// (a reason, or what is right about it), and its text.
type sample struct{ name, text string }

func samples(t testing.TB, pattern string) []sample {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no corpus at %s (%v)", pattern, err)
	}
	var list []sample
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range txtar.Parse(b).Files {
			list = append(list, sample{f.Name, string(f.Data)})
		}
	}
	return list
}

// unit assembles a sample. The labels fault and fuel say where the landing
// blocks begin; one stands for both, and what has neither gets one that passes.
func unit(t testing.TB, text string) *bpf.Unit {
	t.Helper()
	const pass = "\npass_by_harness:\nmov %r0, 0\nexit\n"
	if label(text, "fault") < 0 && label(text, "fuel") < 0 {
		text += pass
	}
	insns, err := bpf.Assemble(text)
	if err != nil {
		t.Fatal(err)
	}
	u := &bpf.Unit{
		Name:    "Guard",
		Insns:   insns,
		Symbols: []bpf.Symbol{{Name: "data"}, {Name: "function", Kind: bpf.SymbolFunc}, {Name: "io.EOF", Kind: bpf.SymbolGoError}},
		Rodata:  []byte("GET *\x00needle\x00"),
		Fuel:    1000,
		State:   128,
	}
	for _, name := range []string{"rewrite", "write", "call"} {
		if strings.Contains(text, "# cap "+name+"\n") {
			u.Caps |= bpf.CapNamed(name)
		}
	}
	if u.Caps&bpf.CapCall != 0 {
		u.State += bpf.InsideSize
	}
	u.OnFault, u.OnFuel = label(text, "fault"), label(text, "fuel")
	other := label(text, "pass_by_harness")
	if u.OnFault < 0 {
		u.OnFault = max(other, u.OnFuel)
	}
	if u.OnFuel < 0 {
		u.OnFuel = max(other, u.OnFault)
	}
	return u
}

// label is the index of the instruction after a label, −1 when there is none.
func label(text, name string) int {
	n := 0
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		switch line = strings.TrimSpace(line); {
		case line == name+":":
			return n
		case line == "" || strings.HasSuffix(line, ":"):
		case strings.HasPrefix(line, "lddw"):
			n += 2
		default:
			n++
		}
	}
	return -1
}

func TestRefusesWrongGuards(t *testing.T) {
	list := samples(t, "testdata/refused_*.txtar")
	for _, s := range list {
		t.Run(s.name, func(t *testing.T) {
			reason, _, _ := strings.Cut(s.name, "/")
			_, err := Verify(unit(t, s.text))
			var refusal *Error
			if !errors.As(err, &refusal) {
				t.Fatalf("accepted, want [%s]", reason)
			}
			if string(refusal.Reason) != reason {
				t.Errorf("refused because %v, want [%s]", err, reason)
			}
		})
	}
	if len(list) < 100 {
		t.Errorf("the corpus has %d wrong guards, want at least 100", len(list))
	}
}

func TestAcceptsRightGuards(t *testing.T) {
	for _, s := range samples(t, "testdata/accepted_*.txtar") {
		t.Run(s.name, func(t *testing.T) {
			u := unit(t, s.text)
			p, err := Verify(u)
			if err != nil {
				t.Fatal(err)
			}
			fuel := false
			for pc := range u.Insns {
				fuel = fuel || p.Fuel(pc) > 0
			}
			if want := strings.HasPrefix(s.name, "fuel/"); fuel != want {
				t.Errorf("needs fuel: %v, want %v", fuel, want)
			}
			if err := checkSound(u, rand.New(rand.NewPCG(1, 1)), 100); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFuelKeepsTheCap: a guard that names no fuel gets as much as ends its
// slowest run after about 100 µs; one that does keeps its own.
func TestFuelKeepsTheCap(t *testing.T) {
	for _, s := range samples(t, "testdata/accepted_*.txtar") {
		u := unit(t, s.text)
		if p, err := Verify(u); err != nil || p.Unit().Fuel != u.Fuel {
			t.Errorf("%s: fuel %d, %v; want %d", s.name, p.Unit().Fuel, err, u.Fuel)
		}
		u.Fuel = 0
		p, err := Verify(u)
		if err != nil {
			t.Fatal(err)
		}
		if f := p.Unit().Fuel; f < minFuel || f > bpf.FuelDefault || p.Cost().Ns > 1.1*nsCap {
			t.Errorf("%s: fuel %d, %v ns", s.name, f, p.Cost().Ns)
		}
	}
}
