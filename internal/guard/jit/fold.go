package jit

import (
	"math/bits"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// verdictOf returns a constant verdict.
func verdictOf(v *value) bpf.Verdict { return bpf.Verdict(uint32(v.imm)) }

// carried says what of the frame a verdict takes with it.
func carried(v bpf.Verdict) (words int, xmm0, errno, code bool) {
	switch v.Kind() {
	case bpf.VerdictReject:
		return v.Words(), v&bpf.VerdictXMM0 != 0, v&bpf.VerdictErrno != 0, true
	case bpf.VerdictExit:
		return 1, false, false, true
	case bpf.VerdictRewrite:
		return bits.Len16(v.Rewrites()), false, false, true
	case bpf.VerdictLog:
		return 0, false, false, true
	}
	return 0, false, false, false
}

// fold makes v simpler when it can and reports whether it did.
func fold(v *value) bool {
	for i, a := range v.args {
		v.args[i] = a.find()
	}
	switch v.op {
	case opAdd, opSub, opMul, opAnd, opOr, opXor, opShl, opShr, opSar, opDiv, opMod, opSDiv, opSMod:
		return stripExtensions(v) || foldBinary(v)
	case opNeg, opZext, opSext, opSwap:
		return foldUnary(v)
	case opLoad, opStore, opAtomic:
		return foldBase(v)
	}
	return false
}

// stripExtensions drops extensions that a 32-bit operation does not see.
func stripExtensions(v *value) bool {
	changed := false
	for i, a := range v.args {
		if v.width == 4 && (a.op == opZext || a.op == opSext) && a.size == 4 {
			v.args[i], changed = a.args[0], true
		}
	}
	return changed
}

// become turns v into a constant.
func (v *value) become(n int64) bool {
	v.op, v.imm, v.args, v.width = opConst, n, nil, 8
	return true
}

// forward makes every use of v one of w.
func (v *value) forward(w *value) bool {
	v.fwd = w
	return true
}

func foldBinary(v *value) bool {
	x, y := v.args[0], v.args[1]
	if x.isConst() && y.isConst() {
		return v.become(compute(v.op, v.width, x.imm, y.imm))
	}
	if x.isConst() && (v.op == opAdd || v.op == opMul || v.op == opAnd || v.op == opOr || v.op == opXor) {
		v.args[0], v.args[1] = y, x
		return true
	}
	if x == y && (v.op == opSub || v.op == opXor) {
		return v.become(0)
	}
	if !y.isConst() {
		return false
	}
	if v.width == 8 {
		switch v.op {
		case opAdd, opSub, opOr, opXor, opShl, opShr, opSar:
			if y.imm == 0 {
				return v.forward(x)
			}
		}
		if v.op == opSub && y.imm != -1<<63 {
			v.op = opAdd
			v.args[1] = &value{op: opConst, width: 8, imm: -y.imm, block: v.block}
			return true
		}
		if v.op == opAdd && x.op == opStack && near30(x.imm+y.imm) {
			v.op, v.imm, v.args = opStack, x.imm+y.imm, nil
			return true
		}
		if v.op == opAdd && x.op == opAdd && x.width == 8 && x.args[1].isConst() {
			sum := x.args[1].imm + y.imm
			v.args[0], v.args[1] = x.args[0], &value{op: opConst, width: 8, imm: sum, block: v.block}
			return true
		}
	}
	return foldExtension(v, x, y)
}

// foldExtension turns a shift up and down again into an extension.
func foldExtension(v, x, y *value) bool {
	if v.op != opShr && v.op != opSar || v.width != 8 || x.op != opShl || x.width != 8 || !x.args[1].isConst() {
		return false
	}
	n := y.imm & 63
	if x.args[1].imm&63 != n || n != 32 && n != 48 && n != 56 {
		return false
	}
	arith := v.op == opSar
	v.op, v.size, v.args = opZext, uint8((64-n)/8), []*value{x.args[0]}
	if arith {
		v.op = opSext
	}
	return true
}

func foldUnary(v *value) bool {
	x := v.args[0]
	if x.isConst() {
		return v.become(computeUnary(v, x.imm))
	}
	if (x.op == opZext || x.op == opSext) && v.op != opNeg && v.size <= x.size {
		v.args[0] = x.args[0]
		return true
	}
	if v.op == opZext && zeroAbove(x, v.size) {
		return v.forward(x)
	}
	return false
}

// zeroAbove reports whether all bytes of v from size on are known to be 0.
func zeroAbove(v *value, size uint8) bool {
	switch v.op {
	case opLoad:
		return !v.sext && v.size <= size
	case opZext, opSwap:
		return v.size <= size
	case opHolds:
		return true
	case opPhi, opSP, opReturn, opArg, opHelper, opThread, opStackUsed, opStack, opSymbol, opRodata, opState, opAtomic, opUndef:
		return false
	}
	return size >= 4 && v.width == 4
}

// foldBase moves a constant added to the base of a memory access into its
// displacement.
func foldBase(v *value) bool {
	base := v.args[0]
	if base.op != opAdd || base.width != 8 || !base.args[1].isConst() {
		return false
	}
	if d := v.imm + base.args[1].imm; near30(base.args[1].imm) && near30(d) {
		v.imm, v.args[0] = d, base.args[0]
		return true
	}
	return false
}

// near30 reports whether an offset leaves room in a displacement of 32 bits.
func near30(off int64) bool { return off > -1<<30 && off < 1<<30 }

func compute(o op, width uint8, x, y int64) int64 {
	if width == 4 {
		return int64(uint32(compute32(o, int32(x), int32(y))))
	}
	switch o {
	case opAdd:
		return x + y
	case opSub:
		return x - y
	case opMul:
		return x * y
	case opAnd:
		return x & y
	case opOr:
		return x | y
	case opXor:
		return x ^ y
	case opShl:
		return x << (y & 63)
	case opShr:
		return int64(uint64(x) >> (y & 63))
	case opSar:
		return x >> (y & 63)
	}
	switch zero := y == 0; {
	case zero && (o == opDiv || o == opSDiv):
		return 0
	case zero:
		return x
	case o == opDiv:
		return int64(uint64(x) / uint64(y))
	case o == opMod:
		return int64(uint64(x) % uint64(y))
	case o == opSDiv:
		return x / y // Go defines min / −1 as min
	}
	return x % y
}

func compute32(o op, x, y int32) int32 {
	switch o {
	case opShl:
		return x << (y & 31)
	case opShr:
		return int32(uint32(x) >> (y & 31))
	case opSar:
		return x >> (y & 31)
	case opDiv, opMod:
		return int32(compute(o, 8, int64(uint32(x)), int64(uint32(y))))
	}
	return int32(compute(o, 8, int64(x), int64(y)))
}

func computeUnary(v *value, x int64) int64 {
	switch v.op {
	case opNeg:
		x = -x
	case opZext:
		return int64(uint64(x) << (64 - 8*v.size) >> (64 - 8*v.size))
	case opSext:
		x = x << (64 - 8*v.size) >> (64 - 8*v.size)
	case opSwap:
		return int64(bits.ReverseBytes64(uint64(x)) >> (64 - 8*v.size))
	}
	if v.width == 4 {
		return int64(uint32(x))
	}
	return x
}

// foldBranch decides a branch on constants, and narrows comparisons of extended
// values to 32 bits.
func foldBranch(b *block) bool {
	if b.term != termBranch {
		return false
	}
	x, y := b.args[0], b.args[1]
	if x.isConst() && y.isConst() {
		if holds(b.cond, b.width, x.imm, y.imm) {
			b.keepOnly(0)
		} else {
			b.keepOnly(1)
		}
		return true
	}
	if b.width == 4 {
		if x.op == opZext && x.size == 4 || x.op == opSext && x.size == 4 {
			b.args[0] = x.args[0]
			return true
		}
		return false
	}
	return narrow(b, x, y)
}

// narrow turns a 64-bit comparison of an extended int32 or uint32 with a
// constant in range into a 32-bit one.
func narrow(b *block, x, y *value) bool {
	if !y.isConst() || b.cond == bpf.JmpSET || x.size != 4 {
		return false
	}
	switch {
	case x.op == opSext && x.width == 8 && y.imm == int64(int32(y.imm)):
	case x.op == opZext && y.imm >= 0 && y.imm == int64(int32(y.imm)):
		b.cond = unsigned(b.cond)
	default:
		return false
	}
	b.width, b.args[0] = 4, x.args[0]
	return true
}

// unsigned returns the unsigned comparison that equals c for numbers ≥ 0.
func unsigned(c uint8) uint8 {
	switch c {
	case bpf.JmpSGT:
		return bpf.JmpGT
	case bpf.JmpSGE:
		return bpf.JmpGE
	case bpf.JmpSLT:
		return bpf.JmpLT
	case bpf.JmpSLE:
		return bpf.JmpLE
	}
	return c
}

// holds evaluates a comparison.
func holds(cond, width uint8, x, y int64) bool {
	ux, uy := uint64(x), uint64(y)
	if width == 4 {
		x, y, ux, uy = int64(int32(x)), int64(int32(y)), uint64(uint32(x)), uint64(uint32(y))
	}
	switch cond {
	case bpf.JmpEQ:
		return ux == uy
	case bpf.JmpNE:
		return ux != uy
	case bpf.JmpGT:
		return ux > uy
	case bpf.JmpGE:
		return ux >= uy
	case bpf.JmpLT:
		return ux < uy
	case bpf.JmpLE:
		return ux <= uy
	case bpf.JmpSGT:
		return x > y
	case bpf.JmpSGE:
		return x >= y
	case bpf.JmpSLT:
		return x < y
	case bpf.JmpSLE:
		return x <= y
	}
	return ux&uy != 0 // JSET
}
