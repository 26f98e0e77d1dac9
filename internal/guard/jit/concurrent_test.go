package jit

import (
	"encoding/binary"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// placeBehindEntry leads the function at patchAt through the strict guard.
func placeBehindEntry(t *testing.T) (*machine, Layout) {
	t.Helper()
	m, l := placeStrict(t, ModeEnforce, toTrampoline)
	m.patch(l.Code)
	return m, l
}

// TestStorm: no count is lost and no event is torn when all threads reject at
// once.
func TestStorm(t *testing.T) {
	const threads, calls, arg = 8, 20_000, 0xabcdef
	m, l := placeBehindEntry(t)
	m.ask(cmdStorm, 0, patchAt, uint32(threads), uint32(calls), uint64(arg), uint32(0))
	head := binary.LittleEndian.Uint64(m.peek(l.Events+EventHead, 8))
	for name, got := range map[string]uint64{
		"calls": m.counter(l, CounterCalls), "rejects": m.counter(l, CounterRejects), "tickets": head,
	} {
		if got != threads*calls {
			t.Errorf("%s: %d, want %d", name, got, threads*calls)
		}
	}
	published := m.events(l)
	if len(published) < EventSlots/2 {
		t.Errorf("%d of %d slots hold an event", len(published), EventSlots)
	}
	for _, e := range published {
		if e.Seq == 0 || e.Seq > head || e.Guard != 7 || e.Kind != uint32(KindReject) || e.Code != 42 || e.Tid == 0 || e.Args[0] != arg {
			t.Fatalf("torn event %+v", e)
		}
	}
	t.Logf("%d events lost to slots that were busy", m.counter(l, CounterLost))
}

// TestReentry: a guard is interrupted by signal handlers that call the guarded
// function, on the same stack; neither call notices.
func TestReentry(t *testing.T) {
	m, l := placeBehindEntry(t)
	long := l
	long.Code, long.After = codeAt+0x4000, m.toOracle
	u := unit(t, lengthOf, 9, 13)
	u.Fuel = 1 << 20
	c := compileUnit(t, guess{u}, Site{}, long)
	m.write(long.Code, protRead|protExec, c.Bytes)
	m.setTable(c.Faults)
	m.mapAt(dataAt+0x100000, 0x100000, protRead|protWrite, 0)
	str := make([]byte, 0x80000)
	for i := range str {
		str[i] = 'x'
	}
	m.poke(dataAt+0x100001, str)

	in := filled(8)
	in.GPR[amd64.RDI], in.GPR[amd64.RSI] = uint64(dataAt)+0x100001, 1<<20
	want := *in
	want.GPR[amd64.RAX] = uint64(len(str))
	want.GPR[amd64.RSP] += 8
	m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
	m.ask(cmdAlarms, 0, patchAt, uint64(101), uint32(50))
	for range 300 {
		if outcome, out := m.call(long.Code, in); outcome != hasReturned || *out != want {
			t.Fatalf("outcome %d, registers\n%x\nwant\n%x", outcome, out.GPR, want.GPR)
		}
	}
	alarms := binary.LittleEndian.Uint64(m.ask(cmdAlarms, 0, patchAt, uint64(101), uint32(0)))
	if alarms < 100 {
		t.Errorf("only %d signals came", alarms)
	}
	if got := m.counter(l, CounterCalls); got != 300+alarms && got != 301+alarms {
		t.Errorf("%d calls counted, want 300 and %d", got, alarms)
	}
}
