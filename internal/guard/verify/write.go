package verify

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// A guard with CapWrite may write anywhere in the target but to its own memory.
// What is proven of the guard rests on its stack holding what it wrote there, so
// the machine code checks each address against its own frame, and PIE's memory,
// before it writes.

// storeTarget checks ST and STX to an address of the target.
func (a *analysis) storeTarget(ctx *context, pc int, base, v value, i bpf.Insn) *Error {
	switch {
	case a.unit.Caps&bpf.CapWrite == 0:
		return refuse(pc, ReasonStoreTarget, "writes to the target's memory without having asked for it; add //pie:cap write")
	case ctx.landing:
		return refuse(pc, ReasonLandingFaults, "writes to the target in an onfault or onfuel action, where a fault has nowhere to go")
	case v.pointer():
		return refuse(pc, ReasonPointerLeak, "writes %v of the guard to the target", v.kind)
	}
	if err := a.note(pc, RegionTarget, span{0, 1}); err != nil {
		return err
	}
	x := &a.seen[pc]
	x.faults = true
	at := scalar.ALU(addImm, base.asNumber().num, scalar.Const(uint64(int64(i.Off))))
	x.passes = x.passes || at.R.UMax >= bpf.MinAddress && at.R.UMin < bpf.EndAddress
	return nil
}

// zero checks HelperZero.
func (a *analysis) zero(pc int, s *state) *Error {
	at, n := s.regs[bpf.R1], s.regs[bpf.R2]
	switch {
	case a.unit.Caps&bpf.CapWrite == 0:
		return refuse(pc, ReasonStoreTarget, "writes to the target's memory without having asked for it; add //pie:cap write")
	case at.pointer():
		return refuse(pc, ReasonPointerArg, "passes %v as memory of the target to write to", at.kind)
	case n.pointer():
		return refuse(pc, ReasonPointerArg, "passes %v as a length", n.kind)
	}
	a.seen[pc].faults, a.seen[pc].passes = true, true
	return nil
}

// writesTarget reports whether i, which accesses x, writes the target's memory.
func writesTarget(i bpf.Insn, x Access) bool {
	return i.IsStore() && x.Region == RegionTarget || i.IsHelperCall() && bpf.Helper(i.Imm) == bpf.HelperZero
}
