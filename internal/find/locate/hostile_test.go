package locate

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Odd mappings are named and passed over; names with newlines, spaces and the
// kernel's own words in them are names.
func TestOddMappings(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"text", "cut"} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("text\n"), 4096), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	built := gcc(t, "answers.so", "-shared", "-fPIC", "-Wl,-soname,libanswers.so.1", "-Wl,--version-script=testdata/answers.map", "testdata/answers.c")
	lib := filepath.Join(dir, "7f0000000000-7f0000001000 r-xp 0 0:0 1\nlib (deleted)")
	copyFile(t, built, lib)
	p, set := images(t, exec.Command(gcc(t, "hostile", "testdata/hostile.c"), dir, lib))
	f := findOne(t, set, Query{Lib: "libanswers.so.1", Func: "answer"})
	if f.Entry != p.addrs["answer"] {
		t.Errorf("answer at %v, want %v", f.Entry, p.addrs["answer"])
	}
	inMemory(t, p, f)
	skipped := errors.Join(set.Skipped...).Error()
	for _, want := range []string{"/text: not an ELF file", "/cut: not an ELF file", "/dev/zero: "} {
		if !strings.Contains(skipped, want) {
			t.Errorf("skipped %q, want %q in it", skipped, want)
		}
	}
}

// pie's own process is found like any other; whether it may be guarded is for
// others to say. A process with an executable for another machine is refused.
func TestWrongExecutable(t *testing.T) {
	b, err := os.ReadFile(gcc(t, "victim", "testdata/victim.c"))
	if err != nil {
		t.Fatal(err)
	}
	b[4] = 1 // ELFCLASS32
	path := filepath.Join(t.TempDir(), "exe32")
	if err := os.WriteFile(path, b, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := proc.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, err = Images(otherExe{p, path})
	var kind *binfile.UnsupportedError
	if !errors.As(err, &kind) || !kind.Is32Bit() {
		t.Errorf("%v, want *binfile.UnsupportedError for a 32-bit file", err)
	}
	_, err = Images(otherExe{p, "/bin/sh"})
	if !errors.Is(err, ErrNoText) {
		t.Errorf("an executable that is not mapped: %v, want ErrNoText", err)
	}
}

// otherExe is a process with another executable than the one it maps.
type otherExe struct {
	*proc.Process
	path string
}

func (o otherExe) OpenExe() (*proc.File, error) { return o.OpenInRoot(o.path) }

// fuzzTarget is a process whose memory repeats one string.
type fuzzTarget struct{ memory []byte }

func (fuzzTarget) Pid() int                                    { return 1 }
func (fuzzTarget) Maps() ([]proc.Mapping, error)               { return nil, nil }
func (fuzzTarget) RunsExe(string) (bool, error)                { return true, nil }
func (fuzzTarget) OpenExe() (*proc.File, error)                { return nil, proc.ErrGone }
func (fuzzTarget) OpenMapped(proc.Mapping) (*proc.File, error) { return nil, proc.ErrGone }

func (f fuzzTarget) ReadAt(b []byte, a address.Addr) (int, error) {
	if len(f.memory) == 0 {
		return 0, proc.ErrGone
	}
	for i := range b {
		b[i] = f.memory[(uint64(a)+uint64(i))%uint64(len(f.memory))]
	}
	return len(b), nil
}

// Whatever file and maps a process shows, there is an answer or an error, and
// what is found lies in code.
func FuzzFind(f *testing.F) {
	for _, args := range [][]string{
		{"-shared", "-fPIC", "-nostdlib", "-Wl,--version-script=testdata/answers.map", "testdata/answers.c"},
	} {
		b, err := os.ReadFile(gcc(f, "seed", args...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte("1000-2000 r-xp 00001000 08:01 5 /lib/a\n2000-3000 rw-p 00003000 08:01 5 /lib/a\n"), "answer", b)
		f.Add(b, []byte("7f0000001000-7f0000002000 r-xp 00001000 08:01 5 /lib/a\n"), "chosen", b[:64])
		f.Add(b, []byte("7f0000001000-7f0000002000 r-xp 00001000 08:01 5 /lib/a\n"), "answer@V1", []byte(nil))
	}
	f.Fuzz(func(t *testing.T, b, text []byte, fn string, memory []byte) {
		file, err := binfile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		maps, err := proc.ParseMaps(text)
		if err != nil {
			return
		}
		set := &Set{Images: place(newELFFile(file, nil), maps), p: fuzzTarget{memory}, maps: maps}
		if len(set.Images) == 0 {
			return
		}
		set.Images[0].IsExe = true
		found, err := set.Find(Query{Func: fn})
		if err == nil {
			for _, g := range found {
				if !file.IsCode(g.Vaddr) || uint64(len(g.Text)) < g.Size || g.Size == 0 && len(g.Text) == 0 {
					t.Errorf("%+v", g)
				}
			}
		}
		for kind := range bpf.SymbolGoError + 1 {
			_, _ = set.Symbol(set.Exe(), bpf.Symbol{Name: fn, Kind: kind})
		}
		_, _ = set.Errno()
	})
}

func FuzzErrno(f *testing.F) {
	f.Add([]byte("\x48\x8b\x05\x10\x00\x00\x00\x64\x48\x03\x04\x25\x00\x00\x00\x00\xc3"))
	f.Add([]byte("\xf3\x0f\x1e\xfa\x64\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x83\xc0\x34\xc3"))
	f.Fuzz(func(_ *testing.T, code []byte) {
		m := errnoMachine{code: code, at: 0x1000, load: func(address.Addr) (int64, error) { return -8, nil }}
		_, _ = m.run()
	})
}

// The forms in which C libraries compile __errno_location.
func TestErrnoForms(t *testing.T) {
	for _, c := range []struct {
		code, text string
		want       int64
		ok         bool
	}{
		{"\x48\x8b\x05\x10\x00\x00\x00\x64\x48\x03\x04\x25\x00\x00\x00\x00\xc3", "glibc: mov rax, [rip+errno@gottpoff]; add rax, fs:0; ret", -8, true},
		{"\xf3\x0f\x1e\xfa\x48\xc7\xc0\xc0\xff\xff\xff\x64\x48\x03\x04\x25\x00\x00\x00\x00\xc3", "static glibc: endbr64; mov rax, -64; add rax, fs:0; ret", -64, true},
		{"\x64\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x83\xc0\x34\xc3", "musl: mov rax, fs:0; add rax, 52; ret", 52, true},
		{"\x64\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x05\xc0\xff\xff\xff\xc3", "mov rax, fs:0; add rax, -64; ret", -64, true},
		{"\x64\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x8d\x80\xc0\xff\xff\xff\xc3", "mov rax, fs:0; lea rax, [rax-64]; ret", -64, true},
		{"\x64\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x8d\x40\xfc\xc3", "mov rax, fs:0; lea rax, [rax-4]; ret", -4, true},
		{"\x64\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x2d\x40\x00\x00\x00\xc3", "mov rax, fs:0; sub rax, 64; ret", -64, true},
		{"\x64\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x83\xe8\x40\xc3", "mov rax, fs:0; sub rax, 64; ret", -64, true},
		{"\x64\x48\x8b\x04\x25\x00\x00\x00\x00\x48\x03\x05\x10\x00\x00\x00\xc3", "mov rax, fs:0; add rax, [rip+gottpoff]; ret", -8, true},
		{"\x48\x8b\x05\x10\x00\x00\x00\xc3", "mov rax, [rip+16]; ret: one errno for all threads", 0, false},
		{"\x66\x48\x8d\x3d\x00\x00\x00\x00\x66\x66\x48\xe8\x00\x00\x00\x00\xc3", "general-dynamic TLS: lea; call __tls_get_addr", 0, false},
		{"\x64\x48\x8b\x04", "cut off", 0, false},
		{"", "nothing", 0, false},
	} {
		m := errnoMachine{code: []byte(c.code), at: 0x1000, load: func(address.Addr) (int64, error) { return -8, nil }}
		got, err := m.run()
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%s: %d, %v; want %d, %v", c.text, got, err, c.want, c.ok)
		}
	}
}

// Names as the manglings of Rust and C++ write them.
func TestDemangledNames(t *testing.T) {
	for _, c := range []struct {
		mangled, written string
		want             bool
	}{
		{"_ZN5hyper5proto2h16decode17h0123456789abcdefE", "hyper::proto::h1::decode", true},
		{"_ZN5hyper5proto2h16decode17h0123456789abcdefE", "hyper::proto::h1", false},
		{"_ZN5hyper5proto6decode17h0123456789abcdefE", "hyper::proto::decode", true},
		{"_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar", true},
		{"_RNvNtCs1234_7mycrate3foo3bar", "foo::bar", false},
		{"_ZN3srv1S1hEPKcRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", "srv::S::h(char const*, std::string const&)", true},
		{"_ZN3srv1S1hEPKcRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", "srv::S::h(const char *, const std::string &)", true},
		{"_ZN3srv1S1hEPKcRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", "srv::S::h(char*, std::string&)", false},
		{"_ZN3srv1S4convImEET_S2_j", "unsigned long srv::S::conv<unsigned long>(unsigned long, unsigned int)", true},
		{"_ZN3srv1S4convImEET_S2_j", "srv::S::conv<unsigned long>(unsigned long, unsigned int)", true},
		{"_ZN3srv1S4convImEET_S2_j", "conv<unsigned long>(unsigned long, unsigned int)", false},
		{"_ZN3srv1S4convImEET_S2_j", "long srv::S::conv<unsigned long>(unsigned long, unsigned int)", false},
		{"_ZNK3srv1S1mERKSt3mapIiPKcSt4lessIiESaISt4pairIKiS3_EEEPKm",
			"srv::S::m(const std::map<int, const char*, std::less<int>, std::allocator<std::pair<const int, const char*>>>&, const unsigned long*) const", true},
		{"_Znwm", "operator new(unsigned long)", true},
		{"_Znwm", "new(unsigned long)", false},
	} {
		if got := demangledMatches(c.mangled, spelled(c.written)); got != c.want {
			t.Errorf("%s as %s: %v, want %v", c.mangled, c.written, got, c.want)
		}
	}
}
