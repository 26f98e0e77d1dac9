package plan

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

var whole = flag.Bool("whole", false, "plan every function of the large libraries, and of PIE_CORPUS, too")

// libraryDirs are where distributions keep shared libraries.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"}

func library(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range libraryDirs {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	t.Fatalf("%s is not on this machine: install libc6, libssl3 and libstdc++6", name)
	return ""
}

// openFile opens a program or library until the test ends, and tells its size in bytes.
func openFile(t *testing.T, path string) (*binfile.File, int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := binfile.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return file, info.Size()
}

// functionsOf returns every function that .eh_frame tells, or that of a Go program its
// table, with its segment; and the addresses that the file takes.
func functionsOf(t *testing.T, path string) (all []Function, image arena.Range) {
	t.Helper()
	file, _ := openFile(t, path)
	frames, goCode := rangesOf(t, file)
	for _, s := range file.Segments {
		if s.Type == elf.PT_LOAD {
			if image.End == 0 {
				image.Start = address.Addr(s.Vaddr)
			}
			image.End = address.Addr(s.Vaddr).Add(int64(s.Memsz))
		}
		if s.Type != elf.PT_LOAD || s.Flags&elf.PF_X == 0 {
			continue
		}
		text := make([]byte, s.Filesz)
		if err := file.ReadVaddr(text, s.Vaddr); err != nil {
			t.Fatal(err)
		}
		entered := targets(text)
		for _, r := range frames {
			if r.Start < s.Vaddr || uint64(r.Start-s.Vaddr)+r.Size > s.Filesz {
				continue
			}
			off := int64(r.Start - s.Vaddr)
			from, to := surroundings(text, off, off+int64(r.Size), entered)
			all = append(all, Function{
				Name: cmp.Or(goCode[r.Start].name, filepath.Base(path)), Entry: address.Addr(r.Start), Size: r.Size, Go: goCode[r.Start].abi,
				Text: text[off:], Segment: text[from:to], SegmentAt: address.Addr(s.Vaddr).Add(from),
			})
		}
	}
	return all, image
}

// entered is nil if a punned jump at s finds room in a process in which nothing but the
// image is mapped, as those of Go are without cgo: its heap lies far away.
func (s *Site) entered(image arena.Range) error {
	if len(s.Puns) == 0 {
		return nil
	}
	space := arena.NewSpace(nil, []arena.Range{image}, arena.Info{})
	if _, _, err := space.Entrance(image, s.Start, s.Original, s.Puns); err != nil {
		return &Refusal{Code: SiteRange, Err: err, Msg: s.Function + ": " + err.Error()}
	}
	return nil
}

// goFunction is what the table of a Go program tells: its name, and whether it is code of
// the compiler's ABI.
type goFunction struct {
	name string
	abi  bool
}

func rangesOf(t *testing.T, file *binfile.File) ([]binfile.Range, map[address.Vaddr]goFunction) {
	t.Helper()
	table, err := file.GoTable()
	if errors.Is(err, binfile.ErrNoTable) {
		frames, err := file.Frames()
		if err != nil {
			t.Fatal(err)
		}
		return frames, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var ranges []binfile.Range
	code := map[address.Vaddr]goFunction{}
	for _, f := range table.Funcs {
		ranges = append(ranges, binfile.Range{Start: f.Entry, Size: f.Size})
		code[f.Entry] = goFunction{f.Name, !f.C}
	}
	return ranges, code
}

// rel32 is a branch from one offset to another that text may hold.
type rel32 struct{ from, to int64 }

func byTarget(a, b rel32) int { return cmp.Compare(a.to, b.to) }

// targets are the rel32 branches that text may hold, by where they lead. Every byte is
// taken for the start of a displacement.
func targets(text []byte) (all []rel32) {
	for n := 1; n+4 <= len(text); n++ {
		if endsBranch(text[:n]) {
			all = append(all, rel32{int64(n), int64(n+4) + int64(int32(binary.LittleEndian.Uint32(text[n:])))})
		}
	}
	slices.SortFunc(all, byTarget)
	return all
}

// surroundings is the part of text in which something may enter the first bytes of the
// function from begin to end: all of it only if a rel32 branch from elsewhere may do so. A
// search of everything for each of some hundred thousand functions would take hours.
func surroundings(text []byte, begin, end int64, entered []rel32) (from, to int64) {
	const reach = maxKept*15 + jumpLen // a site ends no further behind the entry
	last := min(begin+reach, max(end, begin+2*jumpLen))
	n, _ := slices.BinarySearchFunc(entered, rel32{to: begin + 1}, byTarget)
	for ; n < len(entered) && entered[n].to < last; n++ {
		if f := entered[n].from; f <= begin || f >= end {
			return 0, int64(len(text))
		}
	}
	return max(begin-2*neighbourhood, 0) &^ 15, min(end+2*neighbourhood, int64(len(text)))
}

// TestEveryFunction plans every function of real libraries and counts what is
// refused.
func TestEveryFunction(t *testing.T) {
	files := []string{library(t, "libc.so.6")}
	if *whole {
		files = append(files, library(t, "libcrypto.so.3"), library(t, "libstdc++.so.6"))
		files = append(files, filepath.SplitList(os.Getenv("PIE_CORPUS"))...)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			reasons := map[string]int{}
			total, planned, shown, want := 0, 0, 0, 0.995
			functions, image := functionsOf(t, path)
			for _, f := range functions {
				if f.Go { // the jumps over short instructions lead to where they lead, and that is not free everywhere
					want = 0.98
				}
				if f.Size < jumpLen {
					reasons["(shorter than a jump)"]++
				} else {
					total++
				}
				s, err := ChooseSite(f)
				if err == nil {
					err = s.entered(image)
				}
				if err == nil {
					if len(s.Puns) > 0 {
						reasons["(planned by a punned jump)"]++
					}
					if f.Size >= jumpLen {
						planned++
					}
					if len(s.Warnings) > 0 {
						reasons["(planned at the entry)"]++
					}
					continue
				}
				var r *Refusal
				if !errors.As(err, &r) {
					t.Fatalf("%v: %v is no Refusal", f.Entry, err)
				}
				if f.Size >= jumpLen {
					reasons[string(r.Code)]++
					if shown++; shown <= 40 && testing.Verbose() {
						t.Log(err)
					}
				}
			}
			share := float64(planned) / float64(total)
			t.Logf("%d of %d functions of at least %d bytes planned: %.2f %%", planned, total, jumpLen, 100*share)
			for _, r := range sortedKeys(reasons) {
				t.Logf("%6d %s", reasons[r], r)
			}
			if share < want {
				t.Errorf("only %.2f %% planned, want %.1f %%", 100*share, 100*want)
			}
		})
	}
}

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
