package jit

import (
	"errors"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// The stack in use is counted from the end of the stack that the call is on;
// where none is known the call faults, and every register is as it was.
func TestStackUsed(t *testing.T) {
	m := newMachine(t)
	p := verified(t, "mov %r9, %r1\ncall stackused\nstxdw [%r9+128], %r0\nmov %r0, 0x101\nexit")
	sp := filled(8).GPR[amd64.RSP]
	m.poke64(gAt+gStackHi, sp+0x1000)
	for _, x := range []struct {
		name   string
		abi    ABI
		end    uint64
		faults bool
		want   uint64
	}{
		{"the main thread's", SysV, sp + 0x2340, false, 0x2340},
		{"the main thread's, as deep as it can be", SysV, sp + mainStack, false, mainStack},
		{"far below the main thread's", SysV, sp + mainStack + 8, true, 0},
		{"above the main thread's", SysV, sp - 8, true, 0},
		{"none that is known", SysV, 0, true, 0},
		{"a goroutine's", GoInternal, 0, false, 0x1000},
	} {
		for _, try := range [][]pressure{pressures[:], {{spill: true, pool: 2}, {spill: true}}} {
			l := m.layout()
			l.StackEnd, l.Pointer = address.Addr(x.end), true
			c, err := compile(p, Site{ABI: x.abi}, l, try)
			if err != nil {
				t.Fatal(err)
			}
			m.place(c, l, ModeEnforce)
			in := filled(8)
			in.GPR[amd64.R14] = uint64(gAt)
			m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
			outcome, out := m.call(l.Code, in)
			faults := m.counter(l, CounterFaults)
			switch {
			case x.faults && (outcome != hasPassed || faults != 1 || *out != *in):
				t.Errorf("%s: outcome %d, %d faults\n%x\n%x", x.name, outcome, faults, out.GPR, in.GPR)
			case !x.faults && (outcome != hasReturned || out.GPR[amd64.RAX] != x.want):
				t.Errorf("%s: outcome %d, rax %#x, want %#x", x.name, outcome, out.GPR[amd64.RAX], x.want)
			}
		}
	}
	if _, err := Compile(p, Site{}, m.layout()); !errors.Is(err, ErrThread) {
		t.Errorf("without a thread pointer: %v", err)
	}
	if _, err := Compile(p, Site{ABI: GoInternal}, m.layout()); err != nil {
		t.Errorf("a goroutine's stack needs none: %v", err)
	}
}

// TestTidRefused: a filter that the process sets later makes gettid(2) an error; a guard
// that asks for the thread has its low half then, which verification allows for
// (TestTidIsAnything there).
func TestTidRefused(t *testing.T) {
	m := newMachine(t)
	p := verified(t, "mov %r9, %r1\ncall tid\nstxdw [%r9+128], %r0\nmov %r0, 0x101\nexit")
	if outcome, out := m.run(p, Site{}, m.layout(), 0); outcome != hasReturned || out.GPR[amd64.RAX] != uint64(m.tid) {
		t.Errorf("outcome %d, rax %#x, want %#x", outcome, out.GPR[amd64.RAX], m.tid)
	}
	m.ask(cmdRefuse, 0, sysGettid)
	const eperm = 1
	if outcome, out := m.run(p, Site{}, m.layout(), 0); outcome != hasReturned || out.GPR[amd64.RAX] != 1<<32-eperm {
		t.Errorf("refused: outcome %d, rax %#x, want %#x", outcome, out.GPR[amd64.RAX], uint32(1<<32-eperm))
	}
}
