package verify

import (
	"slices"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// factsGuard has one of everything that facts are about.
const factsGuard = `
		ldxdw %r2, [%r1+8]
		mov %r6, 7
		stxdw [%r10-16], %r2
		jgt %r6, 9, dead
	loop:
		ldxb %r3, [%r2+0]
		add %r2, 1
		jne %r3, 0, loop
		lddw %r4, rodata 2
		ldxb %r4, [%r4+1]
		lddw %r5, symbol 2
		ldxdw %r5, [%r5+8]
		stdw [%r1+128], 0
		mov %r0, 0x101
		exit
	dead:
		mov %r0, 0
		exit`

func verified(t *testing.T, text string) (*bpf.Unit, *Program) {
	t.Helper()
	u := unit(t, text)
	p, err := Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	return u, p
}

// TestFacts: what is said about each instruction.
func TestFacts(t *testing.T) {
	u, p := verified(t, factsGuard)
	want := map[int]Access{
		0:  {RegionFrame, 8, true},
		2:  {RegionStack, -16, true},
		4:  {Region: RegionTarget},
		9:  {RegionRodata, 3, true},
		12: {RegionSymbol, 8, true},
		13: {RegionFrame, 128, true},
	}
	for pc := range u.Insns {
		if got := p.Access(pc); got != want[pc] {
			t.Errorf("%d: access %+v, want %+v", pc, got, want[pc])
		}
		if got := p.FaultPoint(pc); got != (pc == 4) {
			t.Errorf("%d: fault point: %v", pc, got)
		}
		if got := p.Fuel(pc) > 0; got != (pc == 6) {
			t.Errorf("%d: needs fuel: %v", pc, got)
		}
	}
	for _, pc := range []int{8, 11, 16, 17} { // second slots, and what is never taken
		if p.Reachable(pc) {
			t.Errorf("%d is said to be reachable", pc)
		}
	}
	if v, ok := p.Const(3, bpf.R6); !ok || v != 7 {
		t.Errorf("r6 at 3: %d, %v; want 7", v, ok)
	}
	if _, ok := p.Const(4, bpf.R2); ok {
		t.Error("r2 at 4 is said to be constant")
	}
	if got, want := p.Live(4), uint16(1<<bpf.R1|1<<bpf.R2|1<<bpf.R10); got != want {
		t.Errorf("live at 4: %#b, want %#b", got, want)
	}
}

// TestFactsOfTheWhole: what is said about the guard.
func TestFactsOfTheWhole(t *testing.T) {
	_, p := verified(t, factsGuard)
	if p.Stack() != 16 || p.StackOf(0) != 16 {
		t.Errorf("stack %d, of the function %d; want 16", p.Stack(), p.StackOf(0))
	}
	if got, want := p.Verdicts(), []bpf.Verdict{0, bpf.Reject(1, 0)}; !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
	c := p.Cost()
	if c.Insns != 18 || !c.FuelCap || c.Loads[RegionTarget] != 1 || c.Loads[RegionFrame] != 1 {
		t.Errorf("cost %+v", c)
	}
}

// TestUnitIsCopied: what was verified cannot be changed afterwards.
func TestUnitIsCopied(t *testing.T) {
	u, p := verified(t, "mov %r0, 0\nexit\n")
	u.Insns[0].Imm = 77
	p.Unit().Insns[0].Imm = 88
	if got := p.Unit().Insns[0].Imm; got != 0 {
		t.Errorf("verified instruction became mov %%r0, %d", got)
	}
}

// TestTidIsAnything: of what gettid(2) answers only the width is known, for a filter that is
// set later may make it an error: neither way of a comparison is dropped.
func TestTidIsAnything(t *testing.T) {
	u, p := verified(t, `
		mov %r9, %r1
		call tid
		jeq %r0, 0, none
		jgt %r0, 0x7fffffff, refused
		mov %r0, 0
		exit
	none:
		mov %r0, 0
		exit
	refused:
		mov %r0, 1
		exit`)
	for pc := range u.Insns {
		if !p.Reachable(pc) {
			t.Errorf("%d is said not to be reachable", pc)
		}
	}
}
