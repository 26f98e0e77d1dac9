package jit

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

var (
	diffTime = flag.Duration("differential", 4*time.Second, "how long to compare machine code with the interpreter")
	diffSeed = flag.Uint64("seed", 0, "first seed of the comparison; 0 picks one")
)

// targetMemory is the target's memory as the interpreter sees it: the data pages
// of the test process, all else unreadable. Of the process's stack and of PIE's own
// memory the interpreter knows nothing: a call that comes there says nothing.
type targetMemory struct {
	data    []byte
	stack   []byte // what the call has above its return address, which is at ret
	ret     uint64
	strayed bool
}

// stray notes an access to memory that the two sides see differently.
func (m *targetMemory) stray(addr uint64) {
	for _, at := range []address.Addr{arena, stackAt, farStateAt} {
		m.strayed = m.strayed || addr+0x1000 >= uint64(at) && addr < uint64(at)+1<<20
	}
	m.strayed = m.strayed || addr >= imageAt && addr < 1<<47 // the test process itself
}

// imageAt is below all that the kernel places by itself in a position-independent program.
const imageAt = 0x5500_0000_0000

func (m *targetMemory) Read(addr uint64, p []byte) bool {
	if at := addr - m.ret; at < uint64(len(m.stack)) && uint64(len(p)) <= uint64(len(m.stack))-at {
		copy(p, m.stack[at:])
		return true
	}
	if addr < uint64(dataAt) || addr+uint64(len(p)) > uint64(dataAt)+uint64(len(m.data)) {
		m.stray(addr)
		return false
	}
	copy(p, m.data[addr-uint64(dataAt):])
	return true
}

// Write makes the memory a bpf.WritableMemory, all of which but its third page can
// be written.
func (m *targetMemory) Write(addr uint64, p []byte) bool {
	from, to := addr-uint64(dataAt), addr+uint64(len(p))-uint64(dataAt)
	if addr < uint64(dataAt) || to > uint64(len(m.data)) || from < readOnly+0x1000 && to > readOnly {
		m.stray(addr)
		return false
	}
	copy(m.data[from:], p)
	return true
}

// digest is what the test process says of the same memory.
func (m *targetMemory) digest() uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i+8 <= len(m.data); i += 8 {
		h = (h ^ binary.LittleEndian.Uint64(m.data[i:])) * 1099511628211
	}
	return h
}

// readOnly is where the page of the data begins that cannot be written.
const readOnly = 0x2000

// sprinkled is memory with few different bytes, so that searches succeed.
func sprinkled(r *rand.Rand) []byte {
	b := make([]byte, dataLen)
	for i := range b {
		if r.IntN(40) == 0 {
			b[i] = byte(r.IntN(3))
		} else {
			b[i] = byte(3 + r.IntN(2))
		}
	}
	return b
}

// firstSeed is where random programs begin: -seed, or the time.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	seed := *diffSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("first seed %d", seed)
	return seed
}

// TestDifferential runs random guards as machine code and in the interpreter:
// both must say the same about every register, fault and unit of fuel. Of what
// verification accepts it also runs changed forms that verification accepts.
func TestDifferential(t *testing.T) {
	seed := firstSeed(t)
	d := newDifferential(t, seed)
	for end := time.Now().Add(*diffTime); time.Now().Before(end) && d.agree(); seed++ {
		d.round(seed)
	}
	d.finish(t)
}

// undo8 undoes what a site with SPDelta 8 did: one push.
var undo8 = []byte{0x48, 0x83, 0xc4, 0x08} // add rsp, 8

// trial is one random guard at one random site, called once.
type trial struct {
	m     *machine
	p     program
	u     *bpf.Unit // of p
	s     Site
	l     Layout
	in    *cpu
	ret   uint64 // address of the return address
	state []byte // before the call, then after it as the interpreter says
	audit bool   // the guard only counts
	now   uint64 // what HelperNow says

	c      *Code
	seed   uint64
	want   bpf.Result // what the interpreter says
	memory uint64     // digest of the target's memory after the call
}

