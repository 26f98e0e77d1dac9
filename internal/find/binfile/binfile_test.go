package binfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// build runs a compiler and returns the bytes of the file it made.
func build(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command(name, slices.Concat(args[:1], []string{"-o", out}, args[1:])...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v (scripts/setup installs what is missing)\n%s", cmd, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gcc(t testing.TB, args ...string) []byte {
	return build(t, "gcc", append([]string{"-O2"}, args...)...)
}

func open(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// withoutSections returns the file as a tool leaves it that strips section
// headers too.
func withoutSections(b []byte) []byte {
	b = slices.Clone(b)
	clear(b[40:48]) // e_shoff
	clear(b[60:64]) // e_shnum, e_shstrndx
	return b
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		isPIE  bool
		interp bool
	}{
		{"pie", []string{"-pie", "-fPIE", "testdata/funcs.c"}, true, true},
		{"no-pie", []string{"-no-pie", "testdata/funcs.c"}, false, true},
		{"static", []string{"-static", "testdata/funcs.c"}, false, false},
		{"static-pie", []string{"-static-pie", "testdata/funcs.c"}, true, false},
		{"shared", []string{"-shared", "-fPIC", "-Wl,-soname,libfuncs.so.3", "testdata/funcs.c"}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := gcc(t, append([]string{"-Wl,--build-id=0x0123456789abcdef"}, c.args...)...)
			for name, f := range map[string]*File{"whole": open(t, b), "without section headers": open(t, withoutSections(b))} {
				if f.IsPIE() != c.isPIE || (f.Interp() != "") != c.interp {
					t.Errorf("%s: IsPIE %v, interpreter %q", name, f.IsPIE(), f.Interp())
				}
				if got := f.BuildIDString(); got != "0123456789abcdef" {
					t.Errorf("%s: build ID %q", name, got)
				}
				if want := map[bool]string{true: "libfuncs.so.3"}[c.name == "shared"]; f.SOName() != want {
					t.Errorf("%s: soname %q, want %q", name, f.SOName(), want)
				}
			}
		})
	}
}

// Symbols are what the standard library reads from the same, friendly, file.
func TestSymbolsAgainstStandardLibrary(t *testing.T) {
	files := map[string][]byte{
		"built":   gcc(t, "testdata/funcs.c"),
		"library": gcc(t, "-shared", "-fPIC", "-Wl,--version-script=testdata/versions.map", "testdata/versions.c"),
	}
	for _, path := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v: these tests are for Linux with glibc", err)
		}
		files[path] = b
	}
	for name, b := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			std, err := elf.NewFile(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			f := open(t, b)
			for _, c := range []struct {
				table string
				want  func() ([]elf.Symbol, error)
				got   func() ([]Symbol, error)
			}{
				{".symtab", std.Symbols, f.Symbols},
				{".dynsym", std.DynamicSymbols, f.DynSymbols},
				{".dynsym without section headers", std.DynamicSymbols, open(t, withoutSections(b)).DynSymbols},
			} {
				want, wantErr := c.want()
				got, err := c.got()
				if wantErr != nil {
					if !errors.Is(err, ErrNoTable) {
						t.Errorf("%s: %v, the standard library says %v", c.table, err, wantErr)
					}
					continue
				}
				if err != nil || len(got) != len(want)+1 { // entry 0 is null
					t.Errorf("%s: %d symbols, %v; want %d", c.table, len(got), err, len(want)+1)
					continue
				}
				for i, w := range want {
					g := got[i+1]
					defined := w.Section != elf.SHN_UNDEF
					if g.Name != w.Name || uint64(g.Value) != w.Value || g.Size != w.Size || g.Defined != defined ||
						g.Type != elf.ST_TYPE(w.Info) || c.table != ".symtab" && g.Version != w.Version {
						t.Errorf("%s entry %d: %+v, want %+v", c.table, i+1, g, w)
					}
				}
			}
		})
	}
}

