package jit

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// A quiet guard decides as any other, and counts; but it has no event ring to write to,
// and neither rdtsc nor a system call in its code.
func TestQuiet(t *testing.T) {
	const minus = ^uint64(0)
	for _, c := range []struct {
		name     string
		mode     Mode
		calls    []strictCall
		counters [6]uint64 // calls, rejects, audited, faults, fuel, logs
	}{
		{"off", ModeOff, []strictCall{{101, hasPassed, 0}, {50, hasPassed, 0}}, [6]uint64{}},
		{
			"audit", ModeAudit,
			[]strictCall{{1, hasPassed, 0}, {101, hasPassed, 0}, {50, hasPassed, 0}, {100, hasPassed, 0}},
			[6]uint64{4, 0, 2, 1, 0, 1},
		}, {
			"enforce", ModeEnforce,
			[]strictCall{{1, hasPassed, 0}, {101, hasReturned, minus}, {50, hasReturned, minus - 1}, {51, hasReturned, minus - 2}, {100, hasPassed, 0}},
			[6]uint64{5, 3, 0, 1, 1, 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, free := range []amd64.RegSet{0, amd64.Set(amd64.R11), amd64.Set(amd64.R10, amd64.R11)} {
				m, u := newMachine(t), unit(t, strict, strictOnFault, strictOnFuel)
				l := m.layout()
				l.Quiet, l.Events, l.Faults = true, 0, Copy
				code := compileUnit(t, guess{u}, Site{Free: free}, l)
				m.place(code, m.layout(), c.mode)
				checkQuiet(t, code)
				for _, call := range c.calls {
					outcome, result := m.callStrict(l, call.arg)
					if outcome != call.outcome || outcome == hasReturned && result != call.result {
						t.Errorf("call with %d: outcome %d, result %#x; want %+v", call.arg, outcome, result, call)
					}
				}
				b := m.peek(l.Counters, QuietCountersSize)
				for i, off := range []int{CounterCalls, CounterRejects, CounterAudited, CounterFaults, CounterFuel, CounterLogs} {
					got := binary.LittleEndian.Uint64(b[CounterAt(len(b), off):])
					if off == CounterCalls {
						got = SumCalls(b)
					}
					if got != c.counters[i] {
						t.Errorf("counter at %d is %d, want %d", off, got, c.counters[i])
					}
				}
				if rest := m.peek(l.Counters+QuietCountersSize, CountersSize-QuietCountersSize); strings.Trim(string(rest), "\x00") != "" {
					t.Errorf("behind the counters: % x", rest)
				}
			}
		})
	}
}

// checkQuiet reads the code of a guard up to where it has left: it must read no time and
// make no system call, but for those of a fault mode that a quiet guard has no reads for.
func checkQuiet(t *testing.T, c *Code) {
	t.Helper()
	for off := 0; off < c.Link; {
		in, err := amd64.Decode(c.Bytes[off:], 0)
		if err != nil {
			t.Fatalf("at %d: %v", off, err)
		}
		if s := in.String(); strings.Contains(s, "rdtsc") || strings.Contains(s, "syscall") {
			t.Errorf("at %d: %s", off, s)
		}
		off += in.Len
	}
}

// What takes the clock or a system call is no quiet guard's.
func TestQuietRefuses(t *testing.T) {
	m := newMachine(t)
	l := m.layout()
	l.Quiet = true
	now := verified(t, "mov %r9, %r1\ncall now\nstxdw [%r9+128], %r0\nmov %r0, 0x101\nexit")
	if _, err := Compile(now, Site{}, l); !errors.Is(err, ErrQuiet) {
		t.Errorf("the time: %v", err)
	}
	for _, caps := range []bpf.Caps{bpf.CapWrite, bpf.CapCall, bpf.CapExit} {
		u := unit(t, "mov %r0, 0\nexit\nmov %r0, 0\nexit\nmov %r0, 0\nexit", 2, 4)
		u.Caps = caps
		p, err := verify.Verify(u)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(p, Site{}, l); !errors.Is(err, ErrQuiet) {
			t.Errorf("capability %d: %v", caps, err)
		}
	}
}