// placeTrial places p at a random site. The error is that of compile.
func placeTrial(m *machine, p program, r *generator) (*trial, error) {
	x := &trial{m: m, p: p, u: p.Unit(), l: m.layout(), s: randomSite(r)}
	x.l.Faults = FaultMode(r.IntN(3))
	x.l.State, x.l.Pointer, x.l.XSave, x.l.Symbols = farStateAt, true, 16<<10, symbolsOf(x.u, m.returned)
	x.l.StackEnd = stackAt + stackLen
	try := pressures[r.IntN(2):]
	if n := r.IntN(5); n > 0 && n < 4 {
		try = []pressure{{spill: true, pool: n}, {spill: true}}
	}
	c, err := compile(p, x.s, x.l, try)
	if errors.Is(err, ErrStack) {
		x.l.Faults = Table
		c, err = compile(p, x.s, x.l, try)
	}
	if err != nil {
		return nil, err
	}
	x.c = c
	return x, nil
}

// symbolsOf gives the symbols of a unit addresses: a function of the name near is where
// the call comes from.
func symbolsOf(u *bpf.Unit, returned address.Addr) (at []address.Addr) {
	for i, s := range u.Symbols {
		near := s.Name == "near"
		switch s.Kind {
		case bpf.SymbolFunc:
			if near {
				at = append(at, returned-8)
				continue
			}
			at = append(at, functionAt)
		case bpf.SymbolFuncEnd:
			if near {
				at = append(at, returned)
				continue
			}
			at = append(at, functionAt+0x100)
		default:
			at = append(at, dataAt+0x80+address.Addr(0x40*i))
		}
	}
	return at
}

// enter fills the registers and the state of a call.
func (x *trial) enter(r *generator) {
	x.audit = r.IntN(8) == 0
	x.in = filled(uint64(8 * r.IntN(2)))
	for i := range x.in.GPR {
		if amd64.Reg(i) != amd64.RSP && r.IntN(2) == 0 {
			x.in.GPR[i] = uint64(int64(r.Uint64()) >> r.IntN(64))
		}
	}
	if x.s.ABI == GoInternal {
		x.in.GPR[amd64.R14] = uint64(gAt)
	}
	x.state = make([]byte, max(int(x.u.State), stateSize))
	for i := range x.state[:stateSize] {
		if i%8 < 1+r.IntN(8) {
			x.state[i] = byte(r.Uint32())
		}
	}
	x.ret = x.in.GPR[amd64.RSP] + uint64(x.s.SPDelta)
}

// randomSite has any registers free, and an entry at rsp or a push above it.
func randomSite(r *generator) Site {
	s := Site{ABI: r.abi, Free: amd64.RegSet(r.Uint32()) &^ amd64.Set(amd64.RSP, amd64.R14)}
	switch r.IntN(3) {
	case 0:
		s.Free = 0
	case 1:
		s.Free = amd64.Set(amd64.RAX, amd64.R10, amd64.R11)
	}
	if r.IntN(2) == 0 {
		s.SPDelta, s.Undo = 8, undo8
	}
	return s
}

// interpret runs the same call in the interpreter.
func (x *trial) interpret(mem *targetMemory) (bpf.Result, error) {
	f := bpf.Frame{SP: x.ret, Return: uint64(x.m.returned)}
	for i, reg := range conventionOf(x.s.ABI).args {
		f.Args[i] = x.in.GPR[reg]
	}
	in := &bpf.Interp{Unit: x.u, Memory: mem, MaxSteps: 1 << 22, Tid: x.m.tid, Charge: x.p.Fuel, State: x.state}
	in.Now, in.Audit, in.StackEnd, in.Thread = x.now, x.audit, uint64(x.l.StackEnd), uint64(x.m.thread)
	if x.s.ABI == GoInternal {
		in.Thread = uint64(gAt)
	}
	for _, a := range x.l.Symbols {
		in.Symbols = append(in.Symbols, uint64(a))
	}
	mem.ret, mem.stack = x.ret, x.above()
	in.Call = func(_ bpf.Symbol, args [bpf.InvokeArgs]uint64) (bpf.Returned, bool) { // as clobber does
		sum := uint64(8)
		for i, a := range args {
			sum += uint64(i+1) * a
		}
		return bpf.Returned{Word: sum, XMM0: sum, Errno: 77}, true
	}
	return in.Run(f)
}

