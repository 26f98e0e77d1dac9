package verify

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// TestCalledFunctionMovesCounter: what a called function returns lies where the loop
// counts, so that the loop has no bound, and pays.
func TestCalledFunctionMovesCounter(t *testing.T) {
	u := unit(t, `
		stdw [%r10-64], 0
		stdw [%r10-56], 0
		stdw [%r10-48], 0
		stdw [%r10-40], 0
		stdw [%r10-32], 0
		stdw [%r10-24], 0
	loop:
		ldxdw %r6, [%r10-64]
		jgt %r6, 9, out
		add %r6, 1
		stxdw [%r10-64], %r6
		lddw %r1, symbol 0
		mov %r2, %r10
		add %r2, -64
		call invoke
		ja loop
	out:
		mov %r0, 0
		exit`)
	u.Symbols = []bpf.Symbol{{Name: "f", Kind: bpf.SymbolFunc}}
	u.Caps, u.State = bpf.CapCall, bpf.StateFirst+bpf.InsideSize
	u.OnFault = len(u.Insns) - 2
	u.OnFuel = u.OnFault
	p, err := Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	for pc, i := range u.Insns {
		if i.IsBackEdge(pc) && p.Fuel(pc) == 0 {
			t.Errorf("%d: %v: the loop can go on for ever and pays nothing", pc, i)
		}
	}
}
