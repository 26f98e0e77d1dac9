package jit

import (
	"encoding/binary"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// strict rejects with −1 and code 42 when argument 0 is above 100, logs code 7
// when it is 100, reads memory at 0 when it is 50 and never ends when it is 51;
// a fault rejects with −2, exhausted fuel with −3.
const strict = `
	ldxdw %r2, [%r1+0]
	jgt %r2, 100, bad
	jeq %r2, 100, note
	jeq %r2, 50, fault
	jeq %r2, 51, spin
	mov %r0, 0
	exit
note:
	stdw [%r1+216], 7
	mov %r0, 2
	exit
bad:
	stdw [%r1+128], -1
	stdw [%r1+216], 42
	mov %r0, 0x101
	exit
fault:
	mov %r3, 0
	ldxdw %r3, [%r3+0]
	mov %r0, 0
	exit
spin:
	ja spin
onfault:
	stdw [%r1+128], -2
	mov %r0, 0x101
	exit
onfuel:
	stdw [%r1+128], -3
	mov %r0, 0x101
	exit
`

const (
	strictOnFault = 19
	strictOnFuel  = 22
)

// strictCall is one call of strict and how it must end.
type strictCall struct {
	arg     uint64
	outcome int
	result  uint64
}

func (m *machine) callStrict(l Layout, arg uint64) (int, uint64) {
	m.t.Helper()
	in := filled(8)
	in.GPR[amd64.RDI] = arg
	m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
	outcome, out := m.call(l.Code, in)
	return outcome, out.GPR[amd64.RAX]
}

func placeStrict(t *testing.T, mode Mode, after Displaced) (*machine, Layout) {
	t.Helper()
	m, u := newMachine(t), unit(t, strict, strictOnFault, strictOnFuel)
	l := m.layout()
	if after != nil {
		l.After = after
	}
	c := compileUnit(t, guess{u}, Site{Free: amd64.Set(amd64.R11)}, l)
	m.place(c, l, mode)
	return m, l
}

func TestModes(t *testing.T) {
	const minus = ^uint64(0)
	const (
		noTrial  = 0
		ended    = 1
		underway = 1<<63 - 1
	)
	for _, c := range []struct {
		name     string
		mode     Mode
		trialEnd uint64
		calls    []strictCall
		counters [6]uint64 // calls, rejects, audited, faults, fuel, logs
		trip     Trip
		end      Mode
		kinds    []Kind
	}{
		{
			"off", ModeOff, noTrial,
			[]strictCall{{101, hasPassed, 0}, {50, hasPassed, 0}},
			[6]uint64{}, TripNone, ModeOff, nil,
		}, {
			"audit", ModeAudit, noTrial,
			[]strictCall{{1, hasPassed, 0}, {101, hasPassed, 0}, {50, hasPassed, 0}, {100, hasPassed, 0}},
			[6]uint64{4, 0, 2, 1, 0, 1}, TripNone, ModeAudit, []Kind{KindAudited, KindFault, KindAudited, KindLog},
		}, {
			"enforce", ModeEnforce, noTrial,
			[]strictCall{{1, hasPassed, 0}, {101, hasReturned, minus}, {50, hasReturned, minus - 1}, {51, hasReturned, minus - 2}, {100, hasPassed, 0}},
			[6]uint64{5, 3, 0, 1, 1, 1}, TripNone, ModeEnforce,
			[]Kind{KindReject, KindFault, KindReject, KindFuel, KindReject, KindLog},
		}, {
			"trial under way", ModeEnforce, underway,
			[]strictCall{{1, hasPassed, 0}, {101, hasReturned, minus}},
			[6]uint64{2, 1, 0, 0, 0, 0}, TripNone, ModeEnforce, []Kind{KindReject},
		}, {
			"trial over", ModeEnforce, ended,
			[]strictCall{{1, hasPassed, 0}, {101, hasPassed, 0}, {101, hasPassed, 0}},
			[6]uint64{2, 0, 1, 0, 0, 0}, TripTrialEnd, ModeOff, []Kind{KindAudited},
		}, {
			"fault during a trial", ModeEnforce, underway,
			[]strictCall{{50, hasPassed, 0}, {101, hasPassed, 0}},
			[6]uint64{1, 0, 1, 1, 0, 0}, TripFault, ModeOff, []Kind{KindFault, KindAudited},
		}, {
			"fuel during a trial", ModeEnforce, underway,
			[]strictCall{{51, hasPassed, 0}, {101, hasPassed, 0}},
			[6]uint64{1, 0, 1, 0, 1, 0}, TripFuel, ModeOff, []Kind{KindFuel, KindAudited},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, l := placeStrict(t, c.mode, nil)
			m.poke64(l.Control+ControlTrialEnd, c.trialEnd)
			for _, call := range c.calls {
				outcome, result := m.callStrict(l, call.arg)
				if outcome != call.outcome || outcome == hasReturned && result != call.result {
					t.Errorf("call with %d: outcome %d, result %#x; want %+v", call.arg, outcome, result, call)
				}
			}
			for i, off := range []int{CounterCalls, CounterRejects, CounterAudited, CounterFaults, CounterFuel, CounterLogs} {
				if got := m.counter(l, off); got != c.counters[i] {
					t.Errorf("counter at %d is %d, want %d", off, got, c.counters[i])
				}
			}
			if got := Trip(m.peek32(l.Control + ControlTripped)); got != c.trip {
				t.Errorf("tripped %d, want %d", got, c.trip)
			}
			if got := Mode(m.peek32(l.Control + ControlMode)); got != c.end {
				t.Errorf("mode %d, want %d", got, c.end)
			}
			var kinds []Kind
			for _, e := range m.events(l) {
				kinds = append(kinds, Kind(e.Kind))
			}
			if len(kinds) != len(c.kinds) {
				t.Fatalf("events %v, want %v", kinds, c.kinds)
			}
			for i := range kinds {
				if kinds[i] != c.kinds[i] {
					t.Fatalf("events %v, want %v", kinds, c.kinds)
				}
			}
		})
	}
}

