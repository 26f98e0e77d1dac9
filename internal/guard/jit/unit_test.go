package jit

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// guess stands for a verify.Program in tests of units small enough to see that
// they are right: r1 is the frame wherever it is a base, r10 the stack, and
// all else the target.
type guess struct{ u *bpf.Unit }

func (g guess) Unit() *bpf.Unit { return g.u }

func (g guess) Ways(int) (falls, jumps bool) { return true, true }

func (g guess) FaultPoint(i int) bool { return g.Access(i).Region == verify.RegionTarget }

func (g guess) Fuel(int) uint32 { return 1 }
func (g guess) Same(int) bool   { return false }

func (g guess) Stack() int { return 256 }

func (g guess) StackOf(int) int { return 128 }

func (g guess) Access(i int) verify.Access {
	in := g.u.Insns[i]
	base := in.Dst
	if in.IsLoad() {
		base = in.Src
	}
	switch {
	case !in.IsLoad() && !in.IsStore():
		return verify.Access{}
	case g.ofState(i, base):
		return verify.Access{Region: verify.RegionState}
	case base == bpf.R1:
		return verify.Access{Region: verify.RegionFrame, Offset: int(in.Off), Known: true}
	case base == bpf.R10:
		return verify.Access{Region: verify.RegionStack, Offset: int(in.Off), Known: true}
	}
	return verify.Access{Region: verify.RegionTarget}
}

// ofState reports whether the address of state was loaded right before i.
func (g guess) ofState(i int, base uint8) bool {
	for k := max(i-4, 0); k < i; k++ {
		if in := g.u.Insns[k]; in.IsLDDW() && in.Src == bpf.PseudoState && in.Dst == base {
			return true
		}
	}
	return false
}

// Verdicts takes every constant moved to r0 right before an exit.
func (g guess) Verdicts() []bpf.Verdict {
	var vs []bpf.Verdict
	for i, in := range g.u.Insns[:len(g.u.Insns)-1] {
		if g.u.Insns[i+1].Op == bpf.OpEXIT && in.IsALU() && in.Operation() == bpf.AluMOV && in.Op&bpf.SrcX == 0 && in.Dst == 0 {
			vs = append(vs, bpf.Verdict(in.Imm))
		}
	}
	return vs
}

// unit assembles a guard; the labels fault and fuel, when given, are the
// instruction indices of OnFault and OnFuel.
func unit(t testing.TB, text string, fault, fuel int) *bpf.Unit {
	t.Helper()
	insns, err := bpf.Assemble(text)
	if err != nil {
		t.Fatal(err)
	}
	return &bpf.Unit{Name: t.Name(), Insns: insns, OnFault: fault, OnFuel: fuel}
}

// strdupNull is the guard of iperf3's strdup(NULL).
const strdupNull = `
	ldxdw %r2, [%r1+0]
	jeq %r2, 0, reject
	mov %r0, 0
	exit
reject:
	mov %r2, 0
	stxdw [%r1+128], %r2
	mov %r0, 0x101
	exit
	mov %r0, 0
	exit
`

func compileUnit(t testing.TB, p program, s Site, l Layout) *Code {
	t.Helper()
	c, err := compile(p, s, l, pressures[:])
	if err != nil {
		t.Fatal(err)
	}
	return c
}
