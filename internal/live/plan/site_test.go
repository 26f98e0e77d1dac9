package plan

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// unhex reads bytes as a disassembly shows them; a `/` separates instructions.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "/", "").Replace(s))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

const testEntry = address.Addr(0x401000)

// siteCase is an entry and the site to be chosen for it. Numbers of
// instructions, not bytes.
type siteCase struct {
	name    string
	code    string // the function
	behind  string // what follows it
	entry   address.Addr
	goCode  bool
	kept    int
	again   int
	before  int
	after   int
	delta   int32
	undo    string
	warned  bool
	punned  int // bytes that are written, where the jump is a punned one
	refused Code
}

// padding is what Go puts behind a function.
const padding = "cc cc cc cc cc cc cc cc cc cc cc cc cc cc cc cc"

func TestChooseSite(t *testing.T) {
	for _, c := range siteCases {
		t.Run(c.name, func(t *testing.T) { c.check(t) })
	}
}

func (c siteCase) check(t *testing.T) {
	code := unhex(t, c.code)
	entry := testEntry
	if c.entry != 0 {
		entry = c.entry
	}
	s, err := ChooseSite(Function{
		Name: c.name, Entry: entry, Size: uint64(len(code)), Text: append(code, unhex(t, c.behind)...), Go: c.goCode,
	})
	if c.refused != "" {
		var r *Refusal
		if !errors.As(err, &r) || r.Code != c.refused {
			t.Fatalf("%v, want %s", err, c.refused)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Puns) > 0 != (c.punned > 0) || c.punned > 0 && len(s.Original) != c.punned {
		t.Errorf("%d ways to jump over % x, want %d bytes", len(s.Puns), s.Original, c.punned)
	}
	if len(s.Kept) != c.kept || len(s.Again) != c.again || len(s.Before) != c.before || len(s.After) != c.after {
		t.Errorf("kept %v, again %v, before %v, after %v", s.Kept, s.Again, s.Before, s.After)
	}
	if s.SPDelta != c.delta || !bytes.Equal(s.Undo, unhex(t, c.undo)) {
		t.Errorf("rsp %+d, undone by % x; want %+d, %s", s.SPDelta, s.Undo, c.delta, c.undo)
	}
	if (len(s.Warnings) > 0) != c.warned {
		t.Errorf("warnings %q", s.Warnings)
	}
	for _, w := range s.Warnings {
		if !strings.Contains(w, c.name) {
			t.Errorf("%q does not name the function %s", w, c.name)
		}
	}
	if want := map[bool]jit.ABI{false: jit.SysV, true: jit.GoInternal}[c.goCode]; s.ABI != want {
		t.Errorf("ABI %d", s.ABI)
	}
	if s.Free.Has(amd64.RSP) {
		t.Error("rsp is free")
	}
}

// Entries met in real code, and made-up ones for each rule.
var siteCases = []siteCase{
	{
		name: "strdup", code: "55/53/48 89 fb/48 83 ec 08/e8 00 00 00 00/5b/5d/c3", // push %rbp; push %rbx; mov %rdi,%rbx; sub $8,%rsp
		kept: 1, after: 3, delta: 8, undo: "5d",
	},
	{
		name: "stringmatchlen", code: "48 83 ec 18/4c 8d 4c 24 0c/e8 00 00 00 00/48 83 c4 18/c3", // sub $0x18,%rsp; lea 0xc(%rsp),%r9
		kept: 1, after: 1, delta: 24, undo: "48 8d 64 24 18",
	},
	{
		name: "bit_tohex", code: "41 54/be 01 00 00 00/e8 00 00 00 00/41 5c/c3", // push %r12; mov $1,%esi
		kept: 1, after: 1, delta: 8, undo: "41 5c",
	},
	{
		name: "ngx_http_mp4_crop_stsc_data", code: "41 57/49 89 f3/41 56/41 55/c3", // push %r15; mov %rsi,%r11; push %r14
		kept: 1, after: 2, delta: 8, undo: "41 5f",
	},
	{
		name: "ngx_palloc", code: "48 3b 77 10/73 05/e9 00 01 00 00/e9 00 01 00 00", // cmp 0x10(%rdi),%rsi; jae; jmp; jmp
		after: 2, warned: true,
	},
	{
		name: "lookupKeyRead", code: "31 d2/e9 00 01 00 00", behind: "66 0f 1f 84 00 00 00 00 00", // xor %edx,%edx; jmp
		after: 2, warned: true,
	},
	{
		name: "tail call to its own entry", code: "53/48 83 ec 10/48 89 fb/e8 00 00 00 00/48 83 c4 10/5b/e9 e6 ff ff ff",
		kept: 1, after: 2, delta: 8, undo: "5b",
	},
	{
		name: "loop to the entry", code: "48 89 f8/48 83 c7 01/80 3f 00/75 f4/c3", // strlen-like
		after: 4, warned: true,
	},
	{
		name: "loop behind a kept instruction", code: "31 c0/48 8b 3f/48 ff c0/48 85 ff/75 f5/c3", // xor %eax,%eax; mov (%rdi),%rdi; inc; test; jne
		kept: 1, after: 4,
	},
	{
		name: "loop with another one into it", code: "48 8b 3f/48 85 ff/75 f8/48 ff ce/75 f6/c3", // the second jne leads to the test
		after: 5, warned: true,
	},
	{
		name: "loop with a call", code: "48 8b 3f/e8 00 00 00 00/48 85 ff/75 f3/c3",
		refused: SiteBranch,
	},
	{
		name: "loop and a jump table", code: "48 8b 3f/48 85 ff/75 f8/ff e0", // jmp *%rax
		refused: SiteBranch,
	},
	{
		name: "loop with code that nothing known leads to", code: "48 8b 3f/48 85 ff/74 03/c3/48 ff ce/75 f2/c3", // je +3; ret; dec (je leads behind it)
		refused: SiteBranch,
	},
	{
		name: "endbr64", code: "f3 0f 1e fa/31 c0/31 d2/ff c0/c3",
		kept: 1, after: 3,
	},
	{
		name: "push for alignment only", code: "50/e8 00 00 00 00/5a/c3", // push %rax; call; pop %rdx
		kept: 1, after: 1, delta: 8, undo: "48 8d 64 24 08",
	},
	{
		name: "large frame", code: "48 81 ec 00 02 00 00/48 89 7c 24 08/c3",
		kept: 1, after: 1, delta: 0x200, undo: "48 8d a4 24 00 02 00 00",
	},
	{
		name: "too large a frame to push below", code: "48 81 ec 00 00 10 00/48 83 0c 24 00/c3", // sub $0x100000,%rsp; orq $0,(%rsp)
		after: 1, warned: true,
	},
	{
		name: "realigned stack", code: "4c 8d 54 24 08/48 83 e4 f0/41 ff 72 f8/55/c3", // lea 8(%rsp),%r10; and $-16,%rsp; push -8(%r10)
		kept: 1, after: 2,
	},
	{
		name: "argument overwritten first", code: "89 f1/48 89 fe/31 ff/e9 00 01 00 00", // mov %esi,%ecx
		after: 2, warned: true,
	},
	{
		name: "a load that may fault first", code: "8b 07/48 8b 4f 08/01 c8/c3", // mov (%rdi),%eax
		after: 2, warned: true,
	},
	{
		name: "red zone first", code: "48 89 7c 24 f8/48 89 f8/c3", // mov %rdi,-8(%rsp)
		after: 1, warned: true,
	},
	{
		name: "callee-saved register written without a push", code: "48 89 fb/48 89 f5/e8 00 00 00 00/0f 0b",
		after: 2, warned: true,
	},
	{
		name: "flags of a compare in use", code: "85 c9/4c 8d 05 00 00 00 00/4c 0f 45 c1/c3", // test %ecx,%ecx; lea; cmovne
		kept: 1, again: 1, after: 1,
	},
	{
		name: "flags of memory that may fault in use", code: "f7 07 00 20 00 00/74 05/b8 01 00 00 00/c3", // testl $0x2000,(%rdi)
		after: 1, warned: true,
	},
	{
		name: "a caller's carry in use", code: "c4 e2 e3 f6 06/48 c7 c1 fa ff ff ff/49 11 c0/c3", // mulx (%rsi),%rbx,%rbx; mov; adc %rax,%r8
		refused: SiteFlags,
	},
	{
		name: "saves its caller's flags", code: "55/48 89 e5/9c/48 83 ec 40/48 83 c4 40/9d/5d/c3", // push; mov; pushf
		refused: SiteFlags,
	},
	{
		name: "getpid", code: "b8 27 00 00 00/0f 05/c3", // a syscall restarts at pc-2
		after: 1, warned: true,
	},
	{
		name: "syscall in every site", code: "0f 05/c3", behind: "cc cc cc cc cc cc cc cc cc cc cc cc cc",
		refused: SiteSystem,
	},
	{
		name: "short, with padding", code: "31 c0/c3", behind: "0f 1f 84 00 00 00 00 00/0f 1f 44 00 00",
		kept: 1, after: 1,
	},
	{
		name: "short, padding ends early", code: "31 c0/c3", behind: "90/b8 01 00 00 00/c3/90 90 90 90 90 90",
		refused: SiteTooShort,
	},
	{
		name: "short, at the end of a 16-byte block", code: "31 c0/c3", behind: "90 90/90 90 90 90 90", entry: 0x40100b,
		after: 1 + 1, warned: true,
	},
	{
		name: "nops behind a boundary are another function", code: "c3", behind: "90 90 90 90 90 90", entry: 0x40100f,
		refused: SiteTooShort,
	},
	{
		name: "empty", code: "", refused: SiteTooShort,
	},
	{
		name: "undecodable", code: "06 06 06 06 06 06", refused: SiteUndecodable,
	},
	{
		name: "loop from behind into the site", code: "8b 07/01 c0/85 c0/75 fa/c3", // mov (%rdi),%eax; L: add; test; jne L
		after: 4, warned: true,
	},
	{
		name: "branch inside the site is retargeted", code: "0b 07/74 01/90/c3",
		after: 3, warned: true,
	},
	{
		name: "call not last", code: "8b 07/ff d0/90 90/c3", refused: SiteCall,
	},
	{
		name: "call last", code: "50/58/e8 00 00 00 00/c3", // push %rax; pop %rax; call
		kept: 1, after: 2, delta: 8, undo: "48 8d 64 24 08",
	},
	{
		name: "what is pushed is given back", code: "41 52/45 31 d2/41 5a/31 c0/c3", // push %r10; xor %r10d,%r10d; pop %r10
		kept: 1, after: 2, delta: 8, undo: "41 5a",
	},
	{
		name: "an argument pushed", code: "57/48 89 f0/5f/c3", // push %rdi: a guard may rewrite it
		after: 3, warned: true,
	},
	{
		name: "an argument copied", code: "48 89 f8/48 85 d2/74 01/90/c3", // mov %rdi,%rax: again behind the guards
		kept: 1, again: 1, after: 2,
	},
	{
		name: "an argument added to itself", code: "48 01 f8/48 85 d2/74 01/90/c3", // add %rdi,%rax reads what it writes
		after: 2, warned: true,
	},
	{
		name: "x87 stack", code: "d9 ee/dd 5c 24 f8/c3/90", // fldz: a reject would leave it pushed
		after: 2, warned: true,
	},
	{
		name: "site would span two pages", code: "53/48 89 fb/48 83 ec 10/31 c0/31 d2/c3", entry: 0x401ffc, // push %rbx keeps 1 byte: 0x401ffd
		kept: 2, again: 1, after: 2, delta: 8, undo: "5b",
	},
	{
		name: "Go, small frame", goCode: true, kept: 0, before: 2, warned: true,
		code: "49 3b 66 10/76 0e/55/48 89 e5/48 83 ec 10/48 83 c4 10/5d/c3/e8 00 00 00 00/eb e5",
	},
	{
		name: "Go, long branch", goCode: true, kept: 1, before: 1,
		code: "49 3b 66 10/0f 86 0d 00 00 00/55/48 89 e5/48 83 ec 10/48 83 c4 10/5d/c3/e8 00 00 00 00/eb e1",
	},
	{
		name: "Go, processPub", goCode: true, kept: 2, before: 1,
		code: "4c 8d 64 24 90/4d 3b 66 10/0f 86 07 00 00 00/55/48 89 e5/90/5d/c3/e8 00 00 00 00/e9 e0 ff ff ff",
	},
	{
		name: "Go, huge frame", goCode: true, kept: 4, before: 1,
		code: "49 89 e4/49 81 ec 80 1f 00 00/72 1a/4d 3b 66 10/0f 86 10 00 00 00/55/48 89 e5/48 81 ec 00 20 00 00/c9/c3/90/e8 00 00 00 00/eb d0",
	},
	{
		name: "Go, nosplit leaf that may fault", goCode: true, code: "48 8b 40 08/c3", refused: SiteGo, // ret is the highest byte of the way
	},
	{
		name: "Go, nosplit leaf that may fault, padding", goCode: true, code: "48 8b 40 08/c3", behind: padding, after: 1, punned: 8, warned: true,
	},
	{
		name: "Go, nosplit leaf that may fault, long", goCode: true, code: "48 8b 80 60 01 00 00/c3", after: 1, warned: true,
	},
	{
		name: "Go, nosplit leaf that may fault and uses the stack", goCode: true, code: "ff 30/58/90/c3", behind: padding, refused: SiteGo, // push (%rax)
	},
	{
		name: "Go, nosplit leaf that may fault and reads r12", goCode: true, code: "49 8b 44 24 08/c3", behind: padding, refused: SiteGo,
	},
	{
		name: "Go, nosplit leaf with a frame", goCode: true, code: "55/48 89 e5/48 83 ec 10", behind: padding, kept: 1, after: 1, punned: 7, delta: 8, undo: "5d",
	},
	{
		name: "Go, nosplit leaf with a frame, one way leads below", goCode: true, code: "55/48 89 e5/84 00/5d/c3", behind: padding, kept: 1, after: 1, punned: 7, delta: 8, undo: "5d",
	},
	{
		name: "Go, nosplit leaf, all ways lead below", goCode: true, code: "84 00/80 78 90 90/84 c0/c3", behind: padding, refused: SiteGo,
	},
	{
		name: "Go, nosplit leaf with a frame whose second instruction is long", goCode: true, code: "55/b8 01 00 00 00/5d/c3", behind: padding, kept: 1, after: 1, delta: 8, undo: "5d",
	},
	{
		name: "Go, nosplit leaf behind an inlined call", goCode: true, code: "90/48 8b 00/c3", behind: padding, kept: 1, after: 1, punned: 7,
	},
	{
		name: "Go, nosplit leaf that returns to its entry", goCode: true, code: "31 c9/48 ff c1/48 39 c1/7c f6/c3", behind: padding, refused: SiteBranch,
	},
	{
		name: "Go, nosplit leaf of one long instruction", goCode: true, code: "b8 01 00 00 00/c3", after: 1, warned: true,
	},
	{
		name: "Go, nosplit leaf of short instructions", goCode: true, code: "31 c0/31 db/31 c9/c3", behind: padding, after: 1, punned: 6, warned: true,
	},
}

func TestFreeRegisters(t *testing.T) {
	for _, c := range []struct {
		name, code string
		goCode     bool
		free       amd64.RegSet
	}{
		{"nothing before a call", "55/53/48 89 fb/48 83 ec 08/e8 00 00 00 00/c3", false, 0},
		{"rax and r10 written; rdx is an argument", "48 83 ec 08/b8 01 00 00 00/45 31 d2/31 d2/e8 00 00 00 00", false, amd64.Set(amd64.RAX, amd64.R10)},
		{"only on one path", "48 83 ec 08/84 c0/74 05/b9 01 00 00 00/c3", false, 0},
		{"a partial write keeps", "48 83 ec 08/b0 01/66 b9 01 00/c3", false, 0},
		{"cmov keeps", "48 83 ec 08/85 ff/0f 44 c7/c3/90 90", false, 0},
		{"a callee-saved register only where undo pops it", "53/bb 01 00 00 00/bd 01 00 00 00/5b/c3", false, amd64.Set(amd64.RBX)},
		{"a pushed one, which undo pops", "41 52/45 31 d2/31 d2/41 5a/c3", false, amd64.Set(amd64.R10)},
		{"a pushed one, which may hold the result", "50/b8 01 00 00 00/58/c3", false, 0},
		{"callee-saved, nothing popped", "8b 07/bb 01 00 00 00/bd 01 00 00 00/0f 0b", false, amd64.Set(amd64.RAX)},
		{"read again by the repeated compare", "85 c9/48 8d 0d 00 00 00 00/0f 45 c1/c3", false, 0},
		{"Go scratch", "49 3b 66 10/0f 86 0d 00 00 00/55/48 89 e5/48 83 ec 10/48 83 c4 10/5d/c3/e8 00 00 00 00/eb e1", true, amd64.Set(amd64.R12, amd64.R13)},
	} {
		code := unhex(t, c.code)
		s, err := ChooseSite(Function{Name: c.name, Entry: testEntry, Size: uint64(len(code)), Text: code, Go: c.goCode})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if s.Free != c.free {
			t.Errorf("%s: free %v, want %v", c.name, s.Free, c.free)
		}
	}
}

func TestBranchesFromElsewhere(t *testing.T) {
	// push %rbx; mov %rdi,%rbx; mov %rsi,%rax; pop %rbx; ret, and padding.
	code := unhex(t, "53/48 89 fb/48 89 f0/5b/c3/0f 1f 80 00 00 00 00")
	for _, c := range []struct {
		name  string
		other string // at testEntry+16
		inner []address.Addr
		ok    bool
	}{
		{name: "call of the entry", other: "e8 eb ff ff ff", ok: true},
		{name: "jmp into the site", other: "e9 ef ff ff ff"},
		{name: "jne into the site", other: "0f 85 ee ff ff ff"},
		{name: "jmp to the site's start", other: "e9 ec ff ff ff"},
		{name: "short jmp to the site's start", other: "eb ef"},
		{name: "short jmp behind the site", other: "eb f5", ok: true},
		{name: "jmp behind the site", other: "e9 f2 ff ff ff", ok: true},
		{name: "another symbol in the site", inner: []address.Addr{testEntry + 4}},
		{name: "another symbol behind the site", inner: []address.Addr{testEntry + 7}, ok: true},
	} {
		segment := append(bytes.Clone(code), append(unhex(t, c.other), make([]byte, 16)...)...)
		_, err := ChooseSite(Function{
			Name: c.name, Entry: testEntry, Size: 9, Text: segment, Inner: c.inner, Segment: segment, SegmentAt: testEntry,
		})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// checkPuns writes each way to jump over an instruction, and looks at what it leaves.
func checkPuns(t *testing.T, s *Site) {
	t.Helper()
	for _, p := range s.Puns {
		to, ok := p.Next(lowestTarget)
		if !ok {
			t.Fatalf("a way to jump leads nowhere: % x", s.Original)
		}
		b, err := p.Write(s.Original, to)
		if err != nil {
			t.Fatal(err)
		}
		for i := s.After[0].Len; i < len(b); i++ {
			if b[i] != s.Original[i] && s.Original[i] != int3 {
				t.Fatalf("% x changes byte %d of % x", b, i, s.Original)
			}
		}
		if i, err := amd64.Decode(b, s.Start); err != nil || i.Target != to {
			t.Fatalf("% x leads to %v, want %v", b, i.Target, to)
		}
	}
}

func FuzzChooseSite(f *testing.F) {
	for _, c := range siteCases {
		f.Add(unhex(f, c.code), uint16(0), c.goCode)
	}
	f.Fuzz(func(t *testing.T, code []byte, size uint16, goCode bool) {
		fn := Function{Name: "f", Entry: testEntry, Size: uint64(size), Text: code, Go: goCode}
		s, err := ChooseSite(fn)
		if err != nil {
			var r *Refusal
			if !errors.As(err, &r) {
				t.Fatalf("%v is no Refusal", err)
			}
			return
		}
		off := int(s.Start - s.Entry)
		n := len(s.Original)
		if n < jumpLen || n > jit.MaxPunned || n > jumpLen && len(s.Puns) == 0 || off+n > len(code) || !bytes.Equal(s.Original, code[off:off+n]) {
			t.Fatalf("original bytes % x at %d of % x", s.Original, off, code)
		}
		if s.Start.Page() != s.Start.Add(int64(n)-1).Page() {
			t.Fatalf("site at %v spans two pages", s.Start)
		}
		checkPuns(t, &s)
		if len(s.moved()) == 0 || s.Resume <= s.Start {
			t.Fatalf("nothing moves: %+v", s)
		}
	})
}
