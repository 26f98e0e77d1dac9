package jit

import (
	"encoding/binary"
	"testing"
)

// TestSlots: every CPU that has a word has one of its own, the first sixteen each in a line
// of its own, and none has a word that is added to with a lock.
func TestSlots(t *testing.T) {
	const line = 8
	seen, lines := map[uint32]int{}, map[uint32]bool{}
	for cpu := range cpuSlots {
		slot := uint32(cpu) * cpuFactor >> (32 - slotBits)
		if other, taken := seen[slot]; taken || slot%line == lockSlot {
			t.Errorf("CPU %d has word %d, as CPU %d", cpu, slot, other)
		}
		seen[slot] = cpu
		if cpu < CallSlots/line {
			lines[slot/line] = true
		}
	}
	if len(lines) != CallSlots/line {
		t.Errorf("the first CPUs have %d lines", len(lines))
	}
}

// TestSpread: threads whose stacks lie at usual distances count in different
// cache lines.
func TestSpread(t *testing.T) {
	const threads = 8
	factor := int64(hashFactor)
	for _, distance := range []uint64{
		8<<20 + 4096, 8 << 20, 2<<20 + 4096, 2 << 20, 1<<20 + 4096, 256<<10 + 4096, 128<<10 + 4096, 128 << 10,
		64<<10 + 4096, 64 << 10, 32 << 10, 8 << 10, 4 << 10, 2 << 10,
	} {
		for rsp := uint64(0x7f12_3456_7000); rsp < 0x7f12_3456_7000+1<<30; rsp += 0x1234570 {
			lines := map[uint32]bool{}
			for i := range uint64(threads) {
				lines[uint32((rsp-i*distance)*uint64(factor))>>(32-4)] = true
			}
			if len(lines) < 5 {
				t.Errorf("%d threads %#x apart, the first at %#x, share %d lines", threads, distance, rsp, len(lines))
				break
			}
		}
	}
}

// placeCounting leads the function at patchAt through a guard that only counts.
func placeCounting(t *testing.T, rseq bool) (*machine, Layout) {
	t.Helper()
	m := newMachine(t)
	if rseq && !m.rseq.Known {
		t.Fatal("the C library registers no restartable sequences: this test needs glibc 2.35 and Linux 4.18")
	}
	l := m.layout()
	l.After = toTrampoline
	if !rseq {
		l.Rseq = RseqArea{}
	}
	c := compileUnit(t, guess{unit(t, "mov %r0, 0\nexit", 0, 0)}, Site{}, l)
	m.place(c, l, ModeEnforce)
	m.patch(l.Code)
	return m, l
}

// words are how many calls were counted by CPUs, and with a lock.
func (m *machine) words(l Layout) (cpus, locked uint64) {
	for i, b := 0, m.peek(l.Counters, 8*CallSlots); i < CallSlots; i++ {
		n := binary.LittleEndian.Uint64(b[8*i:])
		if i%8 == lockSlot {
			locked += n
		} else {
			cpus += n
		}
	}
	return cpus, locked
}

// TestEveryCallCounts: none is lost and none counts twice, whatever happens to the threads
// while they count: they are preempted, moved to other CPUs, interrupted by handlers that
// make calls themselves, and some have no struct rseq.
func TestEveryCallCounts(t *testing.T) {
	const threads, calls = 8, 5_000_000
	for _, x := range []struct {
		name string
		rseq bool
		how  uint32 // CMD_STORM's

	}{
		{"with a lock", false, 2},
		{"by CPU", true, 0},
		{"by CPU, moved about", true, 2},
		{"by CPU, every other thread without", true, 3},
	} {
		t.Run(x.name, func(t *testing.T) {
			m, l := placeCounting(t, x.rseq)
			m.ask(cmdAlarms, 0, patchAt, uint64(0), uint32(100))
			m.ask(cmdStorm, 0, patchAt, uint32(threads), uint32(calls), uint64(0), x.how)
			alarms := binary.LittleEndian.Uint64(m.ask(cmdAlarms, 0, patchAt, uint64(0), uint32(0)))
			cpus, locked := m.words(l)
			t.Logf("%d signals; %d calls by CPU, %d with a lock", alarms, cpus, locked)
			if got := m.counter(l, CounterCalls); got != threads*calls+alarms && got != threads*calls+alarms+1 {
				t.Errorf("%d calls counted, want %d", got, threads*calls+alarms)
			}
			if alarms == 0 || x.rseq && (cpus == 0 || locked == 0) || !x.rseq && cpus != 0 {
				t.Error("that is not what the test is about")
			}
		})
	}
}

// TestCountedWhenStepped: a debugger's single steps abort every restartable sequence; the
// call goes on, and counts once.
func TestCountedWhenStepped(t *testing.T) {
	m, l := placeCounting(t, true)
	const calls = 50
	for range calls {
		if n := binary.LittleEndian.Uint64(m.ask(cmdSteps, 0, patchAt, uint64(0))); n < 10 || n > 100 {
			t.Fatalf("%d steps", n)
		}
	}
	if cpus, locked := m.words(l); cpus != 0 || locked != calls {
		t.Errorf("%d counted by CPU, %d with a lock; want %d with a lock", cpus, locked, calls)
	}
}

// TestRseqIsLeft: behind a call the thread's rseq_cs is what it was: nothing of the guard's
// is left for the kernel to read when the guard's code is gone.
func TestRseqIsLeft(t *testing.T) {
	m, l := placeCounting(t, true)
	l.After = m.toOracle
	m.place(compileUnit(t, guess{unit(t, "mov %r0, 0\nexit", 0, 0)}, Site{}, l), l, ModeEnforce)
	for range 1000 {
		if outcome, _ := m.call(l.Code, filled(8)); outcome != hasPassed {
			t.Fatalf("outcome %d", outcome)
		}
		if cs := binary.LittleEndian.Uint64(m.peek(m.thread.Add(int64(l.Rseq.Offset+rseqCS)), 8)); cs != 0 {
			t.Fatalf("rseq_cs is %#x", cs)
		}
	}
	if cpus, _ := m.words(l); cpus == 0 {
		t.Error("nothing was counted by CPU")
	}
}
