package plan

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// TestDetourGo builds a Go program and detours, in its file, every function
// that Go's compiler made and that has a site.
func TestDetourGo(t *testing.T) {
	dir := t.TempDir()
	exe := filepath.Join(dir, "govictim")
	build := exec.Command("go", "build", "-o", exe, "./testdata/govictim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	want := run(t, exe)
	image, functions := goFunctions(t, exe)
	patched, planned, refused := patchGo(t, image, functions)
	t.Logf("%d of %d functions detoured; refused: %v", planned, len(functions), refused)
	if planned*100 < len(functions)*75 {
		t.Errorf("only %d of %d functions planned", planned, len(functions))
	}
	if refused[SiteBranch]+refused[SitePage]+refused[SiteUndecodable] > len(functions)/200 {
		t.Errorf("refused: %v", refused)
	}
	other := exe + "-detoured"
	if err := os.WriteFile(other, patched, 0o700); err != nil {
		t.Fatal(err)
	}
	rounds := 2
	if *whole {
		rounds = 20
	}
	for range rounds {
		if got := run(t, other); got != want {
			t.Fatalf("the output changed:\n%s\nwant:\n%s", got, want)
		}
	}
}

// goFunctions returns the file and its compiled Go functions.
func goFunctions(t *testing.T, exe string) ([]byte, []Function) {
	t.Helper()
	image, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	file, err := binfile.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	table, err := file.GoTable()
	if err != nil {
		t.Fatal(err)
	}
	var all []Function
	for _, g := range table.Funcs {
		off, ok := file.Off(g.Entry)
		if g.Assembly || g.C || !ok {
			continue
		}
		all = append(all, Function{Name: g.Name, Entry: address.Addr(g.Entry), Size: g.Size, Text: image[off:], Go: true})
	}
	return image, all
}

// patchGo returns the file with every function detoured. The code goes into a
// new segment, in the place of the note's program header.
func patchGo(t *testing.T, image []byte, functions []Function) (patched []byte, planned int, refused map[Code]int) {
	t.Helper()
	patched, refused = bytes.Clone(image), map[Code]int{}
	patched = append(patched, make([]byte, -len(patched)&(pageSize-1))...)
	start := len(patched)
	patched = append(patched, make([]byte, len(functions)*chunkSize)...)
	for n, f := range functions {
		s, err := ChooseSite(f)
		if err != nil {
			refused[err.(*Refusal).Code]++
			continue
		}
		chunk := testArena.Add(int64(n * chunkSize))
		d := detour(t, s, chunk, false)
		copy(patched[start+n*chunkSize:], d.block)
		copy(patched[start+n*chunkSize+tramp:], d.after)
		off := len(image) - len(f.Text) + int(s.Start-s.Entry)
		copy(patched[off:], d.patch)
		planned++
	}
	loadSegment(t, patched, start)
	return patched, planned, refused
}

// loadSegment turns the note's program header into one that maps the end of
// the file, from start on, at testArena.
func loadSegment(t *testing.T, file []byte, start int) {
	t.Helper()
	le := binary.LittleEndian
	table, count := le.Uint64(file[32:]), le.Uint16(file[56:])
	for n := range uint64(count) {
		h := file[table+n*56:]
		if elf.ProgType(le.Uint32(h)) != elf.PT_NOTE {
			continue
		}
		le.PutUint32(h, uint32(elf.PT_LOAD))
		le.PutUint32(h[4:], uint32(elf.PF_R|elf.PF_X))
		for i, v := range []uint64{uint64(start), uint64(testArena), uint64(testArena), uint64(len(file) - start), uint64(len(file) - start), pageSize} {
			le.PutUint64(h[8+8*i:], v)
		}
		return
	}
	t.Fatal("the program has no note segment to replace")
}

func TestGoSiteOfRealPrologue(t *testing.T) {
	_, functions := goFunctions(t, os.Args[0])
	for _, f := range functions {
		if !strings.HasSuffix(f.Name, "plan.Build") {
			continue
		}
		s, err := ChooseSite(f)
		if err != nil || len(s.Before) == 0 || len(s.After) != 0 || s.SPDelta != 0 {
			t.Errorf("%s: %+v, %v", f.Name, s, err)
		}
		return
	}
	t.Error("this test's own binary has no plan.Build")
}