// TestMaxReject: a trial ends when the share of rejects since it began is too
// high, and not before there were enough calls to tell.
func TestMaxReject(t *testing.T) {
	m, l := placeStrict(t, ModeEnforce, nil)
	m.poke64(l.Control+ControlTrialEnd, 1<<63-1)
	m.poke32(l.Control+ControlMaxReject, 65536/10)
	m.poke64(l.Counters+CounterCalls, 1000) // before the trial: all rejected
	m.poke64(l.Counters+CounterRejects, 1000)
	m.poke64(l.Control+ControlCalls0, 1000)
	m.poke64(l.Control+ControlRejects0, 1000)
	mode := func() Mode { return Mode(m.peek32(l.Control + ControlMode)) }
	for range 12 { // all rejects, but few calls
		m.callStrict(l, 101)
	}
	if mode() != ModeEnforce {
		t.Fatal("tripped after 12 calls")
	}
	for range 140 {
		m.callStrict(l, 1)
	}
	for n := 13; n <= 15; n++ {
		if m.callStrict(l, 101); mode() != ModeEnforce {
			t.Fatalf("tripped at %d of %d: not above a tenth", n, 140+n)
		}
	}
	if m.callStrict(l, 101); mode() != ModeOff || Trip(m.peek32(l.Control+ControlTripped)) != TripMaxReject {
		t.Errorf("16 of 156 rejected: mode %d, tripped %d", mode(), m.peek32(l.Control+ControlTripped))
	}
}

// TestEvent: what an event says.
func TestEvent(t *testing.T) {
	for _, gettid := range []bool{true, false} {
		m, u := newMachine(t), unit(t, strict, strictOnFault, strictOnFuel)
		l := m.layout()
		l.Gettid = gettid
		m.place(compileUnit(t, guess{u}, Site{}, l), l, ModeEnforce)
		in := filled(0)
		m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
		m.call(l.Code, in)
		want := event{Seq: 1, Guard: 7, Kind: uint32(KindReject), Tid: m.tid, Code: 42, Args: [4]uint64{
			in.GPR[amd64.RDI], in.GPR[amd64.RSI], in.GPR[amd64.RDX], in.GPR[amd64.RCX],
		}}
		if !gettid {
			want.Tid = 0
		}
		es := m.events(l)
		if len(es) != 1 {
			t.Fatalf("%d events", len(es))
		}
		if es[0].TSC == 0 {
			t.Error("no time")
		}
		if es[0].TSC = 0; es[0] != want {
			t.Errorf("event %+v, want %+v", es[0], want)
		}
	}
}

// TestEventRing: the ring holds the newest events; a slot whose writer is gone is
// lost until it is taken over, and blocks nobody.
func TestEventRing(t *testing.T) {
	m, l := placeStrict(t, ModeEnforce, nil)
	slot := func(ticket int) address.Addr {
		return l.Events.Add(EventFirst + int64(ticket%EventSlots)*EventSize)
	}
	seq := func(ticket int) uint64 { return binary.LittleEndian.Uint64(m.peek(slot(ticket), 8)) }
	m.poke64(slot(3), 4|EventBusy)              // the writer of ticket 3 died
	m.poke64(slot(5), uint64(5+9*EventSlots)+1) // another process is far ahead
	for range 5*EventSlots + 2 {
		m.callStrict(l, 101)
	}
	for _, c := range []struct {
		ticket int
		want   uint64
	}{
		{0, 5*EventSlots + 1}, {1, 5*EventSlots + 2}, {2, 4*EventSlots + 3},
		{3, 4*EventSlots + 4}, // taken over after EventSteal tickets
		{5, 5 + 9*EventSlots + 1},
	} {
		if got := seq(c.ticket); got != c.want {
			t.Errorf("slot %d holds seq %d, want %d", c.ticket, got, c.want)
		}
	}
	// Slot 3 lost rounds 0 to 3, slot 5 all five.
	if got := m.counter(l, CounterLost); got != 4+5 {
		t.Errorf("%d events lost, want 9", got)
	}
	if got := m.counter(l, CounterRejects); got != 5*EventSlots+2 {
		t.Errorf("%d rejects, want %d", got, 5*EventSlots+2)
	}
}
