package detours

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/live/plan"
)

// module is a program file and its functions, at link-time addresses.
type module struct {
	functions  []plan.Function
	start, end address.Addr // of what is mapped
	isPIE      bool
}

// readModule reads every function that the file's tables tell. Split-off cold
// parts are none: they are jumped to, in the middle of a function.
func readModule(t testing.TB, path string) *module {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := binfile.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	all, err := file.Functions()
	if err != nil {
		t.Fatal(err)
	}
	m := &module{isPIE: file.IsPIE(), start: ^address.Addr(0)}
	for _, s := range file.Segments {
		if s.Type != elf.PT_LOAD {
			continue
		}
		m.start = min(m.start, address.Addr(s.Vaddr).Page())
		m.end = max(m.end, address.Addr(s.Vaddr).Add(int64(s.Memsz)))
		if s.Flags&elf.PF_X == 0 {
			continue
		}
		text := make([]byte, s.Filesz)
		if _, err := f.ReadAt(text, int64(s.Off)); err != nil {
			t.Fatal(err)
		}
		m.addFunctions(all, text, s.Vaddr)
	}
	return m
}

func (m *module) addFunctions(all []binfile.Function, text []byte, at address.Vaddr) {
	branches := branchesIn(text)
	for n, fn := range all {
		if fn.Start < at || uint64(fn.Start-at) >= uint64(len(text)) || len(fn.Names) == 0 || fn.Size == 0 || isPart(fn.Names) {
			continue
		}
		off := uint64(fn.Start - at)
		end := uint64(len(text))
		if n+1 < len(all) {
			end = min(end, max(uint64(all[n+1].Start-at), off+fn.Size))
		}
		f := plan.Function{
			Name: fn.Names[0], Entry: address.Addr(fn.Start), Size: fn.Size, Text: text[off:end],
			Segment: text, SegmentAt: address.Addr(at),
		}
		if !entered(branches, off, fn.Size) { // the search of the whole segment would find nothing
			from := (off - min(off, margin)) &^ 15
			f.Segment = text[from:min(uint64(len(text)), off+fn.Size+margin)]
			f.SegmentAt = address.Addr(at).Add(int64(from))
		}
		m.functions = append(m.functions, f)
	}
}

const (
	maxSite = 96   // no site ends farther from its entry, in bytes
	margin  = 1024 // of a segment, on each side of a function: short branches reach less
)

func isPart(names []string) bool {
	for _, n := range names {
		if strings.Contains(n, ".cold") {
			return true
		}
	}
	return false
}

// branch is a rel32 branch from the byte behind it to another, in a segment.
type branch struct{ from, to uint64 }

// branchesIn finds all that could be a rel32 branch, at any byte, by where it goes.
func branchesIn(text []byte) []branch {
	var all []branch
	for n := 2; n+4 <= len(text); n++ {
		if op := text[n-1]; op != 0xe8 && op != 0xe9 && (op&0xf0 != 0x80 || text[n-2] != 0x0f) {
			continue
		}
		to := uint64(n+4) + uint64(int64(int32(binary.LittleEndian.Uint32(text[n:]))))
		if to < uint64(len(text)) {
			all = append(all, branch{uint64(n), to})
		}
	}
	slices.SortFunc(all, func(a, b branch) int { return cmp.Compare(a.to, b.to) })
	return all
}

// entered reports whether a branch from outside a function of size bytes at off
// could lead to where its site may be.
func entered(all []branch, off, size uint64) bool {
	n, _ := slices.BinarySearchFunc(all, off+1, func(b branch, to uint64) int { return cmp.Compare(b.to, to) })
	for ; n < len(all) && all[n].to < off+maxSite; n++ {
		if all[n].from <= off || all[n].from >= off+size {
			return true
		}
	}
	return false
}
