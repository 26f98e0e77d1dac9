package plan

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// The test builds victims in many ways, statically, plans every function in
// them, and has each apply the plans to itself. The stand-in for a guard does
// the worst a guard may: it fills every free register, the flags and 128 bytes
// below rsp with rubbish.

const (
	// testArena is within reach of the victim's code, and behind its heap, which the kernel
	// begins anywhere in the GiB behind the program (arch_randomize_brk).
	testArena = address.Addr(0x60000000)
	chunkSize = 1024
	pageSize  = 4096
	tramp     = 768
)

func TestDetourEveryFunction(t *testing.T) {
	variants := [][]string{
		{"-O2"},
		{"-O0", "-fcf-protection"},
		{"c++", "-O2"},
	}
	if *whole {
		variants = append(variants, [][]string{
			{"-O1"}, {"-O3", "-march=x86-64-v2"}, {"-Os"}, {"-Og", "-fno-omit-frame-pointer"},
			{"-O2", "-fcf-protection", "-fstack-protector-all"}, {"-O2", "-fno-plt", "-mno-red-zone"}, {"-O2", "-pg"},
			{"c++", "-O0", "-fcf-protection"}, {"c++", "-Os"}, {"c++", "-O3"},
		}...)
	}
	for _, flags := range variants {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			detourAll(t, flags)
		})
	}
}

func detourAll(t *testing.T, flags []string) {
	dir := t.TempDir()
	exe := filepath.Join(dir, "victim")
	compile(t, exe, flags)
	plain := run(t, exe)
	functions := symbolsOf(t, exe)
	if !*whole && len(functions) > 2000 {
		functions = everyFourth(functions)
	}
	records, size, planned := detours(t, functions)
	file := filepath.Join(dir, "records")
	if err := os.WriteFile(file, records, 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, exe, file, fmt.Sprint(uint64(testArena)), fmt.Sprint(size))
	// Five calls a round are rejected, with the same values around them.
	want := expectRejected(plain)
	if got != want {
		t.Errorf("%d of %d functions detoured, and the output changed:\n%s\nwant:\n%s", planned, len(functions), got, want)
	}
	t.Logf("%d of %d functions detoured", planned, len(functions))
}

func everyFourth(all []Function) []Function {
	var some []Function
	for n := 0; n < len(all); n += 4 {
		some = append(some, all[n])
	}
	return some
}

// compile builds the victim in C, or in C++ when that is the first flag.
func compile(t *testing.T, exe string, flags []string) {
	t.Helper()
	compiler, source := "gcc", "testdata/victim.c"
	if flags[0] == "c++" {
		compiler, source, flags = "g++", "testdata/victim.cc", flags[1:]
	}
	args := append([]string{"-static", "-no-pie", "-w", "-o", exe, source, "-x", "c", "testdata/load.c", "-x", "none"}, flags...)
	if out, err := exec.Command(compiler, append(args, "-lm", "-lpthread")...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v (install gcc, g++ and libc6-dev)\n%s", compiler, err, out)
	}
}

// expectRejected replaces the lines that a rejected call changes.
func expectRejected(out string) string {
	lines := strings.Split(out, "\n")
	round := int64(0)
	for n, l := range lines {
		if strings.HasPrefix(l, "rejected ") {
			round++
			a := round
			lines[n] = fmt.Sprintf("rejected %d", 5*4711+a*3*2+a*5*3+a*7*4+a*11*5+a*13*6+a*17*7)
		}
	}
	return strings.Join(lines, "\n")
}

