package jit

import (
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// legalise gives a register to every constant that no instruction can hold as
// an immediate, drops blocks that do nothing, and counts uses for the last time.
func legalise(f *function) {
	for _, b := range f.blocks {
		old := b.values
		b.values = make([]*value, 0, len(old))
		for _, v := range old {
			b.legaliseArgs(v)
			b.values = append(b.values, v)
		}
		b.legaliseEnd()
	}
	dropDead(f)
	for _, b := range f.blocks {
		for _, v := range b.values {
			if v.memory() && v.args[0].op == opStack {
				v.args[0].uses-- // addressed from rsp
			}
		}
	}
	for _, b := range f.blocks {
		b.values = slices.DeleteFunc(b.values, func(v *value) bool {
			return v.uses == 0 && (v.op == opStack || v.op == opConst || v.op == opUndef || v.op == opFrame)
		})
	}
	skipEmpty(f)
}

// memory reports whether args[0] of v is the base of a memory access.
func (v *value) memory() bool { return v.op == opLoad || v.op == opStore || v.op == opAtomic }

// inRegister returns a value that holds constant c in a register, computed at
// the end of b.
func (b *block) inRegister(c *value) *value {
	w := &value{op: opWide, width: 8, imm: c.imm, block: b, insn: b.insn}
	b.values = append(b.values, w)
	return w
}

// defined returns v, or 0 for what has no value.
func defined(v *value) *value {
	if v.op == opUndef || v.op == opFrame {
		return &value{op: opConst, width: 8, block: v.block}
	}
	return v
}

func fits32(v int64) bool { return v >= math.MinInt32 && v <= math.MaxInt32 }

func (b *block) legaliseArgs(v *value) {
	if v.op == opPhi {
		return
	}
	for i, a := range v.args {
		a = defined(a)
		v.args[i] = a
		if a.isConst() && v.wantsRegister(i, a.imm) {
			v.args[i] = b.inRegister(a)
		}
	}
}

// wantsRegister reports whether argument i of v must be in a register though it
// is the constant n.
func (v *value) wantsRegister(i int, n int64) bool {
	switch v.op {
	case opAdd, opSub, opMul, opAnd, opOr, opXor:
		return v.width == 8 && !fits32(n)
	case opHolds:
		return i == 0 || v.size == 8 && !fits32(n)
	case opLoad, opPlausible:
		return true
	case opStore:
		return i == 0 || v.size == 8 && !fits32(n)
	case opAtomic:
		return true
	}
	return false
}

func (b *block) legaliseEnd() {
	switch b.term {
	case termBranch:
		x, y := defined(b.args[0]), defined(b.args[1])
		if x.isConst() && !y.isConst() {
			x, y, b.cond = y, x, mirrored(b.cond)
		}
		if x.isConst() {
			x = b.inRegister(x)
		}
		if y.isConst() && b.width == 8 && !fits32(y.imm) {
			y = b.inRegister(y)
		}
		b.args = []*value{x, y}
	case termExit:
		for _, p := range b.exit.values() {
			*p = defined(*p)
		}
		if e := b.exit; e.xmm0 != nil && e.xmm0.isConst() {
			e.xmm0 = b.inRegister(e.xmm0)
		}
	}
}

// mirrored returns the comparison that holds for (y, x) when c holds for (x, y).
func mirrored(c uint8) uint8 {
	switch c {
	case bpf.JmpGT:
		return bpf.JmpLT
	case bpf.JmpGE:
		return bpf.JmpLE
	case bpf.JmpLT:
		return bpf.JmpGT
	case bpf.JmpLE:
		return bpf.JmpGE
	case bpf.JmpSGT:
		return bpf.JmpSLT
	case bpf.JmpSGE:
		return bpf.JmpSLE
	case bpf.JmpSLT:
		return bpf.JmpSGT
	case bpf.JmpSLE:
		return bpf.JmpSGE
	}
	return c
}

// skipEmpty leads the predecessor of each block that only jumps to where it
// jumps. Where phis wait there the block stays: it carries their moves.
func skipEmpty(f *function) {
	for _, b := range f.blocks {
		if len(b.values) > 0 || b.term != termJump || len(b.preds) != 1 || b.succs[0] == b {
			continue
		}
		to, from := b.succs[0], b.preds[0]
		if len(to.values) > 0 && to.values[0].op == opPhi {
			continue
		}
		from.succs[slices.Index(from.succs, b)] = to
		to.preds[slices.Index(to.preds, b)] = from
		b.preds = nil
		b.succs = nil
		b.dropped = true
	}
	f.blocks = slices.DeleteFunc(f.blocks, func(b *block) bool { return b.dropped })
}
