package verify

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// plain is memory in which every byte is 1.
type plain struct{}

func (plain) Read(_ uint64, p []byte) bool {
	for k := range p {
		p[k] = 1
	}
	return true
}
func (plain) Write(uint64, []byte) bool { return false }

// TestLimits: what is said of how far a guard gets is what it does: so many rounds are
// within the fuel, and a few more are not.
func TestLimits(t *testing.T) {
	const end = "mov %r0, 0\nexit"
	for _, c := range []struct {
		name, text string
		pace       uint64 // bytes a round; 0: it cannot be told
	}{
		{"a pointer moves", `
			ldxdw %r2, [%r1+0]
			ldxdw %r3, [%r1+8]
			add %r3, %r2
		again:
			ldxb %r4, [%r2]
			jeq %r4, 0, out
			add %r2, 1
			jlt %r2, %r3, again
		out:
			` + end, 1},
		{"an index moves, of words", `
			ldxdw %r2, [%r1+0]
			ldxdw %r3, [%r1+8]
			rsh %r3, 2
			mov %r5, 0
		again:
			mov %r6, %r5
			lsh %r6, 2
			mov %r7, %r2
			add %r7, %r6
			ldxw %r4, [%r7]
			jeq %r4, 0, out
			add %r5, 1
			jlt %r5, %r3, again
		out:
			` + end, 4},
		{"down, past a branch", `
			ldxdw %r2, [%r1+0]
			ldxdw %r3, [%r1+8]
		again:
			sub %r3, 8
			mov %r7, %r2
			add %r7, %r3
			ldxdw %r4, [%r7]
			jne %r4, 5, over
			ldxb %r5, [%r7+3]
		over:
			jsgt %r3, 0, again
			` + end, 8},
		{"an index on the stack", `
			ldxdw %r2, [%r1+0]
			ldxdw %r3, [%r1+8]
			stdw [%r10-8], 0
		again:
			ldxdw %r7, [%r10-8]
			mov %r6, %r7
			add %r7, %r2
			ldxb %r4, [%r7]
			jeq %r4, 0, out
			add %r6, 1
			stxdw [%r10-8], %r6
			jlt %r6, %r3, again
		out:
			` + end, 1},
		{"as far as what it reads says", `
			ldxdw %r2, [%r1+0]
			ldxdw %r3, [%r1+8]
			add %r3, %r2
		again:
			ldxb %r4, [%r2]
			jeq %r4, 0, out
			add %r2, %r4
			jlt %r2, %r3, again
		out:
			` + end, 0},
		{"a search", `
			ldxdw %r3, [%r1+8]
			ldxdw %r1, [%r1+0]
			mov %r2, %r3
			mov %r3, 42
			call 3
			` + end, 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := unit(t, c.text)
			u.OnFault = len(u.Insns) - 2
			u.OnFuel, u.Fuel, u.State, u.Symbols = u.OnFault, 0, 0, nil
			p, err := Verify(u)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Limits()) != 1 {
				t.Fatalf("limits %+v, want one", p.Limits())
			}
			checkLimit(t, p, p.Limits()[0], c.pace)
		})
	}
}

func checkLimit(t *testing.T, p *Program, l Limit, pace uint64) {
	t.Helper()
	bytes := l.Bytes
	switch {
	case l.Shared:
		t.Errorf("%+v is shared with nothing", l)
	case pace == 0 && l.Bytes == 0:
		bytes = l.Rounds // each byte is 1
	case l.Rounds == 0 && l.Bytes != uint64(p.Unit().Fuel)*pace, l.Rounds > 0 && l.Bytes != l.Rounds*pace:
		t.Fatalf("%+v, want %d bytes a round", l, pace)
	}
	for _, n := range []uint64{bytes, bytes + 2*max(pace, 1)} {
		in := &bpf.Interp{Unit: p.Unit(), Memory: plain{}, Charge: p.Fuel}
		r, err := in.Run(bpf.Frame{Args: [bpf.FrameArgs]uint64{1 << 20, n}})
		if err != nil || r.Faulted || r.OutOfFuel != (n > bytes) {
			t.Errorf("%d bytes of %d: %+v, %v", n, bytes, r, err)
		}
	}
}

// TestLimitsTogether: two loops share the fuel, a loop that ends by itself has no limit,
// and one around another that pays is not said to get anywhere.
func TestLimitsTogether(t *testing.T) {
	u := heavyGuard(t, 3)
	p, err := Verify(u)
	if err != nil {
		t.Fatal(err)
	}
	if l := p.Limits(); len(l) != 2 || !l[0].Shared || !l[1].Shared || l[0].Bytes != 0 {
		t.Errorf("two loops: %+v", l)
	}
	u = unit(t, `
		ldxdw %r2, [%r1+0]
		ldxdw %r3, [%r1+8]
	outer:
		mov %r5, %r2
	inner:
		ldxb %r4, [%r5]
		add %r5, 1
		jne %r4, 0, inner
		add %r2, 1
		jlt %r2, %r3, outer
		mov %r0, 0
		exit`)
	u.OnFault = len(u.Insns) - 2
	u.OnFuel, u.Fuel, u.State, u.Symbols = u.OnFault, 0, 0, nil
	if p, err = Verify(u); err != nil {
		t.Fatal(err)
	}
	if l := p.Limits(); len(l) != 1 || !l[0].Shared || l[0].Bytes != l[0].Rounds || l[0].Insn != 3 {
		t.Errorf("a loop in a loop: %+v", l)
	}
}