func run(t *testing.T, exe string, args ...string) string {
	t.Helper()
	out, err := exec.Command(exe, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", exe, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// symbolsOf returns every function of .symtab, but for the victim's loader.
func symbolsOf(t *testing.T, exe string) []Function {
	t.Helper()
	f, err := elf.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	section := f.Section(".text")
	text, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	byAddr := map[uint64]Function{}
	var addrs []uint64
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Value < section.Addr || s.Value >= section.Addr+section.Size {
			continue
		}
		if _, ok := byAddr[s.Value]; !ok {
			addrs = append(addrs, s.Value)
		}
		if s.Size > byAddr[s.Value].Size || byAddr[s.Value].Name == "" {
			byAddr[s.Value] = Function{
				Name: s.Name, Entry: address.Addr(s.Value), Size: s.Size, Text: text[s.Value-section.Addr:],
				Segment: text, SegmentAt: address.Addr(section.Addr),
			}
		}
	}
	sort.Slice(addrs, func(i, j int) bool { return addrs[i] < addrs[j] })
	var all []Function
	for n, a := range addrs {
		fn := byAddr[a]
		if fn.Size == 0 || fn.Name == "load" {
			continue
		}
		for _, b := range addrs[n+1:] {
			if b >= a+fn.Size {
				break
			}
			fn.Inner = append(fn.Inner, address.Addr(b))
		}
		all = append(all, fn)
	}
	return all
}

// detours plans every function and returns the records that apply the plans:
// first the code, then the sites.
func detours(t *testing.T, functions []Function) (records []byte, size, planned int) {
	var sites []byte
	refused := map[Code]int{}
	for n, f := range functions {
		s, err := ChooseSite(f)
		if err != nil {
			refused[err.(*Refusal).Code]++
			continue
		}
		chunk := testArena.Add(int64(n * chunkSize))
		d := detour(t, s, chunk, strings.HasPrefix(f.Name, "reject_"))
		records = appendRecord(records, chunk, d.block)
		records = appendRecord(records, chunk.Add(tramp), d.after)
		sites = appendRecord(sites, s.Start, d.patch)
		planned++
	}
	t.Logf("refused: %v", refused)
	records = append(records, sites...)
	return append(records, make([]byte, 16)...), (len(functions) + 1) * chunkSize, planned
}

// detoured is what a stand-in for a guard puts where.
type detoured struct{ patch, block, after []byte }

// detour leads the site to a stand-in at chunk, and back from chunk + tramp.
func detour(t *testing.T, s Site, chunk address.Addr, reject bool) detoured {
	t.Helper()
	check := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", s.Function, err)
		}
		return b
	}
	before := check(s.writeBefore(chunk))
	block := append(before, standIn(t, s, chunk.Add(int64(len(before))), chunk.Add(tramp), reject)...)
	return detoured{check(jit.Jump(s.Start, chunk, jumpLen)), block, check(s.writeAfter(chunk.Add(tramp)))}
}

func appendRecord(b []byte, at address.Addr, code []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(code)))
	b = append(b, code...)
	return append(b, make([]byte, -len(code)&7)...)
}

// standIn is a guard that spoils all it may, and passes or returns 4711.
func standIn(t *testing.T, s Site, at, next address.Addr, reject bool) []byte {
	var b []byte
	for off := 8; off <= 128; off += 8 { // movq $0x5a5a5a5a, -off(%rsp)
		b = append(b, 0x48, 0xc7, 0x44, 0x24, byte(-off), 0x5a, 0x5a, 0x5a, 0x5a)
	}
	for _, r := range s.Free.Regs() { // movabs $0xdead…, r
		b = append(b, 0x48|byte(r>>3), 0xb8+byte(r&7), 0x0d, 0xf0, 0xad, 0xde, 0x0d, 0xf0, 0xad, 0xde)
	}
	// addb $0x7f,-1(%rsp) twice: sets some flags, clears others.
	b = append(b, 0x80, 0x44, 0x24, 0xff, 0x7f, 0x80, 0x44, 0x24, 0xff, 0x7f)
	if reject {
		b = append(b, s.Undo...)
		return append(b, 0xb8, 0x67, 0x12, 0, 0, 0xc3) // mov $4711,%eax; ret
	}
	jump, err := jit.Jump(at.Add(int64(len(b))), next, jumpLen)
	if err != nil {
		t.Fatal(err)
	}
	if b = append(b, jump...); len(b) > tramp {
		t.Fatalf("stand-in of %d bytes", len(b))
	}
	return b
}
