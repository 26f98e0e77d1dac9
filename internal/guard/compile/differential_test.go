package compile

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/compile/internal/corpus"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/libpie"
	"github.com/patch-integration-engine/pie/libpie/libpietest"
	"github.com/patch-integration-engine/pie/prepatches"
)

// corpusFiles are the guards of the corpus as source.
func corpusFiles(t testing.TB) map[string][]byte {
	t.Helper()
	entries, err := corpus.Source.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		text, err := corpus.Source.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = text
	}
	return files
}

// compileCorpus compiles all of it as one package; its guards are more than one
// prepatch may have.
func compileCorpus(t testing.TB) *Prepatch {
	t.Helper()
	files := corpusFiles(t)
	all := &source.Prepatch{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		p, err := source.Parse(name, files[name])
		if err != nil {
			t.Fatal(err)
		}
		all.Guards = append(all.Guards, p.Guards...)
		all.Caps = append(all.Caps, p.Caps...)
	}
	c, err := Compile(all, files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ourMemory is this process's own memory, in which the guards run natively, and
// what bytecode has written over it: the process itself is left to the native run.
type ourMemory struct{ written map[uint64]byte }

func (m ourMemory) Read(addr uint64, p []byte) bool {
	if !readOurs(addr, p) {
		return false
	}
	for i := range p {
		if b, ok := m.written[addr+uint64(i)]; ok {
			p[i] = b
		}
	}
	return true
}

// Write writes where memory can be read: all that the tests have can be written, too.
func (m ourMemory) Write(addr uint64, p []byte) bool {
	if !readOurs(addr, make([]byte, len(p))) {
		return false
	}
	for i, b := range p {
		m.written[addr+uint64(i)] = b
	}
	return true
}

// missing returns an address whose byte is not what was written, if there is one.
func (m ourMemory) missing() (addr uint64, found bool) {
	for addr, b := range m.written {
		var now [1]byte
		if !readOurs(addr, now[:]) || now[0] != b {
			return addr, true
		}
	}
	return 0, false
}

func readOurs(addr uint64, p []byte) bool {
	if len(p) == 0 {
		return true
	}
	local := []unix.Iovec{{Base: &p[0], Len: uint64(len(p))}}
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}
	n, err := unix.ProcessVMReadv(os.Getpid(), local, remote, 0)
	return err == nil && n == len(p)
}

// bench is memory and words to run guards on.
type bench struct {
	p      *libpietest.Process
	r      *rand.Rand
	places []uint64 // interesting addresses
	stack  uint64   // what FrameSP points to
	// state and the rest are what the runs of the interpreter see
	state []byte
	tid   int32
	now   int64
	// stackEnd is where the stack ends; 0: not known
	stackEnd uint64
	vars     map[string][]uint64 // Go variables: their two words
	symbols  map[string]uint64   // their addresses
}

func newBench(t testing.TB, seed uint64) *bench {
	b := &bench{p: libpietest.New(t), r: rand.New(rand.NewPCG(seed, 1)), vars: map[string][]uint64{}, symbols: map[string]uint64{}}
	letters := make([]byte, 300)
	for i := range letters {
		letters[i] = "aaabbbcd \x00"[b.r.IntN(10)]
	}
	large := make([]byte, 72_000)
	for i := range large {
		large[i] = byte(b.r.Uint32())
	}
	text := uint64(b.p.Bytes(letters))
	same := uint64(b.p.Bytes([]byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00")))
	abcab := uint64(b.p.Bytes([]byte("xyabcab")))
	base64 := uint64(b.p.CString("aGVsbG8gd29ybGQhIQ=="))
	bulk := uint64(b.p.Bytes(large))
	// A list: each word points to a place in the list.
	list := uint64(b.p.Bytes(make([]byte, 512)))
	for i := uint64(0); i < 512; i += 8 {
		next := []uint64{0, list + 8*b.r.Uint64N(64), list + 8*b.r.Uint64N(64), list + 8*b.r.Uint64N(62), 5, text}[b.r.IntN(6)]
		*libpie.At[uint64](libpie.Addr(list + i)) = next
	}
	// Bytes that are 0 or 1, for bools.
	bools := uint64(b.p.Bytes([]byte{1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1}))
	b.places = []uint64{0, 5, 0xffff, uint64(b.p.Unmapped()), 0x4141414141414141, 1 << 63,
		text, text + 100, text + 300 - 4, text + 300 - 17, text + 300, same, same + 30, abcab, abcab + 2, base64, base64 + 4,
		bulk, bulk + 8, bulk + 1000, bulk + 2*35_000, list, list + 8, list + 256, list + 504, bools, bools + 1, bools + 4, bools + 11}
	for i, name := range []string{"io.EOF", "io.ErrUnexpectedEOF"} {
		words := []uint64{0x1000 + uint64(i), 0x2000 + uint64(i)}
		b.vars[name] = words
		var raw [16]byte
		binary.LittleEndian.PutUint64(raw[:], words[0])
		binary.LittleEndian.PutUint64(raw[8:], words[1])
		b.symbols[name] = uint64(b.p.Bytes(raw[:]))
	}
	b.symbols["current"], b.symbols["table"] = list+8, text
	for _, name := range []string{"current", "table"} {
		b.p.SetGlobal(name, libpie.Addr(b.symbols[name]))
	}
	b.symbols["parse"], b.symbols["parse end"] = 0x401000-16, 0x401000
	b.symbols["lib.c:emit"], b.symbols["lib.c:emit end"] = 0x401000, 0x402000
	for _, name := range []string{"parse", "lib.c:emit"} {
		b.p.SetFunction(name, libpie.Addr(b.symbols[name]), libpie.Addr(b.symbols[name+" end"]))
	}
	for i, name := range []string{"sum", "none", "faulty"} {
		b.symbols[name] = 0x500000 + uint64(i)
		if name != "faulty" {
			b.p.SetInvoke(name, called(name))
		}
	}
	b.p.SetInvoke("faulty", nil)
	b.state = make([]byte, libpie.MaxState)
	b.p.SetSeed(seed)
	binary.LittleEndian.PutUint64(b.state[bpf.StateSeed:], seed)
	b.stack = uint64(b.p.Bytes(make([]byte, 8*(1+maxWord)))) // return address and stack arguments
	return b
}

// called is what a function of the pretend target returns.
func called(name string) func(args []uint64) libpie.Returned {
	return func(args []uint64) libpie.Returned {
		r := libpie.Returned{Word: 7, Double: 1 << 40}
		for i, a := range args {
			r.Word += a * uint64(2*i+3)
		}
		if name == "none" {
			return libpie.Returned{Errno: libpie.Errno(r.Word % 3)}
		}
		r.Double, r.Errno = r.Word*31, libpie.Errno(len(name))
		return r
	}
}

// word is a number that matters, or an address.
func (b *bench) word() uint64 {
	switch b.r.IntN(8) {
	case 0:
		return b.r.Uint64()
	case 1:
		edges := []uint64{1 << 7, 1 << 8, 1 << 15, 1 << 16, 1 << 31, 1 << 32, 1 << 63, 1 << 24, 100, 1000, 64, 63, 65, 1 << 40}
		return edges[b.r.IntN(len(edges))] + uint64(b.r.IntN(3)) - 1
	case 2:
		return -uint64(b.r.IntN(20))
	case 3:
		return uint64(b.r.IntN(20)) | b.r.Uint64()<<32 // garbage above an int
	case 4:
		return uint64(b.r.IntN(300))
	case 5:
		return uint64(b.r.IntN(8))
	}
	return b.places[b.r.IntN(len(b.places))]
}

// input fills the frame and the stack, and returns the same as words.
func (b *bench) input(abi source.ABI) (bpf.Frame, []uint64) {
	words := make([]uint64, 16)
	for i := range words {
		words[i] = b.word()
	}
	f := bpf.Frame{Args: [bpf.FrameArgs]uint64(words), SP: b.stack, Return: 0x401000 + uint64(b.r.IntN(3)-1)*0x800}
	if abi == source.SysV {
		for i := range words[6:] {
			*libpie.At[uint64](libpie.Addr(b.stack) + 8 + libpie.Addr(8*i)) = words[6+i]
		}
		f.Args[6], f.Args[7], f.Args[8] = 0xbad, 0xbad, 0xbad
	}
	return f, words
}

// expected is the outcome of a native run in the terms of the bytecode.
func (b *bench) expected(r libpietest.Result, g *Guard, words []uint64) bpf.Result {
	o := r.Outcome
	if r.Faulted {
		o = actionOutcome(g.OnFault)
	}
	var want bpf.Result
	want.Code = o.Code
	switch o.Kind {
	case libpie.Passed:
		want.Verdict = bpf.VerdictPass
	case libpie.Logged:
		want.Verdict = bpf.VerdictLog
	case libpie.Rewritten:
		// SetArg in the corpus changes words 0 and 1, one of them or both.
		copy(want.Words[:], words[:2])
		for i, w := range r.Args {
			want.Words[i] = w
		}
		want.Verdict = bpf.Rewrite(0b11)
	case libpie.Exited:
		want.Words[0], want.Verdict = o.Words[0].Word, bpf.VerdictExit
	case libpie.Rejected:
		n := 0
		for _, w := range o.Words {
			words := []uint64{w.Word}
			if w.Var != "" {
				words = b.vars[w.Var]
			}
			n += copy(want.Words[n:], words)
		}
		want.Verdict = bpf.Reject(n, 0)
	}
	if o.HasFloat {
		want.XMM0 = o.Float
		want.Verdict |= bpf.VerdictXMM0
	}
	if o.HasErrno {
		want.Errno = uint32(o.Errno)
		want.Verdict |= bpf.VerdictErrno
	}
	want.Faulted = r.Faulted
	return want
}

// actionOutcome says what a directive's action does.
func actionOutcome(a source.Action) libpie.Outcome {
	switch a.Kind {
	case source.ActionVoid:
		return libpie.RejectVoid().Outcome()
	case source.ActionValue:
		return libpie.Reject(a.Value).Outcome()
	case source.ActionNull:
		return libpie.RejectPtr(0).Outcome()
	case source.ActionErrno:
		return libpie.RejectErrno(libpie.Errno(a.Errno), a.Value).Outcome()
	case source.ActionGo:
		var words []libpie.Result
		for _, w := range a.Words {
			words = append(words, libpie.Word(w))
		}
		if a.GoError != "" {
			words = append(words, libpie.GoVar(a.GoError))
		}
		return libpie.RejectGo(words...).Outcome()
	}
	return libpie.Pass().Outcome()
}

// same compares what counts: words behind those announced do not.
func sameResult(got, want bpf.Result) bool {
	n := bits.Len16(want.Verdict.Stored())
	return got.Verdict == want.Verdict && slices.Equal(got.Words[:n], want.Words[:n]) && got.Faulted == want.Faulted && !got.OutOfFuel &&
		(want.Verdict&bpf.VerdictXMM0 == 0 || got.XMM0 == want.XMM0) &&
		(want.Verdict&bpf.VerdictErrno == 0 || got.Errno == want.Errno) && got.Code == want.Code
}

// Every guard of the corpus says the same natively and as bytecode.
func TestNativeAndBytecodeAgree(t *testing.T) {
	const rounds = 400
	c := compileCorpus(t)
	b := newBench(t, 7)
	outcomes := map[string]map[string]int{}
	for _, g := range c.Guards {
		t.Run(g.Name, func(t *testing.T) {
			native := corpus.Guards[g.Name]
			if native == nil {
				t.Fatalf("%s is not in corpus.Guards", g.Name)
			}
			outcomes[g.Name] = map[string]int{}
			for range rounds {
				b.compare(t, &g, native, outcomes[g.Name])
				if t.Failed() {
					t.Logf("%s", bpf.Disassemble(g.Unit.Insns))
					return
				}
			}
			if outcomes[g.Name]["decided"] == 0 {
				t.Errorf("no input led to a verdict: %v", outcomes[g.Name])
			}
		})
	}
	if len(c.Guards) != len(corpus.Guards) {
		t.Errorf("%d guards compiled, %d in corpus.Guards", len(c.Guards), len(corpus.Guards))
	}
}

// compare runs one guard on one input both ways.
func (b *bench) compare(t *testing.T, g *Guard, native any, outcomes map[string]int) {
	t.Helper()
	f, words := b.input(g.ABI)
	b.p.SetNow(int64(b.word()))
	if b.r.IntN(8) > 0 { // time passes
		b.now += int64(b.r.IntN(1e9))
		b.p.SetNow(b.now)
	}
	b.tid = int32(1 + b.r.IntN(12))
	b.p.SetTid(b.tid)
	if b.stackEnd = 0; b.r.IntN(4) > 0 {
		b.stackEnd = b.stack + b.r.Uint64N(1<<18)
	}
	if b.p.SetStackUsed(-1); b.stackEnd != 0 {
		b.p.SetStackUsed(int(b.stackEnd - b.stack))
	}
	b.p.SetReturnAddr(libpie.Addr(f.Return))
	state, mem := slices.Clone(b.state), ourMemory{map[uint64]byte{}}
	got, err := b.interp(g, f, state, mem)
	if err == nil && got.OutOfFuel {
		outcomes["fuel"]++ // a loop that does not end natively either
		return
	}
	b.state = state
	r := b.p.RunWords(native, words...)
	b.agree(t, g, words, got, err, r)
	if at, wrong := mem.missing(); wrong {
		t.Errorf("words %#x: bytecode writes %d at %#x, native not", words, mem.written[at], at)
	}
	if r.Faulted {
		outcomes["faulted"]++
	} else {
		outcomes["decided"]++
	}
}

// interp runs the bytecode in this process's memory.
func (b *bench) interp(g *Guard, f bpf.Frame, state []byte, mem ourMemory) (bpf.Result, error) {
	in := bpf.Interp{
		Unit: g.Unit, Memory: mem, Tid: uint32(b.tid), Thread: uint64(b.tid), Now: uint64(b.p.Now()),
		StackEnd: b.stackEnd, State: state,
	}
	in.Call = func(s bpf.Symbol, args [bpf.InvokeArgs]uint64) (bpf.Returned, bool) {
		r := called(s.Name)(args[:])
		return bpf.Returned{Word: r.Word, XMM0: r.Double, Errno: uint32(r.Errno)}, s.Name != "faulty"
	}
	for _, s := range g.Unit.Symbols {
		if s.Kind == bpf.SymbolFuncEnd {
			s.Name += " end"
		}
		in.Symbols = append(in.Symbols, b.symbols[s.Name])
	}
	return in.Run(f)
}

// check compares the bytecode's outcome with that of a native run.
func (b *bench) check(t *testing.T, g *Guard, f bpf.Frame, words []uint64, native libpietest.Result) {
	t.Helper()
	got, err := b.interp(g, f, b.state, ourMemory{map[uint64]byte{}})
	b.agree(t, g, words, got, err, native)
}

func (b *bench) agree(t *testing.T, g *Guard, words []uint64, got bpf.Result, err error, native libpietest.Result) {
	t.Helper()
	if err != nil {
		t.Errorf("words %#x: %v", words, err)
	} else if want := b.expected(native, g, words); !sameResult(got, want) {
		t.Errorf("words %#x: bytecode %s, native %v", words, describe(got), native)
	}
}

func describe(r bpf.Result) string {
	return fmt.Sprintf("verdict %#x words %#x errno %d code %d fault %v", uint32(r.Verdict), r.Words[:r.Verdict.Words()], r.Errno, r.Code, r.Faulted)
}

// What the compiler emits, the verifier can prove.
func TestCorpusVerifies(t *testing.T) {
	for _, g := range compileCorpus(t).Guards {
		if _, err := verify.Verify(g.Unit); err != nil {
			t.Errorf("%s: %v\n%s", g.Name, err, bpf.Disassemble(g.Unit.Insns))
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	text, err := prepatches.Files.ReadFile("redis/cve-2024-31228/guard.go")
	if err != nil {
		b.Fatal(err)
	}
	files := map[string][]byte{"guard.go": text}
	p, err := source.ParseFiles(files)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Compile(p, files); err != nil {
			b.Fatal(err)
		}
	}
}
