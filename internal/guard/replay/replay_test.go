package replay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/recorder"
	"github.com/patch-integration-engine/pie/internal/guard/recording"
	"github.com/patch-integration-engine/pie/internal/guard/replay"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// programs compiles and verifies guards.
func programs(t testing.TB, files map[string][]byte) []*verify.Program {
	t.Helper()
	src, err := source.ParseFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	p, err := compile.Compile(src, files)
	if err != nil {
		t.Fatal(err)
	}
	var out []*verify.Program
	for _, g := range p.Guards {
		prog, err := verify.Verify(g.Unit)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, prog)
	}
	return out
}

// corpus is every guard of the CVE corpus that can be recorded: none that writes, or calls
// functions.
func corpus(t testing.TB) map[string][]*verify.Program {
	t.Helper()
	names, err := filepath.Glob("../cves/testdata/*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("the corpus of guards: %v", err)
	}
	out := map[string][]*verify.Program{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		acts := func(p *verify.Program) bool { return p.Unit().Caps&(bpf.CapWrite|bpf.CapCall) != 0 }
		if all := programs(t, map[string][]byte{name: text}); !slices.ContainsFunc(all, acts) {
			out[filepath.Base(name)] = all
		}
	}
	return out
}

// heap is memory full of what structs, strings and pointers look like; pages of it
// are missing.
type heap struct {
	bytes   []byte
	missing map[uint64]bool
}

const text = "abc*/.%\x00=,;:-012 \n\\\"<"

const heapAt, heapSize = 0x7f12_3450_0000, 64 << 10

func newHeap(r *rand.Rand) *heap {
	h := &heap{bytes: make([]byte, heapSize), missing: map[uint64]bool{uint64(r.IntN(16)): true}}
	for at := 0; at < heapSize; at += 8 {
		var v uint64
		switch r.IntN(6) {
		case 0:
			v = h.pointer(r)
		case 1:
			v = uint64(r.IntN(64))
		case 2:
			v = uint64(r.IntN(1 << 16))
		case 3:
			v = r.Uint64()
		case 4, 5:
			for range 8 {
				v = v<<8 | uint64(text[r.IntN(len(text))])
			}
		}
		binary.LittleEndian.PutUint64(h.bytes[at:], v)
	}
	return h
}

func (h *heap) pointer(r *rand.Rand) uint64 { return heapAt + uint64(r.IntN(heapSize))&^7 }

func (h *heap) Read(addr uint64, p []byte) bool {
	if addr < heapAt || addr-heapAt > heapSize-uint64(len(p)) {
		return false
	}
	at := addr - heapAt
	if h.missing[at/4096] || h.missing[(at+uint64(len(p))-1)/4096] {
		return false
	}
	copy(p, h.bytes[at:])
	return true
}

func (h *heap) frame(r *rand.Rand) bpf.Frame {
	f := bpf.Frame{SP: h.pointer(r), Return: 0x55_5555_1234}
	for k := range f.Args {
		switch r.IntN(5) {
		case 0:
			f.Args[k] = uint64(r.IntN(300))
		case 1:
			f.Args[k] = r.Uint64() >> r.IntN(64)
		default:
			f.Args[k] = h.pointer(r)
		}
	}
	return f
}

// process is a process with the recorders of a prepatch and their ring.
type process struct {
	ring      recorder.Ring
	recorders []*verify.Program
	state     []byte
}

func newProcess(t testing.TB, progs []*verify.Program, slot int, memory bool) *process {
	t.Helper()
	ring, err := recorder.NewRing(progs[0].Unit().State, slot)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{ring: ring, state: make([]byte, ring.State())}
	for k, prog := range progs {
		rec, err := recorder.Make(prog, recorder.Options{Guard: k, Args: 6, Memory: memory, Ring: ring})
		if err != nil {
			t.Fatal(err)
		}
		p.recorders = append(p.recorders, rec)
	}
	return p
}

