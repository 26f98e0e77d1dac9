package verify

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// jump runs jumps, calls and exit.
func (a *analysis) jump(ctx *context, pc int, s *state, i bpf.Insn) (outcome, *Error) {
	x := &a.seen[pc]
	switch {
	case i.Op == bpf.OpEXIT:
		return outcome{}, a.exit(ctx, pc, s)
	case i.IsLocalCall():
		x.through = true
		return outcome{}, a.enter(ctx, pc, s, i)
	case i.IsHelperCall():
		if err := a.helper(ctx, pc, s, bpf.Helper(i.Imm)); err != nil {
			return outcome{}, err
		}
		x.through = true
		return outcome{pc: pc + 1, s: s}, nil
	}
	target, _ := i.Target(pc)
	if ctx.landing && i.IsBackEdge(pc) {
		return outcome{}, refuse(pc, ReasonLandingLoops, "jumps back in an onfault or onfuel action, which must end by itself")
	}
	if !i.IsConditional() {
		x.jumped = true
		return outcome{pc: target, s: s}, nil
	}
	return a.branch(pc, target, s, i)
}

// branch splits a state at a conditional jump.
func (a *analysis) branch(pc, target int, s *state, i bpf.Insn) (outcome, *Error) {
	dst, err := a.read(pc, s, i.Dst)
	if err != nil {
		return outcome{}, err
	}
	src, err := a.operand(pc, s, i)
	if err != nil {
		return outcome{}, err
	}
	if dst.pointer() || src.pointer() {
		if dst, src, i, err = comparable(pc, i, dst, src); err != nil {
			return outcome{}, err
		}
	} else {
		dst, src = dst.asNumber(), src.asNumber()
	}
	a.mark(pc, i, dst, src)
	var out outcome
	if falls := s.clone(); refine(falls, a.unit.Insns[pc], i, false, dst, src) {
		a.seen[pc].through = true
		out.pc, out.s = pc+1, falls
	}
	if refine(s, a.unit.Insns[pc], i, true, dst, src) {
		a.seen[pc].jumped = true
		if out.s == nil {
			return outcome{pc: target, s: s}, nil
		}
		out.otherPC, out.other = target, s
	}
	return out, nil
}

// comparable turns a comparison with addresses into one of numbers: offsets in
// the same memory, which order as the addresses do while they are near it, or
// an address and 0, which it never is.
func comparable(pc int, i bpf.Insn, dst, src value) (value, value, bpf.Insn, *Error) {
	op := i.Operation()
	zero := constant(0)
	switch {
	case i.Class() != bpf.ClassJMP || dst.kind == kindFrame || src.kind == kindFrame:
	case dst.farOff() || src.farOff():
		return dst, src, i, refuse(pc, ReasonPointerOffset, "compares %v with %v, and an address may be far outside its memory", dst.kind, src.kind)
	case dst.sameBase(src) && op != bpf.JmpSET:
		if signed, ok := signedForms[op]; ok {
			i.Op = i.Op&^0xf0 | signed
		}
		return dst, src, i, nil
	case (op == bpf.JmpEQ || op == bpf.JmpNE) && dst.pointer() && src.num == zero.num && src.kind == kindScalar:
		return constant(1), zero, i, nil
	case (op == bpf.JmpEQ || op == bpf.JmpNE) && src.pointer() && dst.num == zero.num && dst.kind == kindScalar:
		return zero, constant(1), i, nil
	}
	return dst, src, i, refuse(pc, ReasonPointerCompare, "compares %v with %v, which tells where the guard's memory is", dst.kind, src.kind)
}

// farOff reports whether v is an address that may be so far from its memory that it
// does not order as its offset does, or is 0: nothing of a guard's lies below
// bpf.MinAddress.
func (v value) farOff() bool {
	return v.pointer() && (v.num.R.SMin <= -bpf.MinAddress || v.num.R.SMax > bpf.MaxDistance)
}

var signedForms = map[uint8]uint8{bpf.JmpGT: bpf.JmpSGT, bpf.JmpGE: bpf.JmpSGE, bpf.JmpLT: bpf.JmpSLT, bpf.JmpLE: bpf.JmpSLE}

// refine tells s that the comparison cmp of dst and src held or not, and reports
// whether that is possible. at is the jump itself, which says which registers.
func refine(s *state, at, cmp bpf.Insn, taken bool, dst, src value) bool {
	same := at.Op&bpf.SrcX != 0 && (at.Dst == at.Src || dst.id != 0 && dst.id == src.id && dst.delta == src.delta)
	if same && cmp.Operation() != bpf.JmpSET {
		return bpf.Compare(cmp, 0, 0) == taken
	}
	if same { // x & x is x
		cmp.Op = cmp.Op&^0xf8 | bpf.JmpNE
		src = constant(0)
	}
	d, r, ok := scalar.Refine(cmp, taken, dst.num, src.num)
	if !ok {
		return false
	}
	if s.regs[at.Dst].sameBase(dst) {
		s.refine(at.Dst, d)
	}
	if at.Op&bpf.SrcX != 0 && !same && s.regs[at.Src].sameBase(src) {
		s.refine(at.Src, r)
	}
	return true
}

// mark makes the bounds of what is compared thresholds of widening, once.
func (a *analysis) mark(pc int, i bpf.Insn, dst, src value) {
	x := &a.seen[pc]
	if x.marked || i.Op&bpf.SrcX == 0 {
		return
	}
	x.marked = true
	for _, v := range []value{dst, src} {
		a.thresholds.Add(v.num.R.UMax)
		a.thresholds.Add(uint64(v.num.R.SMax))
		a.thresholds.Add(uint64(v.num.R.SMin))
	}
}
