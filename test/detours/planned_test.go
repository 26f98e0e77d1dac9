package detours

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/plan"
)

// guards are what stands in front of the functions: kindOf says which. All of them
// pass.
var guards = sync.OnceValues(func() ([]kind, error) {
	var all []kind
	for _, k := range []struct {
		name, text string
		faults     jit.FaultMode
	}{
		{"passes", pass, jit.Copy},
		{"compares registers", compare, jit.Copy},
		{"reads through the first argument", read, jit.Copy},
		{"reads through the first argument", read, jit.Probe},
	} {
		insns, err := bpf.Assemble(k.text)
		if err != nil {
			return nil, err
		}
		p, err := verify.Verify(&bpf.Unit{Name: "Guard", Insns: insns, OnFault: len(insns) - 2, OnFuel: len(insns) - 2})
		if err != nil {
			return nil, err
		}
		all = append(all, kind{k.name, p, k.faults})
	}
	return all, nil
})

type kind struct {
	name    string
	program *verify.Program
	faults  jit.FaultMode
}

// kindOf picks the guard of the nth function. One that reads makes a system call
// each time, so few do.
func kindOf(n int) int {
	switch n % 64 {
	case 21:
		return 2
	case 53:
		return 3
	}
	return n % 2
}

const (
	pass = `
	mov %r0, 0
	exit
	mov %r0, 0
	exit`
	// Rejects one call in 2^64: all six argument registers are read, and more
	// registers are needed than most functions leave free.
	compare = `
	ldxdw %r2, [%r1+0]
	ldxdw %r3, [%r1+8]
	ldxdw %r4, [%r1+16]
	ldxdw %r5, [%r1+24]
	ldxdw %r6, [%r1+32]
	ldxdw %r7, [%r1+40]
	mul %r2, 3
	xor %r2, %r3
	mul %r4, 5
	add %r4, %r5
	mul %r6, 7
	xor %r6, %r7
	add %r2, %r4
	xor %r2, %r6
	lddw %r8, 0x5ca1ab1e0ddba115
	jne %r2, %r8, +3
	stdw [%r1+128], 0
	mov %r0, 0x101
	exit
	mov %r0, 0
	exit`
	// The first argument is rarely an address.
	read = `
	ldxdw %r2, [%r1+0]
	ldxdw %r3, [%r2+0]
	lddw %r4, 0x5ca1ab1e0ddba115
	jne %r3, %r4, +3
	stdw [%r1+128], 0
	mov %r0, 0x101
	exit
	mov %r0, 0
	exit`
)

// planned is a program whose functions are all planned.
type planned struct {
	lo, hi   address.Addr // PIE's memory, all arenas together
	detours  []detour
	refused  []refusal
	atEntry  int // planned with no instruction left in front of the jump
	overlaps int // planned, and left out: another function's jump stands in theirs
}

type detour struct {
	plan.Guard
	size uint64 // of the function
}

type refusal struct {
	name  string
	entry address.Addr
	size  uint64
	code  plan.Code
	msg   string
}

// planAll plans every function of m, mapped with bias. An arena has room for some
// guards only, so each few functions have one of their own.
func planAll(t testing.TB, m *module, bias address.Bias) *planned {
	t.Helper()
	kinds, err := guards()
	if err != nil {
		t.Fatal(err)
	}
	p := &planned{}
	image := arena.Range{Start: address.Vaddr(m.start).Addr(bias), End: address.Vaddr(m.end).Addr(bias)}
	used := []arena.Range{image}
	var batch []plan.GuardInput
	flush := func() {
		if len(batch) > 0 {
			used = append(used, p.build(t, batch, used))
			batch = nil
		}
	}
	var taken address.Addr // what jumps so far replace ends here
	for n, f := range m.functions {
		f.Entry, f.SegmentAt = address.Vaddr(f.Entry).Addr(bias), address.Vaddr(f.SegmentAt).Addr(bias)
		site, err := plan.ChooseSite(f)
		if err != nil {
			p.refuse(t, f, err)
			continue
		}
		if f.Entry < taken {
			p.overlaps++
			continue
		}
		taken = max(site.Resume, site.Start.Add(int64(len(site.Original))))
		if site.Start == site.Entry {
			p.atEntry++
		}
		k := kinds[kindOf(n)]
		batch = append(batch, plan.GuardInput{Name: "Guard", Program: k.program, Function: f, Mapped: image, Faults: k.faults, Gettid: true})
		if len(batch) == arena.MaxGuards {
			flush()
		}
	}
	flush()
	return p
}

// build plans a batch in an arena of its own, and returns where that is.
func (p *planned) build(t testing.TB, batch []plan.GuardInput, used []arena.Range) arena.Range {
	t.Helper()
	info := arena.Info{Build: "test", Creator: 1, TSCHz: 1e9, Created: time.Unix(0, 0)}
	built, err := plan.Build(plan.Input{ID: "TEST", Build: "test", Space: arena.NewSpace(nil, used, info), Guards: batch})
	if err != nil {
		t.Fatalf("planned alone, but not with a guard: %v", err)
	}
	for i, g := range built.Guards() {
		p.detours = append(p.detours, detour{g, batch[i].Function.Size})
	}
	base := built.Guards()[0].Place.Arena.Base
	r := arena.Range{Start: base, End: base.Add(arena.Span)}
	if p.lo == 0 || r.Start < p.lo {
		p.lo = r.Start
	}
	p.hi = max(p.hi, r.End)
	return r
}

func (p *planned) refuse(t testing.TB, f plan.Function, err error) {
	t.Helper()
	var r *plan.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%s: %v is no Refusal", f.Name, err)
	}
	p.refused = append(p.refused, refusal{f.Name, f.Entry, f.Size, r.Code, r.Msg})
}

// write puts a detour's guard into memory, which begins at p.lo.
func (p *planned) write(memory []byte, d detour) {
	copy(memory[d.Place.Code-p.lo:], d.Code.Bytes)
	memory[d.Place.Control-p.lo+jit.ControlMode] = byte(jit.ModeEnforce)
}

// calls is how often a detour was called.
func (p *planned) calls(memory []byte, d detour) uint64 {
	return jit.SumCalls(memory[d.Place.Counters-p.lo:])
}

// rejects is how many calls its guard kept from it: there must be none.
func (p *planned) rejects(memory []byte, d detour) byte {
	return memory[d.Place.Counters-p.lo+jit.CounterRejects]
}
