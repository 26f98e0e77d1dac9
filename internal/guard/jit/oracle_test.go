package jit

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

func TestStrdupNull(t *testing.T) {
	m := newMachine(t)
	l := m.layout()
	c := compileUnit(t, guess{unit(t, strdupNull, 8, 8)}, Site{}, l)
	m.place(c, l, ModeEnforce)
	in := filled(8)
	in.GPR[amd64.RDI] = 0x1234
	m.poke64(stackAt+stackLen-0x1000+8, uint64(m.returned))
	outcome, out := m.call(l.Code, in)
	if outcome != hasPassed || *out != *in {
		t.Errorf("pass: outcome %d, registers\n%x\nwant\n%x", outcome, out.GPR, in.GPR)
	}
	in.GPR[amd64.RDI] = 0
	outcome, out = m.call(l.Code, in)
	want := *in
	want.GPR[amd64.RAX] = 0
	want.GPR[amd64.RSP] += 8
	if outcome != hasReturned || *out != want {
		t.Errorf("reject: outcome %d, registers\n%x\nwant\n%x", outcome, out.GPR, want.GPR)
	}
	t.Log(m.counter(l, CounterCalls), m.counter(l, CounterRejects), m.events(l))
}
