package verify

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// The prepatch's state is memory that other threads, and with CapShared hostile
// processes, change at any instant. So nothing is ever known of what it holds, and
// all that is proven is where it is accessed, and that each access is one of the
// machine: an aligned word.

// stateWord checks an access to the state.
func (a *analysis) stateWord(pc int, base value, i bpf.Insn) *Error {
	p, ok := spanOf(base, i.Off)
	switch {
	case i.Width() != 8 || i.IsLoad() && i.Mode() != bpf.ModeMEM:
		return refuse(pc, ReasonStateAccess, "accesses %d bytes of the state; only its aligned words of 8 bytes can be", i.Width())
	case !ok || p.lo < 0 || p.hi+8 > int64(a.unit.GuardState()):
		return refuse(pc, ReasonStateBounds, "may access %s of the state, which has %d bytes; cut the index to it first", offsets(base, i.Off), a.unit.GuardState())
	}
	if t := base.num.T; t.Mask&7 != 0 || (t.Value+uint64(int64(i.Off)))&7 != 0 {
		return refuse(pc, ReasonStateAccess, "may access the state between two words; multiply the index by 8")
	}
	return a.note(pc, RegionState, p)
}

func (a *analysis) storeState(pc int, base, v value, i bpf.Insn) *Error {
	if v.pointer() {
		return refuse(pc, ReasonPointerLeak, "keeps %v of the guard in the state", v.kind)
	}
	return a.stateWord(pc, base, i)
}

// atomicState gives the register that an atomic operation on the state loads
// what it can hold: anything.
func (a *analysis) atomicState(pc int, s *state, base, v value, i bpf.Insn) *Error {
	if !bpf.AtomicOnState(i.Imm) {
		return refuse(pc, ReasonAtomicRegion, "an atomic operation that the state does not know; it knows add, exchange, and compare and exchange")
	}
	if err := a.storeState(pc, base, v, i); err != nil {
		return err
	}
	switch {
	case i.Imm == bpf.AtomicCMPXCHG:
		r0, err := a.read(pc, s, bpf.R0)
		if err != nil {
			return err
		}
		if r0.pointer() {
			return refuse(pc, ReasonPointerALU, "compares %v with the state", r0.kind)
		}
		s.regs[bpf.R0] = number(scalar.Top())
	case i.Imm&bpf.AtomicFetch != 0:
		s.regs[i.Src] = number(scalar.Top())
	}
	return nil
}
