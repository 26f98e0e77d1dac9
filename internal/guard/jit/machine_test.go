package jit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// harnessPath is the test process built from testdata, by TestMain.
var harnessPath string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "jit-harness-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	harnessPath = filepath.Join(dir, "harness")
	cc := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-o", harnessPath,
		filepath.Join("testdata", "harness.c"), filepath.Join("testdata", "peers.c"), filepath.Join("testdata", "oracle.S"), "-pthread")
	if out, err := cc.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the test process needs gcc (apt-get install gcc libc6-dev): %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Where things are in the test process. The arena spans less than 2 GiB.
const (
	arena    = address.Addr(0x10_0000_0000)
	codeAt   = arena // 128 KiB
	codeLen  = 0x20000
	stateAt  = arena + 0x20000 // control block, next pointer, fault block
	sharedAt = arena + 0x30000 // counters, events
	wordsAt  = stateAt + 0x400 // the prepatch's state
	gAt      = stateAt + 0xf00 // a g whose stack.lo is stackAt
	stackAt  = address.Addr(0x20_0000_0000)
	stackLen = 0x10000
	dataAt   = address.Addr(0x30_0000_0000) // memory of the target
	dataLen  = 0x4000
)

const (
	protRead  = 1
	protWrite = 2
	protExec  = 4
	unmapped  = 8

	codePages = 2 // a kind of map
)

// Commands of the test process.
const (
	cmdInfo = 1 + iota
	cmdMap
	cmdWrite
	cmdRead
	cmdCall
	cmdErrno
	cmdHandler
	cmdBench
	cmdRaise
	cmdStorm
	cmdAlarms
	cmdTrial
	cmdPeers
	cmdRefuse
	cmdSteps
)

// machine is a test process that runs guards.
type machine struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.Reader
	errs bytes.Buffer

	passed, returned address.Addr
	errnoOffset      int32
	thread           address.Addr // what fs:0 holds
	tid              uint32
	avx              bool
	rseq             RseqArea
}

// registers of a call: general ones by hardware number, then ymm.
type cpu struct {
	GPR [16]uint64
	YMM [16][32]byte
}

// Outcomes of a call.
const (
	hasPassed   = 1
	hasReturned = 2
)

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, cmd: exec.Command(harnessPath)}
	in, err := m.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.in, m.out = in, out
	m.cmd.Stderr = &m.errs
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		m.cmd.Wait()
	})
	info := m.ask(cmdInfo, 0, 0)
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(info[8*i:]) }
	m.passed, m.returned = address.Addr(u64(0)), address.Addr(u64(1))
	m.thread = address.Addr(u64(3) - u64(2))
	m.errnoOffset, m.tid, m.avx = int32(u64(2)), uint32(u64(4)), u64(5) != 0
	if u64(7) != 0 {
		m.rseq = RseqArea{Known: true, Offset: int32(u64(6))}
	}
	m.mapAt(codeAt, codeLen, protRead|protExec, 0)
	m.mapAt(stateAt, 0x1000, protRead|protWrite, 0)
	m.mapAt(sharedAt, 0x10000, protRead|protWrite, 0)
	m.mapAt(stackAt, stackLen, protRead|protWrite, 0)
	m.mapAt(dataAt, dataLen, protRead|protWrite, 0)
	m.poke64(gAt, uint64(stackAt))
	m.poke64(gAt+gStackHi, uint64(stackAt)+stackLen)
	return m
}

// ask sends a command and returns the answer; a dead process fails the test.
func (m *machine) ask(cmd, n uint32, at address.Addr, payload ...any) []byte {
	m.t.Helper()
	answer, err := m.try(cmd, n, at, payload...)
	if err != nil {
		m.t.Fatalf("test process: command %d at %v: %v %s", cmd, at, err, m.errs.String())
	}
	return answer
}

// try is ask for commands that may kill the process.
func (m *machine) try(cmd, n uint32, at address.Addr, payload ...any) ([]byte, error) {
	var b bytes.Buffer
	for _, p := range append([]any{cmd, n, uint64(at)}, payload...) {
		if err := binary.Write(&b, binary.LittleEndian, p); err != nil {
			return nil, err
		}
	}
	if _, err := m.in.Write(b.Bytes()); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(m.out, head[:]); err != nil {
		return nil, fmt.Errorf("%w; it ended: %v", err, m.cmd.Wait())
	}
	answer := make([]byte, binary.LittleEndian.Uint32(head[:]))
	_, err := io.ReadFull(m.out, answer)
	return answer, err
}

