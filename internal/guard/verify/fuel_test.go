package verify

import (
	"fmt"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// heavyGuard goes through a list with a cheap round, and through another with a dear one.
func heavyGuard(t *testing.T, loads int) *bpf.Unit {
	var dear strings.Builder
	for i := range loads {
		fmt.Fprintf(&dear, "ldxdw %%r3, [%%r2+%d]\nadd %%r0, %%r3\n", 8*i+8)
	}
	u := unit(t, `
		ldxdw %r2, [%r1+0]
		ldxdw %r4, [%r1+8]
		mov %r0, 0
	cheap:
		ldxdw %r2, [%r2]
		jne %r2, 0, cheap
		mov %r2, %r4
	dear:
		`+dear.String()+`
		ldxdw %r2, [%r2]
		jne %r2, 0, dear
		mov %r0, 0
		exit`)
	u.OnFault = len(u.Insns) - 2
	u.OnFuel, u.Fuel, u.State, u.Symbols = u.OnFault, 0, 0, nil
	return u
}

// TestFuelByWeight: a way back costs by the length of its round, so that all fuel is
// spent after the same time whichever loop spends it, and a dear loop beside a cheap one
// leaves the cheap one its rounds.
func TestFuelByWeight(t *testing.T) {
	u := heavyGuard(t, 100)
	p, err := Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	var paid []uint32
	for pc, i := range u.Insns {
		if i.IsBackEdge(pc) {
			paid = append(paid, p.Fuel(pc))
		}
	}
	if len(paid) != 2 || paid[0] != 1 || paid[1] < 50 || paid[1] > 70 {
		t.Errorf("ways back pay %v; want 1 and about 60 units of 2 ns", paid)
	}
	if fuel, ns := p.Unit().Fuel, p.Cost().Ns; fuel < 40_000 || ns > 1.01*nsCap {
		t.Errorf("fuel %d, at worst %.0f ns; want about 50,000 and at most %.0f", fuel, ns, nsCap)
	}
	for _, lists := range [][2]uint64{{1 << 20, short}, {short, 1 << 20}} { // the other goes round
		loads := 0.0
		in := &bpf.Interp{Unit: p.Unit(), Memory: rings{}, Charge: p.Fuel}
		in.Trace = func(pc int, _ *[bpf.NumRegs]bpf.Value, _ int) {
			if u.Insns[pc].IsLoad() {
				loads++
			}
		}
		res, err := in.Run(bpf.Frame{Args: [bpf.FrameArgs]uint64{lists[0], lists[1]}})
		if err != nil || !res.OutOfFuel {
			t.Fatalf("%+v, %v; want it to run out of fuel", res, err)
		}
		if loads*nsLoad > nsCap || loads*nsLoad < nsCap/3 {
			t.Errorf("lists %#x: %.0f loads, each of a nanosecond; want less than %.0f, and not much less", lists, loads, nsCap)
		}
	}
}

// rings is memory in which every word points to itself, but for that of the list that ends.
type rings struct{}

const short = 1 << 17

func (rings) Read(addr uint64, p []byte) bool {
	if addr == short {
		clear(p)
		return true
	}
	for i := range p {
		p[i] = byte(addr &^ 7 >> (8 * (i % 8)))
	}
	return true
}

// TestFreeLoopsKeepTheCap: loops that are each short enough to pay nothing pay where there
// are many of them.
func TestFreeLoopsKeepTheCap(t *testing.T) {
	var text strings.Builder
	text.WriteString("ldxdw %r2, [%r1+0]\nmov %r0, 0\n")
	for i := range 40 {
		fmt.Fprintf(&text, "mov %%r4, 0\nl%d:\nldxdw %%r3, [%%r2]\nadd %%r0, %%r3\nadd %%r4, 1\njlt %%r4, 10000, l%d\n", i, i)
	}
	text.WriteString("mov %r0, 0\nexit")
	u := unit(t, text.String())
	u.OnFault = len(u.Insns) - 2
	u.OnFuel, u.Fuel, u.State, u.Symbols = u.OnFault, 0, 0, nil
	p, err := Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	if p.Cost().Ns > 1.01*nsCap {
		t.Errorf("at worst %.0f ns, more than %.0f", p.Cost().Ns, nsCap)
	}
}
