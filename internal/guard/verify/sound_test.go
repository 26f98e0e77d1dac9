package verify

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// The soundness test: whatever Verify accepts must run in the checked
// interpreter without a violation, end within the steps it was said to need, and
// every register at every step must have a value that the analysis allows.

// regions is target memory that is readable at a few places.
type regions struct {
	base []uint64
	data []byte
}

func (m *regions) Read(addr uint64, p []byte) bool {
	for _, b := range m.base {
		if addr >= b && addr-b <= uint64(len(m.data)) && uint64(len(p)) <= uint64(len(m.data))-(addr-b) {
			copy(p, m.data[addr-b:])
			return true
		}
	}
	return false
}

// Write says that all of it can be written, and leaves it as it is: others write,
// too.
func (m *regions) Write(addr uint64, p []byte) bool { return m.Read(addr, make([]byte, len(p))) }

var testMemory = &regions{base: []uint64{0x10000, 0x7f0000000000}, data: func() []byte {
	data := []byte("GET /index.html HTTP/1.1\r\nHost: a\r\n\x00\x00\x00\x10****")
	for k := range 300 {
		data = append(data, byte(k*7))
	}
	return data
}()}

// interestingWord is an argument: a small number, an edge, or an address.
func interestingWord(r *rand.Rand) uint64 {
	switch r.IntN(6) {
	case 0:
		return testMemory.base[r.IntN(2)] + uint64(r.IntN(64))
	case 1:
		return r.Uint64() >> r.IntN(64)
	case 2:
		return uint64(int64(r.Uint64()) >> r.IntN(64))
	case 3:
		return uint64(1)<<r.IntN(64) + uint64(r.IntN(3)) - 1
	}
	return uint64(r.IntN(300))
}

func randomFrame(r *rand.Rand) bpf.Frame {
	f := bpf.Frame{SP: testMemory.base[1] + 64, Return: 0x401000}
	for k := range f.Args {
		f.Args[k] = interestingWord(r)
	}
	return f
}

// allows reports whether the abstract value v allows the concrete c.
func allows(v value, c bpf.Value, symbols []uint64) bool {
	switch v.kind {
	case kindUninit, kindMixed:
		return true // says nothing, and cannot be read
	case kindScalar:
		return c.Kind == bpf.KindScalar && v.num.Contains(c.Bits)
	case kindSymbol:
		return c.Kind == bpf.KindScalar && v.num.Contains(c.Bits-symbols[v.base])
	case kindFrame:
		return c.Kind == bpf.KindFrame && v.num.Contains(c.Bits)
	case kindStack:
		return c.Kind == bpf.KindStack && int8(v.base) == c.Depth && v.num.Contains(c.Bits)
	case kindRodata:
		return c.Kind == bpf.KindRodata && v.num.Contains(c.Bits)
	case kindState:
		return c.Kind == bpf.KindState && v.num.Contains(c.Bits)
	}
	return false
}

// analysed is verify with the analysis kept.
func analysed(u *bpf.Unit) (*analysis, *Program, *Error) {
	if err := checkStructure(u); err != nil {
		return nil, nil, err
	}
	f, err := newFlow(u)
	if err != nil {
		return nil, nil, err
	}
	a, err := newAnalysis(u, f)
	if err != nil {
		return nil, nil, err
	}
	if err := a.run(); err != nil {
		return a, nil, err
	}
	p, err := verify(u)
	return a, p, err
}

