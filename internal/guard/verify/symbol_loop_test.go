package verify

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// TestPartOfSymbolIsNoCounter: what is left of the address of a symbol when it is cut to 32
// bits, or fewer, does not move as the address does. Here it never moves, and the loop
// that it bounds may go on for ever: so it pays.
func TestPartOfSymbolIsNoCounter(t *testing.T) {
	for name, cut := range map[string]string{
		"32 bits":        "mov32 %r3, %r2",
		"8 bits, signed": "movsx864 %r3, %r2",
		"sign extended":  "movsx3264 %r3, %r2",
	} {
		t.Run(name, func(t *testing.T) {
			u := unit(t, `
				lddw %r2, symbol 0
				lddw %r4, 0x100000000
			loop:
				`+cut+`
				jgt %r3, 0x7fffffff, out
				add %r2, %r4
				ja loop
			out:
				mov %r0, 0
				exit`)
			u.Symbols = []bpf.Symbol{{Name: "v", Kind: bpf.SymbolData}}
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
		})
	}
}