// topLen is how much of the end of the stack a trial fills.
const topLen = 0x2000

// above is what the stack of the call holds from the return address on: see trial in
// testdata/harness.c.
func (x *trial) above() []byte {
	const top = stackAt + stackLen - topLen
	b := make([]byte, uint64(stackAt)+stackLen-x.ret)
	for i := range b {
		b[i] = byte((x.ret - uint64(top) + uint64(i)) * 7)
	}
	binary.LittleEndian.PutUint64(b, uint64(x.m.returned))
	return b
}

// expected is how the call must end when the interpreter says want.
func (x *trial) expected(want bpf.Result) (outcome int, after cpu) {
	after = *x.in
	if x.audit {
		return hasPassed, after
	}
	for i, r := range conventionOf(x.s.ABI).args {
		if want.Verdict.Rewrites()&(1<<i) != 0 {
			after.GPR[r] = want.Words[i]
		}
	}
	if want.Verdict.Kind() != bpf.VerdictReject {
		return hasPassed, after
	}
	after.GPR[amd64.RSP] = x.ret + 8
	for i, r := range conventionOf(x.s.ABI).results[:want.Verdict.Words()] {
		after.GPR[r] = want.Words[i]
	}
	if want.Verdict&bpf.VerdictXMM0 != 0 {
		binary.LittleEndian.PutUint64(after.YMM[0][:], want.XMM0)
		clear(after.YMM[0][8:16])
	}
	return hasReturned, after
}

// differences names what is not as the interpreter says.
func (x *trial) differences(got *answer) (wrong []string) {
	want, out := x.want, &got.Registers
	wantOutcome, after := x.expected(want)
	check := func(what string, ok bool) {
		if !ok {
			wrong = append(wrong, what)
		}
	}
	check("outcome", got.Outcome == uint64(wantOutcome))
	results := conventionOf(x.s.ABI).results[:want.Verdict.Words()]
	rewrites := want.Verdict.Rewrites()
	if x.audit {
		results, rewrites = nil, 0
	}
	for i := range after.GPR {
		r := amd64.Reg(i)
		arg := slices.Index(conventionOf(x.s.ABI).args, r)
		told := slices.Contains(results, r) || arg >= 0 && rewrites&(1<<arg) != 0
		free := x.s.Free.Has(r) && !told
		check(fmt.Sprintf("%v (%#x, not %#x)", r, out.GPR[i], after.GPR[i]), free || out.GPR[i] == after.GPR[i])
	}
	check("ymm", out.YMM == after.YMM)
	check("memory", got.Memory == x.memory)
	check("state", string(got.state[:x.guardState()]) == string(x.state[:x.guardState()]))
	check("stack above rsp", got.StackKept != 0)
	rejected := wantOutcome == hasReturned
	acted := rejected || rewrites != 0
	audited := x.audit && (want.Withheld || want.Verdict.Kind() == bpf.VerdictReject || want.Verdict.Kind() == bpf.VerdictRewrite)
	if rejected && want.Verdict&bpf.VerdictErrno != 0 {
		check("errno", uint32(got.Errno) == want.Errno)
	}
	for _, c := range []struct {
		name string
		off  int
		one  bool
	}{
		{"calls", CounterCalls, true}, {"rejects", CounterRejects, acted}, {"audited", CounterAudited, audited}, {"faults", CounterFaults, want.Faulted},
		{"fuel", CounterFuel, want.OutOfFuel}, {"logs", CounterLogs, want.Verdict.Kind() == bpf.VerdictLog},
	} {
		check(c.name, got.counter(c.off) == 1 == c.one)
	}
	return wrong
}

