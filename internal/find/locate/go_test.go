package locate

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// goBuild builds testdata/govictim.
func goBuild(t *testing.T, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "govictim")
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), "./testdata/govictim")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, b)
	}
	return out
}

// A Go program's functions and error variables are found with and without
// symbols, position-independent or not; the program says itself where they are.
func TestGo(t *testing.T) {
	for _, build := range []struct {
		name     string
		flags    []string
		stripped bool
	}{
		{"symbols", nil, false},
		{"stripped", []string{"-ldflags=-s -w"}, true},
		{"pie", []string{"-buildmode=pie"}, false},
		{"stripped pie", []string{"-buildmode=pie", "-ldflags=-s -w"}, true},
	} {
		t.Run(build.name, func(t *testing.T) {
			p := start(t, exec.Command(goBuild(t, build.flags...)))
			set, err := Images(p)
			if err != nil {
				t.Fatal(err)
			}
			defer set.Close()
			found, err := set.Find(Query{Exe: "govictim", Func: "main.(*client).process"})
			if err != nil {
				t.Fatal(err)
			}
			if found[0].Entry != p.addrs["process"] || !found[0].Go {
				t.Errorf("found at %v, Go %v; want %v", found[0].Entry, found[0].Go, p.addrs["process"])
			}
			inMemory(t, p, found[0])
			for _, name := range []string{"io.EOF", "io.ErrUnexpectedEOF", "main.errOwn"} {
				a, err := set.Symbol(set.Exe(), bpf.Symbol{Name: name, Kind: bpf.SymbolGoError})
				var none *NoSymbol
				if build.stripped && name == "main.errOwn" {
					if !errors.As(err, &none) || !strings.Contains(err.Error(), "io.EOF") {
						t.Errorf("%s in a stripped program: %v, want a *NoSymbol that lists what is known", name, err)
					}
					continue
				}
				if err != nil || a != p.addrs[name] {
					t.Errorf("%s at %v, %v; want %v", name, a, err, p.addrs[name])
				}
			}
			if _, err := set.Find(Query{Func: "process"}); err == nil || !strings.Contains(err.Error(), "main.(*client).process") {
				t.Errorf("a method without its type: %v, want the full name suggested", err)
			}
			if _, err := set.Find(Query{Func: "runtime.memmove"}); !errors.Is(err, ErrAssembly) {
				t.Errorf("a function in assembly: %v, want ErrAssembly", err)
			}
			if _, err := set.Errno(); !errors.Is(err, ErrNoErrno) {
				t.Errorf("errno of a Go program: %v, want ErrNoErrno", err)
			}
		})
	}
}

// The linker escapes dots in the last element of an import path; people do not, and may
// have copied the name from what nm or a stack trace printed.
func TestEscapedGoName(t *testing.T) {
	const full = "gopkg.in/yaml%2ev3.yaml_parser_parse"
	for wanted, want := range map[string]bool{
		full: true, "gopkg.in/yaml.v3.yaml_parser_parse": true, "yaml.v3.yaml_parser_parse": true, "yaml%2ev3.yaml_parser_parse": true,
		"v3.yaml_parser_parse": false, "yaml_parser_parse": false,
	} {
		if got := goNameMatches(full, wanted); got != want {
			t.Errorf("%s: %v", wanted, got)
		}
	}
}