// checkSound runs an accepted unit on many calls. It returns an error that
// tells what verification got wrong.
func checkSound(u *bpf.Unit, r *rand.Rand, calls int) error {
	a, p, refusal := analysed(u)
	if refusal != nil {
		return nil
	}
	symbols := make([]uint64, len(u.Symbols))
	for k := range symbols {
		symbols[k] = testMemory.base[0] + 16*uint64(k)
	}
	w := &witness{a: a, p: p, u: u, symbols: symbols}
	in := &bpf.Interp{Unit: u, Memory: testMemory, Symbols: symbols, Tid: 7, Now: 1 << 40, Thread: 1 << 41, Charge: p.Fuel}
	in.State = make([]byte, u.State)
	in.Call = func(bpf.Symbol, [bpf.InvokeArgs]uint64) (bpf.Returned, bool) {
		return bpf.Returned{Word: r.Uint64(), XMM0: r.Uint64(), Errno: r.Uint32()}, r.IntN(8) > 0
	}
	in.Trace = func(pc int, regs *[bpf.NumRegs]bpf.Value, depth int) {
		if len(in.State) > 0 { // somebody else uses it, too
			in.State[r.IntN(len(in.State))] = byte(r.Uint32())
		}
		w.see(pc, regs, depth)
	}
	in.MaxSteps = int(min(p.Cost().Steps, 1<<22)) + 1
	for range calls {
		f := randomFrame(r)
		w.last = -1
		in.Audit = r.IntN(4) == 0
		res, err := in.Run(f)
		if w.wrong == nil && err != nil && p.Cost().Steps < 1<<22 {
			w.wrong = err
		}
		var v *bpf.Violation
		if w.wrong == nil && err != nil && !errors.As(err, &v) {
			w.wrong = err
		}
		if w.wrong == nil && err == nil {
			w.wrong = announcedVerdict(p, res.Verdict)
		}
		if w.wrong != nil {
			return fmt.Errorf("call %+v: %w\n%s", f, w.wrong, listing(u))
		}
	}
	return nil
}

// A witness compares every step of a run with what verification said of it, and
// destroys the registers that it said are dead.
type witness struct {
	a       *analysis
	p       *Program
	u       *bpf.Unit
	symbols []uint64
	last    int // the instruction before, −1 at the start
	wrong   error
}

func (w *witness) see(pc int, regs *[bpf.NumRegs]bpf.Value, depth int) {
	if w.wrong != nil {
		return
	}
	w.wrong = errors.Join(w.state(pc, regs), w.course(pc), w.access(pc, regs, depth))
	for r := range regs {
		if w.p.Live(pc)&(1<<r) == 0 {
			regs[r] = bpf.Value{}
		}
	}
	w.last = pc
}

// state checks the registers against the analysis and its facts.
func (w *witness) state(pc int, regs *[bpf.NumRegs]bpf.Value) error {
	if !w.p.Reachable(pc) {
		return fmt.Errorf("instruction %d runs, but is said not to be reachable", pc)
	}
	for r, v := range w.a.seen[pc].regs {
		if !allows(v, regs[r], w.symbols) && regs[r].Kind != bpf.KindUninit {
			return fmt.Errorf("at %d r%d is %v %#x, not in %v %v", pc, r, regs[r].Kind, regs[r].Bits, v.kind, v.num)
		}
		if c, ok := w.p.Const(pc, r); ok && regs[r].Kind != bpf.KindUninit && (regs[r].Kind != bpf.KindScalar || regs[r].Bits != c) {
			return fmt.Errorf("at %d r%d is %#x, said to be %#x", pc, r, regs[r].Bits, c)
		}
	}
	if i := w.u.Insns[pc]; w.p.Same(pc) {
		src := regs[i.Src]
		if v, _ := bpf.ALU(i, regs[i.Dst].Bits, src.Bits); src.Kind != bpf.KindScalar || v != src.Bits {
			return fmt.Errorf("%d does not give the %v %#x as it is, which it is said to", pc, src.Kind, src.Bits)
		}
	}
	return nil
}

// course checks that only fault points fault, and only what pays runs out of fuel.
func (w *witness) course(pc int) error {
	if w.last < 0 || pc != w.u.OnFault && pc != w.u.OnFuel {
		return nil
	}
	i := w.u.Insns[w.last]
	if slices.Contains(w.a.flow.successors(w.last), pc) || w.p.FaultPoint(w.last) || w.p.Fuel(w.last) > 0 || i.IsHelperCall() {
		return nil
	}
	return fmt.Errorf("%d faults or runs out of fuel, which it is said not to", w.last)
}

