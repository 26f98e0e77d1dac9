package verify

import (
	"math"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// How far numbers move in one round of a loop is found by following, from the
// head, for every place that holds one, which place its value came from and how
// much was added since.

// A place is a register (0–9) or, from slotPlace on, an aligned word of the
// function's own stack.
const (
	slotPlace = int(bpf.R10)
	numPlaces = slotPlace + bpf.StackSize/8
)

// A change says that a place holds what origin held at the head plus lo to hi.
// The zero change is no such knowledge.
type change struct {
	known  bool
	origin uint8
	lo, hi int64
}

// maxChange bounds additions, so that sums cannot overflow.
const maxChange = 1 << 40

func (c change) plus(lo, hi int64) change {
	if !c.known || lo < -maxChange || hi > maxChange {
		return change{}
	}
	if c.lo, c.hi = c.lo+lo, c.hi+hi; c.lo < -maxChange || c.hi > maxChange {
		return change{}
	}
	return c
}

func (c change) join(d change) change {
	if !c.known || !d.known || c.origin != d.origin {
		return change{}
	}
	c.lo, c.hi = min(c.lo, d.lo), max(c.hi, d.hi)
	return c
}

// changes are those of all places at one instruction.
type changes [numPlaces]change

// apply follows one instruction.
func (r *result) apply(pc int, c *changes) {
	i := r.unit.Insns[pc]
	switch i.Class() {
	case bpf.ClassALU, bpf.ClassALU64:
		c[i.Dst] = r.applyALU(pc, i, c)
	case bpf.ClassLD:
		c[i.Dst] = change{}
	case bpf.ClassLDX:
		from := change{}
		if p, ok := r.ownWord(pc); ok {
			from = c[p]
		}
		c[i.Dst] = from
	case bpf.ClassST, bpf.ClassSTX:
		r.applyStore(pc, i, c)
	default:
		if i.Op == bpf.OpCALL {
			clear(c[bpf.R0 : bpf.R5+1])
		}
		if i.IsLocalCall() || i.IsHelperCall() && bpf.Helper(i.Imm) == bpf.HelperInvoke { // both write to the stack
			clear(c[slotPlace:])
		}
	}
}

// ownWord is the place that an access of one aligned word of the function's own
// stack reads or writes.
func (r *result) ownWord(pc int) (place int, ok bool) {
	x := &r.seen[pc]
	off := x.access.Offset
	if x.access.Region != RegionStack || !x.access.Known || x.elsewhere || r.unit.Insns[pc].Width() != 8 || off%8 != 0 {
		return 0, false
	}
	return slotPlace - off/8 - 1, true
}

func (r *result) applyStore(pc int, i bpf.Insn, c *changes) {
	if i.IsAtomic() {
		if _, defs := effects(i); defs != 0 {
			c[i.Src], c[bpf.R0] = change{}, change{}
		}
	}
	x := &r.seen[pc]
	switch p, ok := r.ownWord(pc); {
	case ok && i.Class() == bpf.ClassSTX && !i.IsAtomic():
		c[p] = c[i.Src]
	case ok:
		c[p] = change{}
	case x.access.Region == RegionFrame, x.access.Region == RegionState:
	default:
		clear(c[slotPlace:])
	}
}

func (r *result) applyALU(pc int, i bpf.Insn, c *changes) change {
	regs := &r.seen[pc].regs
	src := constant(uint64(int64(i.Imm)))
	from := change{}
	if i.Op&bpf.SrcX != 0 {
		src, from = regs[i.Src], c[i.Src]
	}
	dst := regs[i.Dst]
	switch i.Operation() {
	case bpf.AluMOV:
		if whole := i.Class() == bpf.ClassALU64 && i.Off == 0; src.readable() && (whole || src.kind == kindScalar) && unchanged(i, src.num) {
			return from
		}
	case bpf.AluADD:
		if !exactSum(i, dst, src, 1) {
			return change{}
		}
		if src.kind == kindScalar && c[i.Dst].known {
			return c[i.Dst].plus(src.num.R.SMin, src.num.R.SMax)
		}
		if dst.kind == kindScalar {
			return from.plus(dst.num.R.SMin, dst.num.R.SMax)
		}
	case bpf.AluSUB:
		lo, hi := src.num.R.SMin, src.num.R.SMax
		if src.kind == kindScalar && lo > -maxChange && exactSum(i, dst, src, -1) {
			return c[i.Dst].plus(-hi, -lo)
		}
	}
	return change{}
}

// unchanged reports whether a MOV gives exactly its operand.
func unchanged(i bpf.Insn, num scalar.Set) bool {
	switch {
	case i.Op&bpf.SrcX == 0:
		return false
	case i.Off != 0 && i.Class() == bpf.ClassALU64:
		lo, hi := int64(-1)<<(i.Off-1), int64(1)<<(i.Off-1)-1
		return num.R.SMin >= lo && num.R.SMax <= hi
	case i.Off != 0:
		return false
	}
	return i.Class() == bpf.ClassALU64 || num.R.UMax <= math.MaxUint32
}

// exactSum reports whether a 64-bit sum or difference of numbers stands for what
// the instruction computes: always, or in 32 bits when nothing overflows.
func exactSum(i bpf.Insn, dst, src value, sign int64) bool {
	if i.Class() == bpf.ClassALU64 {
		return true
	}
	if dst.kind != kindScalar || src.kind != kindScalar || dst.num.R.UMax > math.MaxUint32 {
		return false
	}
	a, b := dst.num.R, src.num.R
	if b.SMin < -maxChange || b.SMax > maxChange {
		return false
	}
	lo, hi := a.SMin+b.SMin, a.SMax+b.SMax
	if sign < 0 {
		lo, hi = a.SMin-b.SMax, a.SMax-b.SMin
	}
	return lo >= 0 && hi <= math.MaxUint32
}
