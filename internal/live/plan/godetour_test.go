package plan

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
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
	if planned*1000 < len(functions)*985 {
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

// patchGo returns the file with every function detoured. The code, and the pages of
// entrances, are in new segments.
func patchGo(t *testing.T, image []byte, functions []Function) (patched []byte, planned int, refused map[Code]int) {
	t.Helper()
	patched, refused = bytes.Clone(image), map[Code]int{}
	chunks := make([]byte, len(functions)*chunkSize)
	in := entrances{pages: map[address.Addr][]byte{}, taken: []arena.Range{
		{Start: 0, End: address.Addr(0x400000 + len(image) + 64<<20)},
		{Start: testArena, End: testArena.Add(int64(len(chunks)))},
	}}
	for n, f := range functions {
		s, err := ChooseSite(f)
		if err != nil {
			refused[err.(*Refusal).Code]++
			continue
		}
		chunk := testArena.Add(int64(n * chunkSize))
		d := detour(t, s, chunk, false)
		if len(s.Puns) > 0 {
			if d.patch = in.lead(t, s, chunk); d.patch == nil {
				refused[SiteRange]++
				continue
			}
		}
		copy(chunks[n*chunkSize:], d.block)
		copy(chunks[n*chunkSize+tramp:], d.after)
		off := len(image) - len(f.Text) + int(s.Start-s.Entry)
		copy(patched[off:], d.patch)
		planned++
	}
	t.Logf("%d entrances in %d pages", in.count, len(in.pages))
	segments := in.pages
	segments[testArena] = chunks
	return loadSegments(t, patched, segments), planned, refused
}

// entrances are jumps to stand-ins, in pages of their own.
type entrances struct {
	pages map[address.Addr][]byte
	taken []arena.Range
	count int
}

// lead writes an entrance that leads to chunk, and returns what leads there from the site;
// nil where there is no room for it.
func (in *entrances) lead(t *testing.T, s Site, chunk address.Addr) []byte {
	t.Helper()
	for _, p := range s.Puns {
		at, ok := p.Next(0)
		for ok && !in.free(at) {
			at, ok = p.Next(in.behind(at))
		}
		if !ok || at >= highestTarget {
			continue
		}
		jump, err := jit.Jump(at, chunk, jumpLen)
		if err != nil {
			continue // out of reach of the stand-ins: a process has an arena there
		}
		patch, err := p.Write(s.Original, at)
		if err != nil {
			t.Fatalf("%s: %v", s.Function, err)
		}
		in.write(at, jump)
		return patch
	}
	return nil
}

func (in *entrances) free(at address.Addr) bool { return in.behind(at) == at }

// behind is at, or a later address where nothing is that is in the way of an entrance at at.
func (in *entrances) behind(at address.Addr) address.Addr {
	if at.Page() != at.Add(jumpLen-1).Page() {
		return at.Add(jumpLen - 1).Page()
	}
	for _, r := range in.taken {
		if r.Overlaps(arena.Range{Start: at, End: at.Add(jumpLen)}) {
			return r.End
		}
	}
	return at
}

func (in *entrances) write(at address.Addr, jump []byte) {
	page := at.Page()
	if in.pages[page] == nil {
		in.pages[page] = bytes.Repeat([]byte{int3}, pageSize)
	}
	copy(in.pages[page][at-page:], jump)
	in.taken = append(in.taken, arena.Range{Start: at, End: at.Add(jumpLen)})
	in.count++
}

// loadSegments returns the file with segments appended that are loaded at their addresses.
// Its table of segments moves to its end.
func loadSegments(t *testing.T, file []byte, segments map[address.Addr][]byte) []byte {
	t.Helper()
	const entry = 56 // bytes of a program header
	le := binary.LittleEndian
	file = append(file, make([]byte, -len(file)&(pageSize-1))...)
	old, count := le.Uint64(file[32:]), le.Uint16(file[56:])
	table := bytes.Clone(file[old : old+entry*uint64(count)])
	for _, at := range slices.Sorted(maps.Keys(segments)) {
		h := make([]byte, entry)
		le.PutUint32(h, uint32(elf.PT_LOAD))
		le.PutUint32(h[4:], uint32(elf.PF_R|elf.PF_X))
		size := uint64(len(segments[at]))
		for i, v := range []uint64{uint64(len(file)), uint64(at), uint64(at), size, size, pageSize} {
			le.PutUint64(h[8+8*i:], v)
		}
		table = append(table, h...)
		file = append(file, segments[at]...)
	}
	if len(table) > 64<<10 {
		t.Fatalf("%d segments: more than the kernel loads", len(table)/entry)
	}
	le.PutUint64(file[32:], uint64(len(file)))
	le.PutUint16(file[56:], uint16(len(table)/entry))
	return append(file, table...)
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