func (m *machine) mapAt(at address.Addr, n uint64, prot, kind uint32) {
	m.t.Helper()
	m.ask(cmdMap, 0, at, n, prot, kind)
}

func (m *machine) write(at address.Addr, prot uint32, b []byte) {
	m.t.Helper()
	if len(b) > 0 {
		m.ask(cmdWrite, uint32(len(b)), at, b, prot)
	}
}

func (m *machine) poke(at address.Addr, b []byte) {
	m.t.Helper()
	m.write(at, protRead|protWrite, b)
}

func (m *machine) poke64(at address.Addr, v uint64) {
	m.t.Helper()
	m.poke(at, binary.LittleEndian.AppendUint64(nil, v))
}

func (m *machine) poke32(at address.Addr, v uint32) {
	m.t.Helper()
	m.poke(at, binary.LittleEndian.AppendUint32(nil, v))
}

func (m *machine) peek(at address.Addr, n int) []byte {
	m.t.Helper()
	return m.ask(cmdRead, uint32(n), at)
}

func (m *machine) peek32(at address.Addr) uint32 {
	m.t.Helper()
	return binary.LittleEndian.Uint32(m.peek(at, 4))
}

// call jumps to at with the registers of c and returns how it ended and the
// registers after it.
func (m *machine) call(at address.Addr, c *cpu) (outcome int, after *cpu) {
	m.t.Helper()
	b := m.ask(cmdCall, 0, at, c)
	after = &cpu{}
	if err := binary.Read(bytes.NewReader(b[8:]), binary.LittleEndian, after); err != nil {
		m.t.Fatal(err)
	}
	return int(binary.LittleEndian.Uint64(b)), after
}

// layout is where guards of the tests go.
func (m *machine) layout() Layout {
	return Layout{
		Code: codeAt, Control: stateAt, Counters: sharedAt, Events: sharedAt + 0x1000, After: m.toOracle,
		OwnStart: arena, OwnEnd: arena + 0x40000, State: wordsAt, Guard: 7, Errno: ErrnoSlot{Known: true, Offset: m.errnoOffset}, Rseq: m.rseq, Gettid: true,
	}
}

// toOracle leads what has passed to the oracle.
func (m *machine) toOracle(address.Addr) ([]byte, error) {
	return farJump(m.passed), nil
}

// farJump is jmp *0(%rip), with its target behind it.
func farJump(to address.Addr) []byte {
	return binary.LittleEndian.AppendUint64([]byte{0xff, 0x25, 0, 0, 0, 0}, uint64(to))
}

// place writes a guard into the process and resets what it counts.
func (m *machine) place(c *Code, l Layout, mode Mode) {
	m.t.Helper()
	m.write(l.Code, protRead|protExec, c.Bytes)
	m.poke(l.Control, make([]byte, ControlSize))
	m.poke32(l.Control+ControlMode, uint32(mode))
	m.poke(l.Counters, make([]byte, CountersSize))
	m.poke(l.Events, make([]byte, EventsSize))
}

// counter reads a counter.
func (m *machine) counter(l Layout, off int) uint64 {
	m.t.Helper()
	b := m.peek(l.Counters, CountersSize)
	if off == CounterCalls {
		return SumCalls(b)
	}
	return binary.LittleEndian.Uint64(b[off:])
}

// event is an event as a reader takes it from the ring.
type event struct {
	Seq, TSC               uint64
	Guard, Kind, Tid, Code uint32
	Args                   [4]uint64
}

func (m *machine) events(l Layout) []event {
	m.t.Helper()
	b := m.peek(l.Events, EventsSize)
	var es []event
	for i := range EventSlots {
		var e event
		r := bytes.NewReader(b[EventFirst+i*EventSize:])
		if err := binary.Read(r, binary.LittleEndian, &e); err != nil {
			m.t.Fatal(err)
		}
		if e.Seq != 0 && e.Seq&EventBusy == 0 {
			es = append(es, e)
		}
	}
	return es
}

// filled returns registers with distinct values, and rsp in the stack so that
// rsp % 16 is what the test wants.
func filled(misalign uint64) *cpu {
	c := &cpu{}
	for i := range c.GPR {
		c.GPR[i] = 0x1111_0000_0000_0000*uint64(i%14+1) + 0xabcd_0000 + uint64(i)*0x0101
	}
	c.GPR[amd64.RSP] = uint64(stackAt) + stackLen - 0x1000 + misalign
	for i := range c.YMM {
		for k := range c.YMM[i] {
			c.YMM[i][k] = byte(i*37 + k*11 + 5)
		}
	}
	return c
}
