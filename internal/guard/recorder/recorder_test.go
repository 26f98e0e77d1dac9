package recorder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// programs compiles and verifies every guard of the CVE corpus.
func programs(t *testing.T) map[string]*verify.Program {
	t.Helper()
	names, err := filepath.Glob("../cves/testdata/*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("the corpus of guards: %v", err)
	}
	out := map[string]*verify.Program{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{name: text}
		src, err := source.ParseFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		p, err := compile.Compile(src, files)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range p.Guards {
			prog, err := verify.Verify(g.Unit)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Base(name)+" "+g.Name] = prog
		}
	}
	return out
}

// Every guard has a recorder; of those that write or call, which a recorder must not, without memory.
func TestMakesRecorderOfEveryGuard(t *testing.T) {
	for name, p := range programs(t) {
		for _, size := range []int{MinSlot, 1024, MaxSlot} {
			r, err := NewRing(p.Unit().State, size)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, memory := range []bool{false, true} {
				_, err := Make(p, Options{Args: 6, Memory: memory, Ring: r})
				var unsupported *UnsupportedError
				acts := memory && p.Unit().Caps&(bpf.CapWrite|bpf.CapCall) != 0
				if acts != errors.As(err, &unsupported) || !acts && err != nil {
					t.Errorf("%s, slots of %d, memory %v: %v", name, size, memory, err)
				}
			}
		}
	}
}

// A slot is what a process says: whatever it holds, it is a call or an error.
func FuzzSlot(f *testing.F) {
	f.Add(make([]byte, MinSlot), uint64(0))
	b := make([]byte, MinSlot)
	b[slotDone], b[slotUsed], b[slotVerdict] = 1, slotEntries+24, 1
	b[slotEntries+7] = kindBlock << 4
	b[slotEntries+8] = 8
	f.Add(b, uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint64) {
		if !Published(b, n) {
			return
		}
		s, err := DecodeSlot(b, n)
		if err != nil {
			return
		}
		size := 0
		for _, r := range s.Reads {
			size += len(r.Bytes)
		}
		if size > len(b) || s.End >= Ends || s.Guard < 0 {
			t.Errorf("%d bytes read in a slot of %d: %+v", size, len(b), s)
		}
	})
}
