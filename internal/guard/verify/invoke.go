package verify

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// invoke checks HelperInvoke: it calls only what the guard names, with numbers, and
// leaves numbers.
func (a *analysis) invoke(ctx *context, pc int, s *state) *Error {
	fn, block := s.regs[bpf.R1], s.regs[bpf.R2]
	at, exact := block.num.Const()
	switch {
	case a.unit.Caps&bpf.CapCall == 0:
		return refuse(pc, ReasonCapability, "calls a function of the target without having asked for it; add //pie:cap call")
	case a.unit.State < bpf.StateFirst+bpf.InsideSize:
		return refuse(pc, ReasonCapability, "calls a function of the target, and its state has no room to tell which threads are in a call")
	case fn.kind != kindSymbol || fn.num != scalar.Const(0) || a.unit.Symbols[fn.base].Kind != bpf.SymbolFunc:
		return refuse(pc, ReasonInvoke, "calls what is not the address of one function that the guard names")
	case block.kind != kindStack || !exact || at%8 != 0:
		return refuse(pc, ReasonInvoke, "passes %v as the block of a call, which is %d aligned bytes at a known place of the guard's stack", block.kind, bpf.InvokeSize)
	}
	p, err := a.onStack(ctx, pc, block, 0, bpf.InvokeSize)
	if err != nil {
		return err
	}
	if err := a.initialised(pc, s, block.base, p, 8*bpf.InvokeArgs); err != nil {
		return err
	}
	for off := int64(0); off < bpf.InvokeSize; off += 8 {
		k, _ := slotRange(p.lo+off, p.lo+off, 8)
		if off == bpf.InvokeWord || off >= bpf.InvokeXMM0 {
			s.setSlot(block.base, k, slot{init: 0xff, size: 8, val: number(scalar.Top())})
		}
	}
	a.seen[pc].faults, a.seen[pc].passes = true, true
	return nil
}

// Calls returns the names of the functions that the guard may call, each once.
func (p *Program) Calls() []string {
	var names []string
	for i := range p.facts {
		if f := &p.facts[i]; f.reachable && f.calls != "" {
			names = append(names, f.calls)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
