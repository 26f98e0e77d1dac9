package jit

import (
	"fmt"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Guards with state that the benchmark times; each passes. The key is an argument.
var stateGuards = []struct{ name, body string }{
	{"counter", "if calls.Add(c, 1) == 0 { return libpie.RejectVoid() }"},
	{"map-get", "if n, _ := table.Get(c, key); n > 9 { return libpie.RejectVoid() }"},
	{"map-add", "if _, ok := table.Add(c, key, 1); !ok { return libpie.RejectVoid() }"},
	{"per-thread", "if mine.Add(c, 1) == -1 { return libpie.RejectVoid() }"},
	{"limiter", "if !limit.Allow(c, key) { return libpie.RejectVoid() }"},
}

// stateGuard compiles a guard around a body, from Go.
func stateGuard(t testing.TB, body string) *verify.Program {
	t.Helper()
	return fromGo(t, `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id BENCH

var (
	calls libpie.Counter
	table = libpie.NewMap[int64, int64](500)
	mine  = libpie.NewPerThread[int64](64)
	limit = libpie.NewLimiter[int64](libpie.Limit{Calls: 1000000000, Seconds: 1, Burst: 1000000, Keys: 100, Full: libpie.FullRefuse})
)

//pie:guard exe=x func=f onfault=pass onfuel=pass
func G(c *libpie.Call, key int64) libpie.Verdict {
	`+body+`
	return libpie.Pass()
}
`)
}

// BenchmarkState times guards that use state, beside the bare function.
func BenchmarkState(b *testing.B) {
	const stateOf = codeAt + 0x100000
	m := newMachine(b)
	m.mapAt(stateOf, 0x40000, protRead|protWrite, 0)
	m.assemble(bareAt, guarded)
	for _, g := range stateGuards {
		for _, threads := range []uint32{1, 8} {
			b.Run(fmt.Sprintf("%s/threads=%d", g.name, threads), func(b *testing.B) {
				m.t = b
				l := m.layout()
				l.State, l.Pointer, l.After = stateOf, true, inline
				c, err := Compile(stateGuard(b, g.body), Site{Free: amd64.Set(amd64.RAX, amd64.R10, amd64.R11)}, l)
				if err != nil {
					b.Fatal(err)
				}
				m.place(c, l, ModeEnforce)
				m.poke64(l.Control+ControlClockMult, 1<<31)
				m.patch(l.Code)
				for b.Loop() {
					r := m.timeCalls(patchAt, threads, 2_000, 42)
					b.ReportMetric(r.min-r.bareMin, "added-ns")
					b.ReportMetric(r.median-r.bareMedian, "added-median-ns")
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// The guards that are timed pass, which also holds the benchmark to what it says.
func TestStateGuardsPass(t *testing.T) {
	const stateOf = codeAt + 0x100000
	m := newMachine(t)
	m.mapAt(stateOf, 0x40000, protRead|protWrite, 0)
	for _, g := range stateGuards {
		l := m.layout()
		l.State, l.Pointer = stateOf, true
		p := stateGuard(t, g.body)
		for range 3 {
			if outcome, _ := m.run(p, Site{}, l, 42); outcome != hasPassed {
				t.Errorf("%s: outcome %d", g.name, outcome)
			}
		}
	}
}