// TestDifferences repeats the rounds in which the two sides once differed.
func TestDifferences(t *testing.T) {
	for _, seed := range []uint64{
		// On a way that verification knows is never taken, and the compiler does not, a
		// word of the verdict has no value; in the loop before it the phis that came after
		// its own got no value either.
		1795703382460789564,
		// Fuel was in a register that is free at the site, and counting the call took that.
		7000007337,
	} {
		d := newDifferential(t, seed)
		d.round(seed)
		d.finish(t)
	}
}

// TestFarStackAddress: an address moved out of all memory, and back, is what it was.
func TestFarStackAddress(t *testing.T) {
	u := unit(t, `
		lddw %r3, 0x10000000000
		mov %r2, %r10
		add %r2, %r3
		mov %r4, %r2
		sub %r4, %r10
		stxdw [%r1+128], %r4
		sub %r2, %r3
		sub %r2, %r10
		stxdw [%r1+136], %r2
		mov %r0, 0x201
		exit`, 0, 0)
	u.OnFault, u.OnFuel = len(u.Insns)-2, len(u.Insns)-2
	u.Insns = append(u.Insns, bpf.Insn{Op: bpf.ClassALU64 | bpf.AluMOV}, bpf.Insn{Op: bpf.OpEXIT})
	u.OnFault, u.OnFuel = len(u.Insns)-2, len(u.Insns)-2
	p, err := verify.Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	d := newDifferential(t, 1)
	d.calling(p, &generator{Rand: rand.New(rand.NewPCG(1, 1))}, 1, 8)
	d.finish(t)
}

// TestFuelAndCount: counting the call leaves the fuel alone, whatever registers are free.
func TestFuelAndCount(t *testing.T) {
	u := unit(t, `
		mov %r0, 0
		ldxdw %r8, [%r1+24]
		stdw [%r10-8], 255
		jsle32 %r0, %r8, behind
	again:
		xor %r0, 127
	behind:
		ldxdw %r2, [%r10-8]
		sub %r2, 1
		stxdw [%r10-8], %r2
		jne %r2, 0, again
		mov %r0, 0
		exit
		mov %r0, 7
		stxdw [%r1+128], %r0
		mov %r0, 0x101
		exit`, 0, 0)
	u.OnFault, u.OnFuel, u.Fuel = 9, 11, 200
	p, err := verify.Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	d := newDifferential(t, 1)
	g := &generator{Rand: rand.New(rand.NewPCG(1, 1)), target: targets}
	for n := 0; n < 600 && d.agree(); n++ {
		x, err := placeTrial(d.m, p, g)
		if err != nil {
			t.Fatal(err)
		}
		for x.s.Free = 0; x.s.Free.Len() < n%8; {
			x.s.Free = x.s.Free.With(amd64.Reg(g.IntN(16))).Without(amd64.RSP).Without(amd64.R14)
		}
		if x.c, err = compile(p, x.s, x.l, pressures[:]); err != nil {
			t.Fatal(err)
		}
		x.enter(g)
		d.call(x)
	}
	d.finish(t)
	if d.fuels < 200 {
		t.Errorf("%d calls without fuel", d.fuels)
	}
}

// TestErrnoFromSlot: the address of errno is not lost when its value lives in the frame,
// whatever register that passes through.
func TestErrnoFromSlot(t *testing.T) {
	for first := range amd64.R15 {
		if first == amd64.RSP {
			continue
		}
		e := &emitter{Asm: amd64.NewAsm(codeAt), regs: &registers{conv: &sysV, scratch: []amd64.Reg{first}}}
		e.l.Errno = ErrnoSlot{Known: true, GOT: dataAt}
		e.setErrno(&value{op: opAdd, width: 8, loc: location{reg: amd64.NoReg, slot: 0}})
		code, err := e.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		const pop = 0x58 // what held the address is restored last
		if got := amd64.Reg(code[len(code)-1] - pop); got == first {
			t.Errorf("the address of errno and its value are both in %v: % x", got, code)
		}
	}
}
