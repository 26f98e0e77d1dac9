package verify

import (
	"math"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// enter follows a local call into its function.
func (a *analysis) enter(ctx *context, pc int, s *state, i bpf.Insn) *Error {
	entry, _ := i.Target(pc)
	callee, err := a.callee(ctx, pc, a.flow.byEntry[entry])
	if err != nil {
		return err
	}
	var saved [4]value
	copy(saved[:], s.regs[bpf.R6:bpf.R10])
	s.saved = append(s.saved, saved)
	s.stacks = append(s.stacks, nil)
	s.regs[bpf.R0] = value{}
	for r := bpf.R6; r < bpf.R10; r++ {
		s.regs[r] = value{}
	}
	s.regs[bpf.R10] = value{kind: kindStack, base: int32(callee.depth), num: scalar.Const(0)}
	return a.arrive(callee, entry, s)
}

// exit ends a function, or the guard.
func (a *analysis) exit(ctx *context, pc int, s *state) *Error {
	if ctx.depth == 0 {
		return a.conclude(pc, s)
	}
	gone := int32(ctx.depth)
	if r0 := s.regs[bpf.R0]; r0.kind == kindStack && r0.base == gone {
		return refuse(pc, ReasonDangling, "returns an address on the stack of the function that ends here")
	}
	copy(s.regs[bpf.R6:bpf.R10], s.saved[ctx.depth-1][:])
	s.saved = s.saved[:ctx.depth-1]
	s.stacks = s.stacks[:ctx.depth]
	s.owned &= 1<<ctx.depth - 1
	for r := bpf.R1; r <= bpf.R5; r++ {
		s.regs[r] = value{}
	}
	s.regs[bpf.R10] = value{kind: kindStack, base: gone - 1, num: scalar.Const(0)}
	for depth := range s.stacks {
		for k, sl := range s.stacks[depth] {
			if sl.size != 0 && sl.val.kind == kindStack && sl.val.base == gone {
				s.setSlot(int32(depth), k, slot{})
			}
		}
	}
	return a.arrive(ctx.parent, ctx.call+1, s)
}

// conclude checks the verdict in r0: one of a few legal constants, with all that
// it announces stored on this path.
func (a *analysis) conclude(pc int, s *state) *Error {
	r0, err := a.read(pc, s, bpf.R0)
	if err != nil {
		return err
	}
	if r0.pointer() {
		return refuse(pc, ReasonPointerLeak, "ends with %v instead of a verdict", r0.kind)
	}
	candidates, ok := r0.asNumber().num.Members(maxDisjuncts)
	if !ok {
		return refuse(pc, ReasonVerdictUnknown, "ends with a verdict that is not a constant (%v)", r0.asNumber().num)
	}
	for _, c := range candidates {
		v := bpf.Verdict(c)
		if uint64(v) != c || !v.Legal() {
			return refuse(pc, ReasonVerdictIllegal, "ends with %#x, which is no verdict", c)
		}
		switch v.Wants() &^ a.unit.Caps {
		case bpf.CapRewrite:
			return refuse(pc, ReasonCapability, "changes arguments of the call without having asked for it; add //pie:cap rewrite")
		case bpf.CapExit:
			return refuse(pc, ReasonCapability, "ends the process without having asked for it; add //pie:cap exit")
		}
		if err := announced(pc, s, v); err != nil {
			return err
		}
		a.verdicts = append(a.verdicts, v)
	}
	return nil
}

func announced(pc int, s *state, v bpf.Verdict) *Error {
	for w := range bpf.FrameResults {
		if stored := s.stored&(1<<w) != 0; stored || v.Stored()&(1<<w) == 0 {
			continue
		}
		if v.Kind() == bpf.VerdictRewrite {
			return refuse(pc, ReasonArgumentMissing, "changes argument word %d, which is not stored on every path to here", w)
		}
		if v.Kind() == bpf.VerdictExit {
			return refuse(pc, ReasonResultMissing, "ends the process with a code that is not stored on every path to here")
		}
		return refuse(pc, ReasonResultMissing, "rejects with %d result words, but word %d is not stored on every path to here", v.Words(), w)
	}
	switch {
	case v&bpf.VerdictXMM0 != 0 && s.stored&storedXMM0 == 0:
		return refuse(pc, ReasonXMM0Missing, "rejects with a floating-point result that is not stored on every path to here")
	case v&bpf.VerdictErrno != 0 && s.stored&storedErrno == 0:
		return refuse(pc, ReasonErrnoMissing, "rejects with an errno that is not stored on every path to here")
	case v.Kind() == bpf.VerdictLog && s.stored&storedCode == 0:
		return refuse(pc, ReasonCodeMissing, "logs without a code stored on every path to here")
	}
	return nil
}

// helper checks a call of a helper and gives r0 what it can return.
func (a *analysis) helper(ctx *context, pc int, s *state, h bpf.Helper) *Error {
	for r := bpf.R1; r < bpf.R1+h.Args(); r++ {
		if _, err := a.read(pc, s, uint8(r)); err != nil {
			return err
		}
	}
	result, err := a.callHelper(ctx, pc, s, h)
	if err != nil {
		return err
	}
	for r := bpf.R1; r <= bpf.R5; r++ {
		s.regs[r] = value{}
	}
	s.regs[bpf.R0] = number(result)
	return nil
}

func (a *analysis) callHelper(ctx *context, pc int, s *state, h bpf.Helper) (scalar.Set, *Error) {
	switch h {
	case bpf.HelperTid:
		return scalar.Loaded(4, false), nil // a filter set later may answer with an error
	case bpf.HelperNow:
		return scalar.Top(), nil
	case bpf.HelperThread:
		return scalar.Between(1, math.MaxUint64), nil
	}
	if ctx.landing {
		return scalar.Set{}, refuse(pc, ReasonLandingFaults, "calls %v in an onfault or onfuel action, where a fault has nowhere to go", h)
	}
	if h == bpf.HelperStackUsed {
		a.seen[pc].faults, a.seen[pc].passes = true, true
		return scalar.Between(0, bpf.MaxStack), nil
	}
	switch h {
	case bpf.HelperZero:
		return scalar.Const(0), a.zero(pc, s)
	case bpf.HelperInvoke:
		return scalar.Top(), a.invoke(ctx, pc, s)
	}
	n, err := a.memory(ctx, pc, s, bpf.R1, bpf.R2)
	if err != nil {
		return scalar.Set{}, err
	}
	switch h {
	case bpf.HelperFind, bpf.HelperEqual:
		if _, err := a.memory(ctx, pc, s, bpf.R3, bpf.R4); err != nil {
			return scalar.Set{}, err
		}
	case bpf.HelperCount, bpf.HelperIndex:
		if v := s.regs[bpf.R3]; v.pointer() {
			return scalar.Set{}, refuse(pc, ReasonPointerArg, "passes %v as the byte to look for", v.kind)
		}
	}
	switch h {
	case bpf.HelperEqual:
		return scalar.Between(0, 1), nil
	case bpf.HelperIndex, bpf.HelperFind:
		return scalar.SignedBetween(-1, max(n, 1)-1), nil
	}
	return scalar.Between(0, uint64(n)), nil
}

// memory checks a helper's address and length. It returns the longest length
// that does not fault.
func (a *analysis) memory(ctx *context, pc int, s *state, addr, size uint8) (int64, *Error) {
	length, at := s.regs[size], s.regs[addr]
	if length.pointer() {
		return 0, refuse(pc, ReasonPointerArg, "passes %v as a length", length.kind)
	}
	n := int64(min(length.asNumber().num.R.UMax, bpf.MaxLength))
	a.noteRead(pc, addr, at.kind)
	a.seen[pc].faults = true // a length out of range is a fault, whatever is read
	a.seen[pc].passes = true
	switch at.kind {
	case kindFrame:
		return 0, refuse(pc, ReasonPointerArg, "passes the frame's address to a helper; load the argument first")
	case kindState:
		return 0, refuse(pc, ReasonPointerArg, "passes a state address to a helper; helpers do not read the state")
	case kindRodata:
		p, ok := spanOf(at, 0)
		if !ok || p.lo < 0 || p.hi+n > int64(len(a.unit.Rodata)) {
			return 0, refuse(pc, ReasonRodataBounds, "passes up to %d bytes at %s of the constants, which have %d; check the length first", n, offsets(at, 0), len(a.unit.Rodata))
		}
	case kindStack:
		if n == 0 {
			return 0, nil
		}
		p, err := a.onStack(ctx, pc, at, 0, n)
		if err != nil {
			return 0, err
		}
		return n, a.initialised(pc, s, at.base, p, n)
	}
	return n, nil
}

// noteRead records what kind of memory a helper reads at the address in a register.
func (a *analysis) noteRead(pc int, addr uint8, k kind) {
	x := &a.seen[pc].reads[(addr-bpf.R1)/2]
	here := RegionTarget
	switch k {
	case kindStack:
		here = RegionStack
	case kindRodata:
		here = RegionRodata
	}
	if *x != RegionNone && *x != here {
		here = RegionMixed
	}
	*x = here
}
