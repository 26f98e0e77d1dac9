package jit

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// A differential makes guards, interprets them, and has a test process run them.
// It does not wait for the process: a second goroutine compares the answers with
// what the interpreter said, so that making guards is all that takes time.
type differential struct {
	m       *machine
	mem     *targetMemory
	to      *bufio.Writer
	pending chan *trial
	judged  chan struct{}
	flight  sync.WaitGroup // requests that are not judged
	stopped atomic.Bool
	wrong   string // set before judged is closed

	calls, random, verified, tried, changed, faults, fuels, refused, strayed int
}

// perRound is how many changed forms of a verified guard are tried.
const perRound = 16

func newDifferential(t *testing.T, seed uint64) *differential {
	m := newMachine(t)
	d := &differential{m: m, to: bufio.NewWriterSize(m.in, 1<<16), pending: make(chan *trial, 256), judged: make(chan struct{})}
	d.mem = &targetMemory{}
	d.renew(sprinkled(rand.New(rand.NewPCG(seed, 0))))
	m.mapAt(codeAt, codeLen, protRead|protExec, codePages)
	m.mapAt(dataAt+dataLen, 0x1000, 0, 0) // PROT_NONE
	m.installHandler(nil, oldDefault, 0)
	m.mapAt(farStateAt, 0x3000, protRead|protWrite, 0)
	m.function(m.clobber)
	go d.judge()
	return d
}

// agree reports whether no difference was found so far.
func (d *differential) agree() bool { return !d.stopped.Load() }

// targets are places in the target's memory, where pages begin among them.
var targets = []uint64{uint64(dataAt) + 0x100, uint64(dataAt) + 0x1000, uint64(dataAt) + 0x2345, uint64(dataAt) + 0x3000}

// round tries one random guard and what comes of it by small changes.
func (d *differential) round(seed uint64) {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), target: slices.Clone(targets)}
	g.abi = ABI(g.IntN(2))
	if g.IntN(3) == 0 {
		g.target = append(g.target, uint64(dataAt)+dataLen-20, 0, 1<<47, 1<<63, uint64(dataAt)-20)
	}
	size := 5 + g.IntN(30)
	if g.IntN(4) > 0 {
		size = 1 + g.IntN(6)
	}
	if seed%16 != 0 {
		g.small()
		size = 1 + size%8
	}
	u := g.unit(size)
	d.random++
	p, err := verify.Verify(u)
	if err != nil {
		d.run(guess{u}, g, seed)
		return
	}
	d.verified++
	d.run(p, g, seed)
	for range 2 * perRound {
		changed := p.Unit()
		g.vary(changed)
		if slices.Equal(changed.Insns, p.Unit().Insns) {
			continue
		}
		d.tried++
		if next, err := verify.Verify(changed); err == nil && repeatable(changed) {
			d.changed++
			d.run(next, g, seed)
			if g.IntN(2) == 0 { // the next change comes on top of this one
				p = next
			}
		}
	}
}

// run places one guard, interprets it and sends it to the process.
func (d *differential) run(p program, g *generator, seed uint64) {
	if x := d.place(p, g, seed); x != nil {
		x.enter(g)
		d.call(x)
	}
}

// place makes machine code of a guard, or counts that it cannot be.
func (d *differential) place(p program, g *generator, seed uint64) *trial {
	if d.stopped.Load() {
		return nil
	}
	x, err := placeTrial(d.m, p, g)
	if place := (*PlaceError)(nil); errors.As(err, &place) {
		d.refused++
		return nil
	}
	if err != nil {
		d.fail(fmt.Sprintf("seed %d: %v", seed, err))
		return nil
	}
	if len(x.c.Bytes) > int(functionAt-codeAt) {
		d.refused++
		return nil
	}
	x.seed = seed
	return x
}

// call interprets a call and sends it to the process.
func (d *differential) call(x *trial) {
	before, request := slices.Clone(d.mem.data), x.request()
	d.mem.strayed = false
	var err error
	x.want, err = x.interpret(d.mem)
	if err != nil {
		d.fail(fmt.Sprintf("seed %d: interpreter: %v\n%v", x.seed, err, bpf.Disassemble(x.u.Insns)))
		return
	}
	if d.mem.strayed {
		d.mem.data = before
		d.strayed++
		return
	}
	x.memory = d.mem.digest()
	if x.want.Faulted {
		d.faults++
	}
	if x.want.OutOfFuel {
		d.fuels++
	}
	d.calls++
	d.flight.Add(1)
	d.pending <- x
	if _, err := d.to.Write(request); err == nil && len(d.pending) < 2 {
		d.to.Flush()
	}
}

// renew gives the target other memory, once all calls are judged.
func (d *differential) renew(data []byte) {
	d.to.Flush()
	d.flight.Wait()
	if d.stopped.Load() {
		return
	}
	d.mem.data = data
	d.m.poke(dataAt, data)
	d.m.write(dataAt+readOnly, protRead, data[readOnly:readOnly+0x1000])
}

func (d *differential) fail(what string) {
	if d.stopped.CompareAndSwap(false, true) {
		d.wrong = what
	}
}

// finish waits for the last answer and says what was compared.
func (d *differential) finish(t *testing.T) {
	close(d.pending)
	d.to.Flush()
	<-d.judged
	if d.wrong != "" {
		t.Error(d.wrong)
	}
	t.Logf("%d calls: %d random, %d of them verified, and what verification accepts of %d changed ones, %d; %d faulted, %d without fuel; %d could not be placed, %d read what the two sides do not share",
		d.calls, d.random, d.verified, d.tried, d.changed, d.faults, d.fuels, d.refused, d.strayed)
	if d.random > 100 && (d.verified == 0 || d.changed == 0 || d.faults == 0 || d.fuels == 0) {
		t.Error("the comparison met no verified guard, no changed one, no fault or never ran out of fuel")
	}
}