// allow gives leave for n more calls.
func (p *process) allow(n uint64) {
	next := p.word(recorder.RingNext)
	binary.LittleEndian.PutUint64(p.state[p.ring.At+recorder.RingLimit:], next+n)
}

func (p *process) word(off int) uint64 { return binary.LittleEndian.Uint64(p.state[p.ring.At+off:]) }

// call runs the recorder of guard k in the interpreter.
func (p *process) call(t testing.TB, k int, f bpf.Frame, in bpf.Interp) {
	t.Helper()
	rec := p.recorders[k]
	in.Unit, in.State, in.Charge = rec.Unit(), p.state, rec.Fuel
	in.Symbols = make([]uint64, len(in.Unit.Symbols))
	for s := range in.Symbols {
		in.Symbols[s] = symbolAt(s)
	}
	res, err := in.Run(f)
	if err != nil {
		t.Fatal(err)
	}
	if res.Verdict != bpf.VerdictPass {
		t.Fatalf("a recorder ended with %v", res.Verdict)
	}
}

func symbolAt(s int) uint64 { return heapAt + 0x800 + 64*uint64(s) }

// slot reads call number n.
func (p *process) slot(t testing.TB, n uint64) recorder.Slot {
	t.Helper()
	b := bytes.Clone(p.state[p.ring.SlotAt(n):][:p.ring.Size])
	if !recorder.Published(b, n) {
		t.Fatalf("call %d was not published", n)
	}
	s, err := recorder.DecodeSlot(b, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// through writes calls to a file and reads them back.
func through(t testing.TB, guards int, calls []recording.Call) []recording.Call {
	t.Helper()
	var file bytes.Buffer
	w, err := recording.NewWriter(&file, recording.Header{ID: "T", Guards: make([]recording.Guard, guards)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Process(recording.Process{Pid: 7}); err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		if err := w.Call(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(recording.Total{}); err != nil {
		t.Fatal(err)
	}
	r, err := recording.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	var out []recording.Call
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, clone(*c))
	}
	if r.Total == nil || len(out) != len(calls) {
		t.Fatalf("read %d of %d calls", len(out), len(calls))
	}
	return out
}

func clone(c recording.Call) recording.Call {
	c.Reads = slices.Clone(c.Reads)
	for k := range c.Reads {
		c.Reads[k].Bytes = bytes.Clone(c.Reads[k].Bytes)
	}
	return c
}

// What a guard says of a call while it is made, its recorder writes down, and a
// replay says again; where a record was cut off, the replay says the same or that
// it does not know.
func TestReplaySaysWhatTheGuardSaid(t *testing.T) {
	all := corpus(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) { checkReplay(t, all[name], calls()) })
	}
}

// calls is how many calls of each guard are tried.
func calls() int {
	if os.Getenv("PIE_TEST_LONG") != "" {
		return 2000
	}
	return 5
}

func checkReplay(t *testing.T, progs []*verify.Program, calls int) {
	r := rand.New(rand.NewPCG(1, 2))
	for k, prog := range progs {
		for _, size := range []int{recorder.MinSlot, recorder.MaxSlot} {
			p := newProcess(t, progs, size, true)
			u := prog.Unit()
			state, again := make([]byte, u.State), make([]byte, u.State)
			place := recording.Place{Symbols: map[string]uint64{}}
			in := bpf.Interp{Tid: 77, Thread: 0x7f00_1122_3300, StackEnd: heapAt + heapSize + 4096}
			guard := in
			guard.Unit, guard.State, guard.Charge = u, state, prog.Fuel
			for s, sym := range u.Symbols {
				place.Symbols[replay.SymbolKey(sym)] = symbolAt(s)
				guard.Symbols = append(guard.Symbols, symbolAt(s))
			}
			g, err := replay.New(prog, place, again)
			if err != nil {
				t.Fatal(err)
			}
			agreed := 0
			for n := range calls {
				h := newHeap(r)
				f := h.frame(r)
				in.Memory, guard.Memory = h, h
				in.Now = 1_000_000_000 * uint64(n+1)
				guard.Now = in.Now
				want, err := guard.Run(f)
				if err != nil {
					t.Fatal(err)
				}
				p.allow(1)
				p.call(t, k, f, in)
				s := p.slot(t, uint64(n))
				c := through(t, len(progs), []recording.Call{{Slot: s}})[0]
				got, err := g.Run(&c)
				if err != nil {
					t.Fatal(err)
				}
				if got.Unknown != "" {
					if s.End == recorder.EndVerdict {
						t.Fatalf("slots of %d, call %d ended with %v, and the replay does not know: %s", size, n, s.Verdict, got.Unknown)
					}
					if u.State > 0 {
						break // the states differ from here on
					}
					continue
				}
				agreed++
				if got.Verdict != want.Verdict || got.Faulted != want.Faulted || got.Words != want.Words {
					t.Fatalf("slots of %d, call %d: the guard said %+v, the replay %+v", size, n, want, got.Result)
				}
				if s.End == recorder.EndVerdict && (s.Verdict != want.Verdict || want.Faulted) {
					t.Fatalf("slots of %d, call %d: the guard said %+v, the recorder %v", size, n, want, s.Verdict)
				}
			}
			if agreed == 0 {
				t.Errorf("slots of %d: no replay of %d knew", size, calls)
			}
		}
	}
}

const counting = `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id T

//pie:guard exe=x func=f onfault=reject:-5 onfuel=pass
func F(c *libpie.Call, s libpie.Addr, n int32) libpie.Verdict {
	m, _ := c.CStr(s, 200)
	if m.Contains("evil") || n > 9 {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`

// record makes one call in a process whose memory is m.
func record(t *testing.T, memory bool, slot int, m bpf.Memory, f bpf.Frame) recording.Call {
	t.Helper()
	p := newProcess(t, programs(t, map[string][]byte{"g.go": []byte(counting)}), slot, memory)
	p.allow(1)
	p.call(t, 0, f, bpf.Interp{Memory: m, Now: 5})
	return recording.Call{Slot: p.slot(t, 0)}
}

// texts is memory with these strings, each at its address.
type texts map[uint64]string

func (s texts) Read(addr uint64, p []byte) bool {
	for at, text := range s {
		if addr >= at && addr+uint64(len(p)) <= at+uint64(len(text)) {
			copy(p, text[addr-at:])
			return true
		}
	}
	return false
}

// Another version of the guard runs over what this one recorded: what it asks for
// beyond that is unknown, and never a pass.
func TestAnotherVersion(t *testing.T) {
	mem := texts{0x10000: "good\x00more", 0x20000: "some evil\x00"}
	for _, x := range []struct {
		name, from, to string
		at             uint64
		memory         bool
		verdict        bpf.Verdict
		unknown        bool
	}{
		{"the same", "", "", 0x10000, true, bpf.VerdictPass, false},
		{"the same, an attack", "", "", 0x20000, true, bpf.Reject(1, 0), false},
		{"other words", `"evil"`, `"good"`, 0x10000, true, bpf.Reject(1, 0), false},
		{"less", "200", "3", 0x10000, true, bpf.VerdictPass, false},
		{"an argument", "n > 9", "n > 3", 0x10000, true, bpf.Reject(1, 0), false},
		{"behind the string", "m, _ := c.CStr(s, 200)", "m := c.Bytes(s, 30)", 0x10000, true, 0, true},
		{"elsewhere", "c.CStr(s, 200)", "c.CStr(s+0x5000, 200)", 0x10000, true, 0, true},
		{"memory, of arguments alone", "", "", 0x10000, false, 0, true},
		{"argument, of arguments alone", "m, _ := c.CStr(s, 200)\n\tif m.Contains(\"evil\") || n > 9", "if n > 3", 0x10000, false, bpf.Reject(1, 0), false},
		{"a fault", "", "", 0x30000, true, 0, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := record(t, x.memory, 256, mem, bpf.Frame{Args: [9]uint64{x.at, 5}, SP: 0x7000})
			text := bytes.Replace([]byte(counting), []byte(x.from), []byte(x.to), 1)
			g, err := replay.New(programs(t, map[string][]byte{"g.go": text})[0], recording.Place{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			out, err := g.Run(&c)
			if err != nil {
				t.Fatal(err)
			}
			if (out.Unknown != "") != x.unknown || !x.unknown && out.Verdict != x.verdict {
				t.Errorf("got %v, unknown %q", out.Verdict, out.Unknown)
			}
		})
	}
}

// What a function of the target would have returned, nobody knows.
func TestCallsAreUnknown(t *testing.T) {
	c := record(t, true, 256, texts{0x10000: "x\x00"}, bpf.Frame{Args: [9]uint64{0x10000, 5}, SP: 0x7000})
	calling := strings.NewReplacer("//pie:id T", "//pie:id T\n//pie:cap call", `m.Contains("evil")`, `c.Invoke("g", libpie.Word(n)).Word == 1 || m.Contains("evil")`).Replace(counting)
	g, err := replay.New(programs(t, map[string][]byte{"g.go": []byte(calling)})[0], recording.Place{Symbols: map[string]uint64{"1 g": 0x4000}}, make([]byte, 64<<10))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := g.Run(&c); err != nil || out.Unknown == "" {
		t.Errorf("%+v, %v", out, err)
	}
}

// Without leave nothing is taken down, and nothing waits.
func TestNoLeave(t *testing.T) {
	p := newProcess(t, programs(t, map[string][]byte{"g.go": []byte(counting)}), 256, true)
	f := bpf.Frame{Args: [9]uint64{0x10000, 5}, SP: 0x7000}
	in := bpf.Interp{Memory: texts{0x10000: "x\x00"}}
	p.call(t, 0, f, in)
	if n := p.word(recorder.RingNext); n != 0 {
		t.Errorf("%d calls without leave", n)
	}
	p.allow(2)
	for range 5 {
		p.call(t, 0, f, in)
	}
	if n := p.word(recorder.RingNext); n != 2 {
		t.Errorf("%d calls with leave for two", n)
	}
	p.slot(t, 1)
}

// One in three.
func TestEvery(t *testing.T) {
	p := newProcess(t, programs(t, map[string][]byte{"g.go": []byte(counting)}), 256, true)
	binary.LittleEndian.PutUint64(p.state[p.ring.At+recorder.RingEvery:], 3)
	p.allow(100)
	for range 30 {
		p.call(t, 0, bpf.Frame{Args: [9]uint64{0x10000, 5}, SP: 0x7000}, bpf.Interp{Memory: texts{0x10000: "x\x00"}})
	}
	if n := p.word(recorder.RingNext); n != 10 {
		t.Errorf("%d calls of 30", n)
	}
}

// A call that never ended, because a signal handler left it by longjmp(3), holds
// its lane only until its frame is another call's.
func TestLaneOfACallThatNeverEnded(t *testing.T) {
	p := newProcess(t, programs(t, map[string][]byte{"g.go": []byte(counting)}), 256, true)
	p.allow(5)
	in := bpf.Interp{Memory: texts{0x10000: "x\x00"}, MaxSteps: 60}
	f := bpf.Frame{Args: [9]uint64{0x10000, 5}, SP: 0x7000}
	in.Unit, in.State = p.recorders[0].Unit(), p.state
	if _, err := in.Run(f); err == nil {
		t.Fatal("the call came to its end")
	}
	if n := p.word(recorder.RingNext); n != 1 {
		t.Fatalf("%d calls took a slot", n)
	}
	in.MaxSteps = 0
	p.call(t, 0, f, in)
	p.slot(t, 1)
	if recorder.Published(p.state[p.ring.SlotAt(0):], 0) {
		t.Error("the call that never ended was published")
	}
}