func TestVersions(t *testing.T) {
	f := open(t, gcc(t, "-shared", "-fPIC", "-Wl,--version-script=testdata/versions.map", "testdata/versions.c"))
	syms, err := f.DynSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range syms {
		if syms[i].IsFunc() {
			got = append(got, syms[i].Full())
		}
	}
	slices.Sort(got)
	if want := []string{"answer@@V2", "answer@V1"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Unwind tables have every C function and its size: what a stripped file has
// left equals what the symbols said.
func TestFrames(t *testing.T) {
	b := gcc(t, "-ffunction-sections", "testdata/funcs.c")
	whole := open(t, b)
	syms, err := whole.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*File{"whole": whole, "without section headers": open(t, withoutSections(b))} {
		frames, err := f.Frames()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, want := range []string{"outer", "inner", "recursive", "main"} {
			i := slices.IndexFunc(syms, func(s Symbol) bool { return s.Name == want })
			if i < 0 || !slices.Contains(frames, Range{syms[i].Value, syms[i].Size}) {
				t.Errorf("%s: no frame for %s", name, want)
			}
		}
	}
}

func TestFunctions(t *testing.T) {
	f := open(t, gcc(t, "testdata/funcs.c"))
	all, err := f.Functions()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(fn Function) bool { return slices.Contains(fn.Names, "outer") })
	if i < 0 || all[i].From != ".symtab" || !slices.Contains(all[i].Names, "alias_of_outer") || all[i].Size == 0 {
		t.Errorf("outer is not listed with its alias: %+v", all)
	}
	i = slices.IndexFunc(all, func(fn Function) bool { return slices.Contains(fn.Names, "chosen") })
	if i < 0 || !all[i].Indirect {
		t.Errorf("chosen is not listed as an IFUNC")
	}
	if !slices.IsSortedFunc(all, func(a, b Function) int { return int(int64(a.Start) - int64(b.Start)) }) {
		t.Error("not sorted by address")
	}
}

// A Go program's function table says the same with and without symbols,
// section headers and a fixed address, and its sizes are the symbols' sizes.
func TestGoTable(t *testing.T) {
	source := "./testdata/gofuncs"
	whole := open(t, build(t, "go", "build", source))
	syms, err := whole.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	size := map[string]uint64{}
	for i := range syms {
		size[syms[i].Name] = syms[i].Size
	}
	stripped := build(t, "go", "build", "-ldflags=-s -w", source)
	for name, f := range map[string]*File{
		"symbols":                 whole,
		"stripped":                open(t, stripped),
		"without section headers": open(t, withoutSections(stripped)),
		"pie":                     open(t, build(t, "go", "build", "-buildmode=pie", "-ldflags=-s -w", source)),
	} {
		table, err := f.GoTable()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		same := 0
		for _, g := range table.Funcs {
			if strings.HasPrefix(g.Name, "main.") || strings.HasPrefix(g.Name, "strings.") {
				if g.Size != size[g.Name] {
					t.Errorf("%s: %s has %d bytes, its symbol says %d", name, g.Name, g.Size, size[g.Name])
				}
				same++
			}
			if g.Name == "runtime.memmove" != g.Assembly && g.Name == "runtime.memmove" {
				t.Errorf("%s: runtime.memmove is not marked as assembly", name)
			}
		}
		if same < 3 {
			t.Errorf("%s: only %d functions of the program", name, same)
		}
		info, err := f.GoBuild()
		if err != nil || !strings.HasPrefix(info.Version, "go1.") || info.Module == nil || !strings.HasSuffix(info.Module.Path, "/testdata/gofuncs") {
			t.Errorf("%s: build info %+v, %v", name, info, err)
		}
	}
	old := slices.Clone(stripped)
	old[open(t, old).section(".gopclntab").off] = 0xfa // the magic number of Go 1.16
	if _, err := open(t, old).GoTable(); !errors.Is(err, ErrGoFormat) {
		t.Errorf("a table of Go 1.16: %v, want ErrGoFormat", err)
	}
	if _, err := open(t, gcc(t, "testdata/funcs.c")).GoTable(); !errors.Is(err, ErrNoTable) {
		t.Errorf("Go functions of a C program: %v, want ErrNoTable", err)
	}
}

func TestWrongKind(t *testing.T) {
	b := gcc(t, "testdata/funcs.c")
	poke := func(at int, v byte) []byte {
		c := slices.Clone(b)
		c[at] = v
		return c
	}
	for _, c := range []struct {
		name   string
		b      []byte
		want   string
		is32   bool
		notELF bool
	}{
		{"32-bit", poke(elf.EI_CLASS, byte(elf.ELFCLASS32)), "32-bit", true, false},
		{"big-endian", poke(elf.EI_DATA, byte(elf.ELFDATA2MSB)), "only x86-64", false, false},
		{"arm64", poke(18, byte(elf.EM_AARCH64)), "EM_AARCH64", false, false},
		{"object file", poke(16, byte(elf.ET_REL)), "ET_REL", false, false},
		{"text", []byte("#!/bin/sh\n" + strings.Repeat("#", 100)), "not an ELF", false, true},
		{"short", b[:20], "not an ELF", false, true},
		{"empty", nil, "not an ELF", false, true},
	} {
		_, err := Open(bytes.NewReader(c.b), int64(len(c.b)))
		var u *UnsupportedError
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrNotELF) != c.notELF ||
			errors.As(err, &u) == c.notELF || u != nil && u.Is32Bit() != c.is32 {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// readAll exercises every table; only time, memory and panics matter.
func readAll(f *File) {
	f.BuildID()
	f.SOName()
	f.Interp()
	_, _ = f.Relocs()
	_, _ = f.Functions()
	_, _ = f.GoBuild()
}

// A file whose headers and tables are damaged one byte at a time is read or
// refused, quickly.
func TestDamaged(t *testing.T) {
	b := gcc(t, "-shared", "-fPIC", "-nostdlib", "-Wl,--version-script=testdata/versions.map", "testdata/versions.c")
	step := 7
	if os.Getenv("PIE_LONG_TESTS") != "" {
		step = 1
	}
	begin := time.Now()
	for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
		for at := 4; at < len(b); at += step {
			if b[at] == v || at > 0x1000 && at&0xff0 == 0 {
				continue
			}
			c := slices.Clone(b)
			c[at] = v
			if f, err := Open(bytes.NewReader(c), int64(len(c))); err == nil {
				readAll(f)
			}
		}
	}
	t.Logf("%d bytes in %v", len(b), time.Since(begin))
}

// A truncated file, or one whose reader fails, is an error and not a surprise.
func TestTruncated(t *testing.T) {
	b := gcc(t, "testdata/funcs.c")
	for n := 0; n < len(b); n += 97 {
		if f, err := Open(bytes.NewReader(b[:n]), int64(n)); err == nil {
			readAll(f)
		}
		if f, err := Open(bytes.NewReader(b[:n]), int64(len(b))); err == nil { // it shrank meanwhile
			readAll(f)
		}
	}
	broken := errors.New("broken disk")
	if _, err := Open(brokenReader{broken}, 1<<20); !errors.Is(err, broken) {
		t.Errorf("%v, want the reader's error", err)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) ReadAt([]byte, int64) (int, error) { return 0, r.err }

var _ io.ReaderAt = brokenReader{}

func FuzzOpen(f *testing.F) {
	f.Add(gcc(f, "-shared", "-fPIC", "-nostdlib", "-Wl,--version-script=testdata/versions.map", "testdata/versions.c"))
	f.Add(gcc(f, "-nostdlib", "-static", "-Wl,-e,start", "testdata/tiny.c"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if f, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			readAll(f)
		}
	})
}

// FuzzGoTable reads mutated Go function tables by themselves: no fuzzer would
// keep a whole Go program intact around one.
func FuzzGoTable(f *testing.F) {
	b := build(f, "go", "build", "-ldflags=-s -w", "./testdata/gofuncs")
	file := open(f, b)
	s := file.section(".gopclntab")
	table, err := file.sectionBytes(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(table[:4096])
	f.Add(table[:200])
	f.Fuzz(func(_ *testing.T, b []byte) {
		if t, ok := parsePCHeader(b, s.addr); ok {
			t.text = file.Entry
			_, _ = file.goTable(t)
		}
	})
}

func FuzzFrames(f *testing.F) {
	file := open(f, gcc(f, "testdata/funcs.c"))
	at, size, err := file.ehFrame()
	if err != nil {
		f.Fatal(err)
	}
	table, err := file.segmentBytes(".eh_frame", at, size)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(table)
	f.Fuzz(func(_ *testing.T, b []byte) {
		p := frameParser{table: b, at: at, cies: map[int]byte{}}
		_ = p.run()
	})
}

// A section compressed with zstd is read, and one that is cut off or claims another size
// is an error.
func TestZstd(t *testing.T) {
	const text = "ab" + "cccccccccc"
	header := binary.LittleEndian.AppendUint32(nil, uint32(elf.COMPRESS_ZSTD))
	header = binary.LittleEndian.AppendUint32(header, 0)
	header = binary.LittleEndian.AppendUint64(header, uint64(len(text)))
	header = binary.LittleEndian.AppendUint64(header, 1)
	// RFC 8878: a frame of one segment, with a raw block and a last one of a repeated byte.
	section := append(header, 0x28, 0xb5, 0x2f, 0xfd, 0x20, byte(len(text)), 2<<3, 0, 0, 'a', 'b', 10<<3|1<<1|1, 0, 0, 'c')
	b, err := decompressZstd(section, uint64(len(text)))
	if err != nil || string(b) != text {
		t.Errorf("%q, %v", b, err)
	}
	for n := range len(section) {
		if b, err := decompressZstd(section[:n], uint64(len(text))); err == nil {
			t.Errorf("%d of %d bytes: %q", n, len(section), b)
		}
	}
	if b, err := decompressZstd(section, uint64(len(text))+1); err == nil {
		t.Errorf("more than there is: %q", b)
	}
}
