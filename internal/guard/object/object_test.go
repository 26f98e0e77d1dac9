package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// clang compiles a guard as its author would.
func clang(t testing.TB, text []byte, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "guard.c"), filepath.Join(dir, "guard.o")
	if err := os.WriteFile(in, text, 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-target", "bpf", "-O2", "-Wall", "-Werror", "-I../../../libpie/c", "-c", in, "-o", out}, flags...)
	if b, err := exec.Command("clang-14", args...).CombinedOutput(); err != nil {
		t.Fatalf("clang-14: %v (scripts/setup installs it)\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func example(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/match.c")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// memory is the target's, from an address on.
type memory map[uint64][]byte

func (m memory) Read(addr uint64, b []byte) bool {
	for base, content := range m {
		if addr >= base && addr+uint64(len(b)) <= base+uint64(len(content)) {
			copy(b, content[addr-base:])
			return true
		}
	}
	return false
}

func (m memory) Write(addr uint64, b []byte) bool {
	if !m.Read(addr, make([]byte, len(b))) {
		return false
	}
	for base, content := range m {
		if addr >= base && addr < base+uint64(len(content)) {
			copy(content[addr-base:], b)
		}
	}
	return true
}

// Whatever -mcpu, with and without debug information, the guards are proven
// safe and say what they are meant to.
func TestGuards(t *testing.T) {
	const at = 0x200000
	for _, flags := range [][]string{{"-mcpu=v1"}, {"-mcpu=v2", "-g"}, {"-mcpu=v3"}, {"-mcpu=v3", "-g"}, {"-mcpu=v3", "-O1"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			p, err := Load("guard.o", clang(t, example(t), flags...))
			if err != nil {
				t.Fatal(err)
			}
			if p.ID != "CVE-2024-31228" || p.Fixed == "" || len(p.Guards) != 3 {
				t.Fatalf("%+v", p.Prepatch)
			}
			programs := map[string]*verify.Program{}
			for _, g := range p.Guards {
				program, err := verify.Verify(g.Unit)
				if err != nil {
					t.Fatalf("%s: %v\n%s", g.Name, err, bpf.Disassemble(g.Unit.Insns))
				}
				programs[g.Name] = program
			}
			for _, c := range []struct {
				guard, text string
				n           uint64
				want        bpf.Verdict
			}{
				{"match", strings.Repeat("*?", 100), 200, bpf.VerdictPass},
				{"match", strings.Repeat("*?", 2000), 4000, bpf.Reject(1, 0)},
				{"match", "", 0xdead_0000_0000, bpf.VerdictPass}, // only the low half is the int
				{"match", "x", 0xffff_ffff, bpf.Reject(1, 0)},
				{"match", "*", 4000, bpf.VerdictPass}, // onfault
				{"walk", "\x01\x02ab\x00\x05short", 11, bpf.VerdictPass},
				{"walk", "\x01\x02ab\x00\x21", 6, bpf.Reject(1, bpf.VerdictErrno)},
				{"walk", "\x01", 4, bpf.Reject(1, 0)}, // onfault
				{"name", "abc\x00", 4, bpf.VerdictPass},
				{"name", "abc\x00", 1, bpf.Reject(0, 0)},
				{"name", "abc\x00", 9, bpf.Reject(0, 0)},
				{"name", "a${run{x}}\x00", 4, bpf.VerdictLog},
			} {
				in := &bpf.Interp{Unit: programs[c.guard].Unit(), Memory: memory{at: []byte(c.text)}}
				var f bpf.Frame
				f.Args[0], f.Args[1] = at, c.n
				r, err := in.Run(f)
				if err != nil || r.Verdict != c.want {
					t.Errorf("%s(%.20q, %#x): %#x, %v; want %#x", c.guard, c.text, c.n, r.Verdict, err, c.want)
				}
			}
			if pos := p.Guards[0].Unit.Pos[0]; slices.Contains(flags, "-g") && (pos.File != "guard.c" || pos.Line < 5) {
				t.Errorf("with -g an instruction is at %+v", pos)
			}
		})
	}
}

// A guard that asks for it calls functions of the target, and sees what they leave.
func TestCalls(t *testing.T) {
	text := []byte(`#include "libpie.h"
PIE("id TEST-1");
PIE("cap call");
PIE_FUNCTION(usable, "malloc_usable_size");
PIE_FUNCTION(last, "last_error");
PIE_GUARD("exe=x func=f onfault=reject:-7 onfuel=pass")
u64 f(struct pie_call *c)
{
	struct pie_returned room = pie_invoke(usable, c->arg[0], 0, 0, 0, 0, 0);
	if (c->arg[1] > room.word)
		return pie_reject(c, pie_invoke(last, 1, 2, 3, 4, 5, c->arg[1]).err);
	return PIE_PASS;
}
`)
	for _, flags := range [][]string{{"-mcpu=v1"}, {"-mcpu=v2", "-g"}, {"-mcpu=v3"}, {"-mcpu=v3", "-O1"}} {
		p, err := Load("guard.o", clang(t, text, flags...))
		if err != nil {
			t.Fatal(err)
		}
		program, err := verify.Verify(p.Guards[0].Unit)
		if err != nil {
			t.Fatalf("%v: %v\n%s", flags, err, bpf.Disassemble(p.Guards[0].Unit.Insns))
		}
		if got := program.Calls(); !slices.Equal(got, []string{"last_error", "malloc_usable_size"}) {
			t.Errorf("%v: calls %q", flags, got)
		}
		u := program.Unit()
		in := &bpf.Interp{Unit: u, Symbols: []uint64{0x1000, 0x2000}, State: make([]byte, u.State)}
		var asked []uint64
		in.Call = func(s bpf.Symbol, args [bpf.InvokeArgs]uint64) (bpf.Returned, bool) {
			asked = append(asked, args[:]...)
			if s.Name == "malloc_usable_size" {
				return bpf.Returned{Word: 24, Errno: 9}, true
			}
			return bpf.Returned{Errno: 77}, true
		}
		for n, want := range map[uint64]bpf.Verdict{24: bpf.VerdictPass, 25: bpf.Reject(1, 0)} {
			asked = nil
			r, err := in.Run(bpf.Frame{Args: [bpf.FrameArgs]uint64{5, n}})
			if err != nil || r.Verdict != want || want != bpf.VerdictPass && (r.Words[0] != 77 || !slices.Equal(asked[6:], []uint64{1, 2, 3, 4, 5, n})) {
				t.Errorf("%v, %d: %+v, %v; calls with %d", flags, n, r, err, asked)
			}
		}
	}
}

// A guard that asks for it writes by ordinary stores.
func TestWrites(t *testing.T) {
	const at = 0x200000
	p, err := Load("guard.o", clang(t, []byte(`#include "libpie.h"
PIE("id TEST-1");
PIE("cap write");
PIE_GUARD("exe=x func=f onfault=reject:-7 onfuel=pass")
u64 f(struct pie_call *c)
{
	PIE_PUT(u16, c->arg[0] + 1, 0x4142);
	pie_zero(c->arg[0] + 4, c->arg[1]);
	return PIE_PASS;
}
`), "-mcpu=v3"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := verify.Verify(p.Guards[0].Unit)
	if err != nil {
		t.Fatalf("%v\n%s", err, bpf.Disassemble(p.Guards[0].Unit.Insns))
	}
	for _, c := range []struct {
		n    uint64
		want string
		v    bpf.Verdict
	}{{2, "xBAx\x00\x00x", bpf.VerdictPass}, {4, "xBAx\x00\x00\x00", bpf.Reject(1, 0)}} {
		text := []byte("xxxxxxx")
		in := &bpf.Interp{Unit: program.Unit(), Memory: memory{at: text}}
		r, err := in.Run(bpf.Frame{Args: [bpf.FrameArgs]uint64{at, c.n}})
		if err != nil || r.Verdict != c.v || string(text) != c.want {
			t.Errorf("%d bytes: %#x, %v, %q", c.n, r.Verdict, err, text)
		}
	}
}

// A guard that asks for it ends the process, with a code.
func TestExits(t *testing.T) {
	p, err := Load("guard.o", clang(t, []byte(`#include "libpie.h"
PIE("id TEST-1");
PIE("cap exit");
PIE_GUARD("exe=x func=f onfault=reject:-7 onfuel=pass")
u64 f(struct pie_call *c)
{
	if (c->arg[0] > 9)
		return pie_exit(c, (s32)c->arg[0]);
	return PIE_PASS;
}
`), "-mcpu=v2"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := verify.Verify(p.Guards[0].Unit)
	if err != nil {
		t.Fatalf("%v\n%s", err, bpf.Disassemble(p.Guards[0].Unit.Insns))
	}
	for arg, want := range map[uint64]bpf.Verdict{9: bpf.VerdictPass, 33: bpf.VerdictExit} {
		r, err := (&bpf.Interp{Unit: program.Unit()}).Run(bpf.Frame{Args: [bpf.FrameArgs]uint64{arg}})
		if err != nil || r.Verdict != want || want == bpf.VerdictExit && r.Words[0] != arg {
			t.Errorf("%d: %+v, %v", arg, r, err)
		}
	}
}

func TestRefused(t *testing.T) {
	head := "#include \"libpie.h\"\nPIE(\"id TEST-1\");\n"
	guard := "PIE_GUARD(\"exe=x func=f onfault=pass onfuel=pass\")\n"
	for what, c := range map[string]struct{ text, says string }{
		"no lines":     {"#include \"libpie.h\"\n" + guard + "u64 f(struct pie_call *c) { return 0; }", "no lines of a prepatch"},
		"no guard":     {head + "int x(void) { return 0; }\n", "no PIE_GUARD stands before x"},
		"static alone": {head + "__attribute__((used)) static int x(void) { return 0; }\n", "prepatch has no guard"},
		"before a function beside it": {head + guard + "static u64 low(u64 a) { return a & 255; }\nu64 f(struct pie_call *c) { return low(c->arg[0]) == 3; }",
			"PIE_GUARD stands before low, which is static, and f has none"},
		"before its table":   {head + guard + "static const u8 bad[256] = {1};\nu64 f(struct pie_call *c) { return bad[c->arg[0] & 255]; }", "before the variable bad"},
		"another section":    {head + "__attribute__((section(\"xdp\"), used)) int f(void) { return 0; }", "no guard; declare guards with PIE_GUARD"},
		"a wrong key":        {head + "PIE_GUARD(\"exe=x func=f onfault=pass onfuel=pass color=red\")\nu64 f(struct pie_call *c) { return 0; }", `unknown key`},
		"a wrong line":       {head + "PIE(\"idd X\");\n" + guard + "u64 f(struct pie_call *c) { return 0; }", "unknown directive"},
		"a variable":         {head + "static int n;\n" + guard + "u64 f(struct pie_call *c) { return n++ > 3; }", "constants only"},
		"a table of strings": {head + "static const char *names[] = {\"a\", \"bb\", \"ccc\"};\n" + guard + "u64 f(struct pie_call *c) { u64 i = c->arg[0]; return i < 3 && names[i][0] == c->arg[1]; }", "array of arrays"},
		"a symbol elsewhere": {head + "extern int other(int);\n" + guard + "u64 f(struct pie_call *c) { return other(1); }", "guard"},
		"state":              {head + "PIE(\"shared\");\n" + guard + "u64 f(struct pie_call *c) { return 0; }", "has no state"},
		"a C++ function":     {head + "PIE(\"cap call\");\nPIE_FUNCTION(g, \"_Z1gv\");\n" + guard + "u64 f(struct pie_call *c) { return pie_invoke(g, 0, 0, 0, 0, 0, 0).word; }", "whose exceptions nothing would catch"},
		"a pointer called":   {head + guard + "u64 f(struct pie_call *c) { u64 (*g)(u64) = (void *)c->arg[0]; return g(3); }", "calls through a pointer"},
		"a function's place": {head + "static __attribute__((noinline)) u64 a(u64 x) { return x & 0; }\nstatic __attribute__((noinline)) u64 b(u64 x) { return x >> 63 >> 1; }\n" + guard + "u64 f(struct pie_call *c) { u64 (*g)(u64) = c->arg[0] > 5 ? a : b; return g(3); }", "takes the address of a function"},
		"a Go error":         {head + "PIE_GUARD(\"exe=x func=f onfault=reject:go:io.EOF onfuel=pass\")\nu64 f(struct pie_call *c) { return 0; }", "cannot return the Go error io.EOF"},
	} {
		_, err := Load("guard.o", clang(t, []byte(c.text)))
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "guard.") {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
	host := filepath.Join(t.TempDir(), "host.o")
	if b, err := exec.Command("gcc", "-c", "-o", host, "-x", "c", "/dev/null").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	b, err := os.ReadFile(host)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load("host.o", b); err == nil || !strings.Contains(err.Error(), "not an object file for BPF") {
		t.Errorf("an object file of this machine: %v", err)
	}
	for _, b := range [][]byte{nil, []byte("\x7fELF"), bytes.Repeat([]byte{0x7f}, MaxSize+1)} {
		if _, err := Load("bad.o", b); err == nil {
			t.Errorf("%d bytes that are no object file are read", len(b))
		}
	}
}

// A compressed section could become any size; none is opened.
func TestCompressed(t *testing.T) {
	b := clang(t, example(t))
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(f.Sections, func(s *elf.Section) bool { return strings.HasPrefix(s.Name, ".rodata") })
	headers := binary.LittleEndian.Uint64(b[0x28:])     // Elf64_Ehdr.e_shoff
	flags := headers + uint64(at)*64 + 8                // Elf64_Shdr.sh_flags
	b[flags+1] |= byte(uint64(elf.SHF_COMPRESSED) >> 8) // 0x800
	if _, err := Load("guard.o", b); err == nil || !strings.Contains(err.Error(), "guard.o: ") {
		t.Errorf("a compressed section: %v", err)
	}
}

// A guard that the verifier refuses names the line of C.
func TestUnproven(t *testing.T) {
	text := "#include \"libpie.h\"\nPIE(\"id TEST-1\");\nPIE_GUARD(\"exe=x func=f onfault=pass onfuel=pass\")\nu64 f(struct pie_call *c)\n{\n\t*(u64 *)c->arg[0] = 1;\n\treturn 0;\n}\n"
	p, err := Load("guard.o", clang(t, []byte(text), "-g"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = verify.Verify(p.Guards[0].Unit); err == nil || !strings.HasPrefix(err.Error(), "guard.c:6:") {
		t.Errorf("a write into the program: %v", err)
	}
}

// Damaged files are read or refused, soon.
func TestDamaged(t *testing.T) {
	b := clang(t, example(t), "-g")
	start := time.Now()
	for k := 0; k < len(b); k += 17 {
		c := slices.Clone(b)
		c[k] ^= byte(0x55 + k)
		load(c)
		load(c[:k])
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("%d files took %v", 2*len(b)/17, d)
	}
}

func load(b []byte) {
	p, err := Load("guard.o", b)
	if err != nil {
		return
	}
	for _, g := range p.Guards {
		_, _ = verify.Verify(g.Unit)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(clang(f, example(f)))
	f.Add(clang(f, example(f), "-g", "-mcpu=v1"))
	f.Fuzz(func(_ *testing.T, b []byte) { load(b) })
}