// access checks where a load or store goes.
func (w *witness) access(pc int, regs *[bpf.NumRegs]bpf.Value, depth int) error {
	i := w.u.Insns[pc]
	x := w.p.Access(pc)
	base := regs[i.Dst]
	switch {
	case i.IsLoad():
		base = regs[i.Src]
	case !i.IsStore():
		if x != (Access{}) {
			return fmt.Errorf("%d is no access, said to be %+v", pc, x)
		}
		return nil
	}
	at := int(int64(base.Bits) + int64(i.Off))
	own := base.Kind != bpf.KindStack || int(base.Depth) == depth
	if base.Kind == bpf.KindStack && own && -at > w.p.StackOf(pc) {
		return fmt.Errorf("%d accesses the stack at %d, below the %d bytes it is said to use", pc, at, w.p.StackOf(pc))
	}
	want := map[bpf.Kind]Region{bpf.KindFrame: RegionFrame, bpf.KindStack: RegionStack, bpf.KindRodata: RegionRodata, bpf.KindState: RegionState, bpf.KindScalar: RegionTarget}[base.Kind]
	switch x.Region {
	case want, RegionTarget:
	case RegionMixed:
		if want == RegionFrame {
			return fmt.Errorf("%d accesses the frame, said to be %+v", pc, x)
		}
	case RegionSymbol:
		at = x.Offset
	default:
		return fmt.Errorf("%d accesses %v, said to be %+v", pc, base.Kind, x)
	}
	if x.Known && (x.Offset != at || !own) {
		return fmt.Errorf("%d accesses %v at %d, said to be %+v", pc, base.Kind, at, x)
	}
	return nil
}

func announcedVerdict(p *Program, got bpf.Verdict) error {
	for _, v := range p.Verdicts() {
		if v == got {
			return nil
		}
	}
	return fmt.Errorf("ends with verdict %#x, not among %v", uint32(got), p.Verdicts())
}

func listing(u *bpf.Unit) string {
	s := fmt.Sprintf("onfault %d, onfuel %d, %d symbols, rodata %q\n", u.OnFault, u.OnFuel, len(u.Symbols), u.Rodata)
	for pc, i := range u.Insns {
		s += fmt.Sprintf("%3d  %v\n", pc, i)
	}
	return s
}

// rounds is how many random programs a normal test run tries; VERIFY_ROUNDS
// makes it more.
func rounds(t *testing.T, usual int) int { return numberOf(t, "VERIFY_ROUNDS", usual) }

// firstSeed is where the seeds of random programs begin: VERIFY_SEED gives others.
func firstSeed(t *testing.T) uint64 { return uint64(numberOf(t, "VERIFY_SEED", 0)) << 32 }

func numberOf(t *testing.T, variable string, usual int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

func TestAcceptedProgramsAreSound(t *testing.T) {
	accepted, looping := 0, 0
	n, first := rounds(t, 3_000), firstSeed(t)
	for seed := range n {
		r := rand.New(rand.NewPCG(first+uint64(seed), 1))
		u := randomUnit(r)
		p, err := Verify(u)
		if err != nil {
			continue
		}
		accepted++
		for pc, i := range u.Insns {
			if p.Reachable(pc) && i.IsBackEdge(pc) {
				looping++
				break
			}
		}
		if err := checkSound(u, r, 20); err != nil {
			t.Fatalf("seed %d: %v", first+uint64(seed), err)
		}
	}
	t.Logf("%d of %d programs accepted, %d with loops", accepted, n, looping)
	if accepted < n/20 || looping < n/200 {
		t.Errorf("of %d random programs %d are accepted, %d with loops: too few to mean anything", n, accepted, looping)
	}
}
