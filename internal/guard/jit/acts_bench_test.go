package jit

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Guards that act on the target and pass, which the benchmark times. The key is an
// address.
var actGuards = []struct {
	name, cap, body string
	mode            FaultMode
}{
	{"put", "write", "c.Put64(key, 1)", Table},
	{"put/copy", "write", "c.Put64(key, 1)", Copy},
	{"zero-256", "write", "c.Zero(key, 256)", Table},
	{"zero-256/copy", "write", "c.Zero(key, 256)", Copy},
	{"invoke", "call", `if c.Invoke("f", libpie.Word(key)).Errno != 0 { return libpie.RejectVoid() }`, Table},
	{"invoke/copy", "call", `if c.Invoke("f", libpie.Word(key)).Errno != 0 { return libpie.RejectVoid() }`, Copy},
}

func actGuard(t testing.TB, capability, body string) *verify.Program {
	t.Helper()
	return fromGo(t, `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id BENCH
//pie:cap `+capability+`

//pie:guard exe=x func=f onfault=pass onfuel=pass
func G(c *libpie.Call, key libpie.Addr) libpie.Verdict {
	`+body+`
	return libpie.Pass()
}
`)
}

// actLayout is where such a guard goes; the function it calls returns at once.
func (m *machine) actLayout(mode FaultMode) Layout {
	m.t.Helper()
	l := m.callLayout(mode)
	m.function(func(a *amd64.Asm) { a.Ret() })
	return l
}

// BenchmarkActs times guards that write and call, beside the bare function.
func BenchmarkActs(b *testing.B) {
	m := newMachine(b)
	m.assemble(bareAt, guarded)
	for _, g := range actGuards {
		b.Run(g.name, func(b *testing.B) {
			m.t = b
			l := m.actLayout(g.mode)
			l.After = inline
			c, err := Compile(actGuard(b, g.cap, g.body), Site{Free: amd64.Set(amd64.RAX, amd64.R10, amd64.R11)}, l)
			if err != nil {
				b.Fatal(err)
			}
			m.place(c, l, ModeEnforce)
			m.patch(l.Code)
			for b.Loop() {
				r := m.timeCalls(patchAt, 1, 2_000, uint64(dataAt))
				b.ReportMetric(r.min-r.bareMin, "added-ns")
				b.ReportMetric(r.median-r.bareMedian, "added-median-ns")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// The guards that are timed do what they say and pass.
func TestActGuardsPass(t *testing.T) {
	m := newMachine(t)
	m.installHandler(nil, oldDefault, 0)
	for _, g := range actGuards {
		l := m.actLayout(g.mode)
		c, err := Compile(actGuard(t, g.cap, g.body), Site{}, l)
		if err != nil {
			t.Fatal(err)
		}
		m.place(c, l, ModeEnforce)
		m.setTable(c.Faults)
		in := filled(8)
		in.GPR[amd64.RDI] = uint64(dataAt)
		m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
		if outcome, out := m.call(l.Code, in); outcome != hasPassed || *out != *in || m.counter(l, CounterFaults) != 0 {
			t.Errorf("%s: outcome %d, %d faults", g.name, outcome, m.counter(l, CounterFaults))
		}
	}
}