// judge compares answers in the order of the requests.
func (d *differential) judge() {
	defer close(d.judged)
	in := bufio.NewReaderSize(d.m.out, 1<<16)
	for x := range d.pending {
		d.settle(x, in)
		d.flight.Done()
	}
}

// settle compares the answer to one request.
func (d *differential) settle(x *trial, in *bufio.Reader) {
	if d.stopped.Load() {
		return
	}
	got, err := readAnswer(in, len(x.state))
	if err != nil {
		d.fail(fmt.Sprintf("seed %d: the test process: %v %s\n%s", x.seed, err, d.m.errs.String(), x))
		return
	}
	if wrong := x.differences(got); len(wrong) > 0 {
		d.fail(fmt.Sprintf("seed %d: %s differ; want %+v\n%s", x.seed, strings.Join(wrong, ", "), x.want, x))
	}
}

func (x *trial) String() string {
	return fmt.Sprintf("ABI %d, free %v, fault mode %d, audit %v\n%v", x.s.ABI, x.s.Free, x.l.Faults, x.audit, bpf.Disassemble(x.u.Insns))
}

// change alters one field of an instruction, or two. Three times of four it takes the new
// field from another instruction, which verification accepts more often.
func change(r *rand.Rand, u *bpf.Unit) {
	for range 1 + r.IntN(4)/3 {
		i, other := &u.Insns[r.IntN(len(u.Insns))], &u.Insns[r.IntN(len(u.Insns))]
		if r.IntN(4) > 0 {
			borrow(r, i, other)
			continue
		}
		switch r.IntN(7) {
		case 0:
			i.Op ^= 1 << r.IntN(8)
		case 1:
			i.Dst = uint8(r.IntN(11))
		case 2:
			i.Src = uint8(r.IntN(11))
		case 3:
			i.Off += int16(r.IntN(17)) - 8
		case 4:
			i.Imm ^= 1 << r.IntN(32)
		case 5:
			*i = *other
		case 6:
			*i, *other = *other, *i
		}
	}
}

// borrow gives an instruction what another one has, or another operation of its class.
func borrow(r *rand.Rand, i, other *bpf.Insn) {
	arith, jump := i.IsALU(), i.IsConditional()
	switch r.IntN(5) {
	case 0:
		i.Dst = other.Dst
	case 1, 2:
		switch {
		case !arith && !jump:
			i.Off += 8 * int16(r.IntN(3)-1)
		case i.Op&bpf.SrcX != 0:
			i.Src = other.Dst
		case r.IntN(2) == 0:
			i.Imm ^= 1 << r.IntN(32)
		default:
			i.Imm = other.Imm + int32(r.IntN(3)) - 1
		}
	case 3:
		if i.Op&7 == other.Op&7 {
			i.Op, i.Off = other.Op, other.Off
		}
	case 4:
		if arith || jump {
			i.Op ^= 0x10 << r.IntN(4)
		}
	}
}

// repeatable reports whether a guard asks nothing that each side answers by itself:
// the time, the thread, the stack in use.
func repeatable(u *bpf.Unit) bool {
	return !slices.ContainsFunc(u.Insns, func(i bpf.Insn) bool {
		h := bpf.Helper(i.Imm)
		return i.IsHelperCall() && (h == bpf.HelperNow || h == bpf.HelperThread || h == bpf.HelperStackUsed)
	})
}

// answer is what the test process saw of one call: see trial in testdata/harness.c.
type answer struct {
	Outcome, Memory, StackKept, Errno uint64
	Registers                         cpu
	Counters                          [CountersSize]byte
	state                             []byte
}

func (a *answer) counter(off int) uint64 {
	if off == CounterCalls {
		return SumCalls(a.Counters[:])
	}
	return binary.LittleEndian.Uint64(a.Counters[off:])
}

// readAnswer reads the answer about a guard with n bytes of state.
func readAnswer(r io.Reader, n int) (*answer, error) {
	a := &answer{state: make([]byte, n)}
	for _, part := range []any{new(uint32), &a.Outcome, &a.Memory, &a.StackKept, &a.Errno, &a.Registers, a.state, &a.Counters} {
		if err := binary.Read(r, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// guardState is how much of the state is compared: the rest of it is the machine code's.
func (x *trial) guardState() int { return max(int(x.u.GuardState()), 0) }

// request is the trial as the test process reads it.
func (x *trial) request() []byte {
	table, err := FaultTable(x.c.Faults)
	if err != nil {
		x.m.t.Error(err)
	}
	mode := ModeEnforce
	if x.audit {
		mode = ModeAudit
	}
	l := x.l
	var b bytes.Buffer
	for _, v := range []any{
		uint32(cmdTrial), uint32(len(x.c.Bytes)), uint64(l.Code),
		uint64(l.Control), uint64(l.Counters), uint64(l.Events), uint64(l.State), uint64(tableAt), uint64(blockAt + FaultsCount),
		uint64(stackAt + stackLen - topLen), x.ret, uint64(x.m.returned), uint64(dataAt), uint64(l.Control + ControlClockNS), x.now,
		uint32(mode), uint32(CountersSize), uint32(EventsSize), uint32(dataLen), uint32(len(table)), uint32(len(x.state)), uint32(ControlSize), uint32(topLen),
		x.in, x.state, x.c.Bytes, table,
	} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			x.m.t.Error(err)
		}
	}
	return b.Bytes()
}
