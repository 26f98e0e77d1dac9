package jit

import (
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

var (
	diffTime    = flag.Duration("differential", 4*time.Second, "how long to compare machine code with the interpreter")
	diffSeed    = flag.Uint64("seed", 0, "first seed of the comparison; 0 picks one")
	diffRefused = flag.Bool("refused", false, "say what verification refused")
)

// targetMemory is the target's memory as the interpreter sees it: the data pages
// of the test process, all else unreadable.
type targetMemory struct{ data []byte }

func (m targetMemory) Read(addr uint64, p []byte) bool {
	if addr < uint64(dataAt) || addr+uint64(len(p)) > uint64(dataAt)+uint64(len(m.data)) {
		return false
	}
	copy(p, m.data[addr-uint64(dataAt):])
	return true
}

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

// TestDifferential runs random guards as machine code and in the interpreter:
// both must say the same about every register, fault and unit of fuel.
func TestDifferential(t *testing.T) {
	seed := *diffSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("first seed %d", seed)
	m := newMachine(t)
	mem := targetMemory{sprinkled(rand.New(rand.NewPCG(seed, 0)))}
	m.poke(dataAt, mem.data)
	m.mapAt(dataAt+dataLen, 0x1000, 0, 0) // PROT_NONE
	m.installHandler(nil, oldDefault, 0)
	n, verified, faults, fuels := 0, 0, 0, 0
	for end := time.Now().Add(*diffTime); time.Now().Before(end) && !t.Failed(); seed++ {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), target: []uint64{
			uint64(dataAt) + 0x100, uint64(dataAt) + 0x1000, uint64(dataAt) + 0x2345, uint64(dataAt) + 0x3000,
		}}
		g.abi = ABI(g.IntN(2))
		if g.IntN(3) == 0 {
			g.target = append(g.target, uint64(dataAt)+dataLen-20, 0, 1<<47, 1<<63, uint64(dataAt)-20)
		}
		u := g.unit(5 + g.IntN(30))
		var p program = guess{u}
		if v, err := verify.Verify(u); err == nil {
			verified++
			p = v
		} else if *diffRefused {
			t.Logf("seed %d: %v", seed, err)
		}
		res := compareOne(t, m, mem, p, g, seed)
		n++
		if res.Faulted {
			faults++
		}
		if res.OutOfFuel {
			fuels++
		}
	}
	t.Logf("%d guards, %d verified, %d faulted, %d without fuel", n, verified, faults, fuels)
	if n > 100 && (verified == 0 || faults == 0 || fuels == 0) {
		t.Error("the comparison met no verified guard, no fault or never ran out of fuel")
	}
}

// undo8 undoes what a site with SPDelta 8 did: one push.
var undo8 = []byte{0x48, 0x83, 0xc4, 0x08} // add rsp, 8

func compareOne(t *testing.T, m *machine, mem targetMemory, p program, r *generator, seed uint64) bpf.Result {
	u := p.Unit()
	l := m.layout()
	l.Faults = FaultMode(r.IntN(3))
	conv := conventionOf(r.abi)
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
	c, err := compile(p, s, l)
	if errors.Is(err, ErrStack) {
		l.Faults = Table
		c, err = compile(p, s, l)
	}
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	m.place(c, l, ModeEnforce)
	m.setTable(c.Faults)
	in := filled(uint64(8 * r.IntN(2)))
	for i := range in.GPR {
		if amd64.Reg(i) != amd64.RSP && r.IntN(2) == 0 {
			in.GPR[i] = uint64(int64(r.Uint64()) >> r.IntN(64))
		}
	}
	if s.ABI == GoInternal {
		in.GPR[amd64.R14] = uint64(gAt)
	}
	sp := in.GPR[amd64.RSP]
	top := stackAt + stackLen - 0x2000
	above := make([]byte, 0x2000)
	for i := range above {
		above[i] = byte(i * 7)
	}
	ret := sp + uint64(s.SPDelta)
	binary.LittleEndian.PutUint64(above[ret-uint64(top):], uint64(m.returned))
	m.poke(top, above)

	f := bpf.Frame{SP: ret, Return: uint64(m.returned)}
	for i, reg := range conv.args {
		f.Args[i] = in.GPR[reg]
	}
	want, err := (&bpf.Interp{Unit: u, Memory: mem, Tid: m.tid, Charged: p.NeedsFuel}).Run(f)
	if err != nil {
		t.Fatalf("seed %d: interpreter: %v", seed, err)
	}
	outcome, out := m.call(l.Code, in)
	expect := *in
	wantOutcome := hasPassed
	if want.Verdict.Kind() == bpf.VerdictReject {
		wantOutcome = hasReturned
		expect.GPR[amd64.RSP] = ret + 8
		for i := range want.Verdict.Words() {
			expect.GPR[conv.results[i]] = want.Words[i]
		}
		if want.Verdict&bpf.VerdictXMM0 != 0 {
			binary.LittleEndian.PutUint64(expect.YMM[0][:], want.XMM0)
			clear(expect.YMM[0][8:16])
		}
	}
	var wrong []string
	if outcome != wantOutcome {
		wrong = append(wrong, "outcome")
	}
	for i := range expect.GPR {
		reg := amd64.Reg(i)
		result := wantOutcome == hasReturned && slices.Contains(conv.results[:want.Verdict.Words()], reg)
		if out.GPR[i] != expect.GPR[i] && (result || !s.Free.Has(reg)) {
			wrong = append(wrong, reg.String())
		}
	}
	if out.YMM != expect.YMM {
		wrong = append(wrong, "ymm")
	}
	if got := m.peek(top, len(above)); string(got[sp-uint64(top):]) != string(above[sp-uint64(top):]) {
		wrong = append(wrong, "stack above rsp")
	}
	if want.Verdict&bpf.VerdictErrno != 0 && want.Verdict.Kind() == bpf.VerdictReject {
		if got := binary.LittleEndian.Uint32(m.ask(cmdErrno, 0, 0)); got != want.Errno {
			wrong = append(wrong, "errno")
		}
	}
	count := func(name string, off int, is bool) {
		n := uint64(0)
		if is {
			n = 1
		}
		if m.counter(l, off) != n {
			wrong = append(wrong, name)
		}
	}
	count("calls", CounterCalls, true)
	count("rejects", CounterRejects, wantOutcome == hasReturned)
	count("faults", CounterFaults, want.Faulted)
	count("fuel", CounterFuel, want.OutOfFuel)
	count("logs", CounterLogs, want.Verdict.Kind() == bpf.VerdictLog)
	if len(wrong) > 0 {
		t.Errorf("seed %d, ABI %d, free %v, mode %d: %s differ\nwant %+v\ngot outcome %d, registers %x\nwant registers %x\n%v",
			seed, s.ABI, s.Free, l.Faults, strings.Join(wrong, ", "), want, outcome, out.GPR, expect.GPR, bpf.Disassemble(u.Insns))
	}
	return want
}
