package verify

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// onStack checks that an access of n bytes lies in the stack that base points
// into, and counts the bytes as used.
func (a *analysis) onStack(ctx *context, pc int, base value, off int16, n int64) (span, *Error) {
	p, ok := spanOf(base, off)
	if !ok || p.lo < -bpf.StackSize || p.hi+n > 0 {
		return p, refuse(pc, ReasonStackBounds, "may touch %d bytes at %s of the guard's stack, which has offsets %d to -1; check the index first",
			n, offsets(base, off), -bpf.StackSize)
	}
	owner := ctx
	for owner.depth > int(base.base) {
		owner = owner.parent
	}
	a.depths[owner.fn] = max(a.depths[owner.fn], int(-p.lo+7)/8*8)
	a.seen[pc].elsewhere = a.seen[pc].elsewhere || owner != ctx
	return p, nil
}

// slotRange is the slots that n bytes from an offset touch, low addresses last.
func slotRange(lo, hi, n int64) (first, last int) {
	return int((-hi - n) / 8), int((-lo - 1) / 8)
}

// maskOf is the bytes of slot k, of a region lo to hi+n, as bits.
func maskOf(k int, lo, hi, n int64) uint8 {
	base := -8 * (int64(k) + 1)
	var m uint8
	for b := range int64(8) {
		if at := base + b; at >= lo && at < hi+n {
			m |= 1 << b
		}
	}
	return m
}

func (a *analysis) loadStack(ctx *context, pc int, s *state, base value, i bpf.Insn) (value, *Error) {
	n := int64(i.Width())
	p, err := a.onStack(ctx, pc, base, i.Off, n)
	if err != nil {
		return value{}, err
	}
	if err := a.note(pc, RegionStack, p); err != nil {
		return value{}, err
	}
	first, last := slotRange(p.lo, p.hi, n)
	if sl := s.slot(base.base, last); p.exact() && first == last && sl.size != 0 {
		off := uint8(p.lo & 7)
		switch {
		case sl.val.pointer() && n == 8 && off == sl.off:
			return sl.val, nil
		case sl.val.kind == kindScalar && off == sl.off && n == int64(sl.size):
			return a.fill(s, base.base, last, i), nil
		case sl.val.kind == kindScalar && off == sl.off && n < int64(sl.size):
			return number(truncated(sl.val.num, i)), nil
		}
	}
	if err := a.initialised(pc, s, base.base, p, n); err != nil {
		return value{}, err
	}
	return number(loaded(i)), nil
}

// fill reads back a number that was spilled whole, linked to the slot.
func (a *analysis) fill(s *state, depth int32, k int, i bpf.Insn) value {
	sl := s.slot(depth, k)
	if sl.size < 8 {
		return number(truncated(sl.val.num, i))
	}
	a.link(&sl.val)
	s.setSlot(depth, k, sl)
	return sl.val
}

func truncated(num scalar.Set, i bpf.Insn) scalar.Set {
	if i.Mode() == bpf.ModeMEMSX {
		return num.SignExtend(uint(8 * i.Width()))
	}
	return num.Truncate(i.Width())
}

// initialised checks that every byte an access may read was written, as a number.
func (a *analysis) initialised(pc int, s *state, depth int32, p span, n int64) *Error {
	first, last := slotRange(p.lo, p.hi, n)
	for k := first; k <= last; k++ {
		sl, m := s.slot(depth, k), maskOf(k, p.lo, p.hi, n)
		if m == 0 {
			continue
		}
		if sl.size != 0 && sl.val.pointer() {
			return refuse(pc, ReasonPartialPointer, "reads a part of %v from the stack as a number", sl.val.kind)
		}
		if m&^sl.init != 0 {
			return refuse(pc, ReasonUninitStack, "reads bytes of the stack between offsets %d and %d that no path, or not every path, has written", p.lo, p.hi+n)
		}
	}
	return nil
}

func (a *analysis) storeStack(ctx *context, pc int, s *state, base, v value, i bpf.Insn) *Error {
	n := int64(i.Width())
	p, err := a.onStack(ctx, pc, base, i.Off, n)
	if err != nil {
		return err
	}
	if err := a.note(pc, RegionStack, p); err != nil {
		return err
	}
	if v.pointer() && (n != 8 || !p.exact() || p.lo%8 != 0) {
		return refuse(pc, ReasonPartialPointer, "stores %v elsewhere than in an aligned 8-byte word of the stack at a known offset", v.kind)
	}
	if v.kind == kindSymbol && (n != 8 || !p.exact() || p.lo%8 != 0) {
		v = v.asNumber()
	}
	first, last := slotRange(p.lo, p.hi, n)
	for k := first; k <= last; k++ {
		if m := maskOf(k, p.lo, p.hi, n); m != 0 {
			s.setSlot(base.base, k, overwrite(s.slot(base.base, k), m, p.exact()))
		}
	}
	if !p.exact() || first != last {
		return nil
	}
	sl := s.slot(base.base, first)
	sl.off, sl.size, sl.val = uint8(p.lo&7), uint8(n), v
	if n < 8 {
		sl.val = number(v.asNumber().num.Truncate(int(n)))
	}
	s.setSlot(base.base, first, sl)
	return nil
}

// overwrite is slot sl after numbers were written to the bytes in mask, or may
// have been to some of them. What is left of an address is no number.
func overwrite(sl slot, mask uint8, certain bool) slot {
	out := slot{init: sl.init}
	if sl.size != 0 && sl.val.pointer() {
		out.init = 0
	}
	if certain {
		out.init |= mask
	}
	return out
}

// atomic is a read-modify-write of a number on the stack.
func (a *analysis) atomic(ctx *context, pc int, s *state, base, v value, i bpf.Insn) *Error {
	if base.kind != kindStack {
		return refuse(pc, ReasonAtomicRegion, "atomic operation on %v; only the guard's stack can be changed", base.kind)
	}
	n := int64(i.Width())
	p, err := a.onStack(ctx, pc, base, i.Off, n)
	if err != nil {
		return err
	}
	if !p.exact() || p.lo%n != 0 {
		return refuse(pc, ReasonAtomicAlign, "atomic operation of %d bytes at %s of the stack; it must be one multiple of its size", n, offsets(base, i.Off))
	}
	if v.pointer() {
		return refuse(pc, ReasonPointerALU, "atomic operation with %v", v.kind)
	}
	if err := a.initialised(pc, s, base.base, p, n); err != nil {
		return err
	}
	old := number(scalar.Loaded(int(n), false))
	if err := a.storeStack(ctx, pc, s, base, old, i); err != nil {
		return err
	}
	switch {
	case i.Imm == bpf.AtomicCMPXCHG:
		r0, err := a.read(pc, s, bpf.R0)
		if err != nil {
			return err
		}
		if r0.pointer() {
			return refuse(pc, ReasonPointerALU, "atomic comparison with %v", r0.kind)
		}
		s.regs[bpf.R0] = old
	case i.Imm&bpf.AtomicFetch != 0:
		s.regs[i.Src] = old
	}
	return nil
}
