package compile

import (
	"go/token"
	"go/types"
	"math/bits"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A value of a type narrower than 64 bits is held extended to 64 as its type is
// signed or not. So comparisons, conversions to wider types and most operations
// need nothing; those that can leave the type's range extend again.

// widest returns the largest unsigned 64-bit form of a leaf's values.
func widest(t leaf) uint64 {
	switch {
	case t.isBool:
		return 1
	case t.signed || t.size == 8:
		return 1<<64 - 1
	}
	return 1<<t.bits() - 1
}

// extend returns o cut to the type t and extended.
func (l *lowerer) extend(o operand, t leaf) operand {
	if t.size == 8 || t.isBool {
		return o
	}
	if o.isConst() {
		shift := 64 - t.bits()
		if t.signed {
			return operand{c: o.c << shift >> shift}
		}
		return operand{c: int64(uint64(o.c) << shift >> shift)}
	}
	if most := l.atMost(o); !t.signed && most <= widest(t) || t.signed && most < 1<<(t.bits()-1) {
		return o
	}
	return l.bound(l.emitTo(insn{op: opExtend, a: o, size: t.size, signed: t.signed}), widest(t))
}

// truth makes a bool of o, of which only the low byte counts: 0, or not 0. For
// b from 1 to 255 the top bit of −b is set.
func (l *lowerer) truth(o operand) operand {
	b := l.extend(o, leaf{size: 1})
	return l.bound(l.alu(bpf.AluRSH, l.alu(bpf.AluSUB, constant0, b), operand{c: 63}), 1)
}

// alu emits a 64-bit operation, or does it now.
func (l *lowerer) alu(op uint8, a, b operand) operand { return l.aluSigned(op, a, b, false) }

func (l *lowerer) aluSigned(op uint8, a, b operand, signed bool) operand {
	if a.isConst() && b.isConst() {
		if c, ok := fold(op, a.c, b.c, signed); ok {
			return operand{c: c}
		}
	}
	switch {
	case b.isConst() && b.c == 0 && (op == bpf.AluADD || op == bpf.AluSUB || op == bpf.AluOR || op == bpf.AluXOR || op == bpf.AluLSH || op == bpf.AluRSH || op == bpf.AluARSH):
		return a
	case b.isConst() && b.c == 1 && (op == bpf.AluMUL || op == bpf.AluDIV):
		return a
	case b.isConst() && b.c == -1 && op == bpf.AluAND:
		return a
	case b.isConst() && b.c == 0 && (op == bpf.AluMUL || op == bpf.AluAND):
		return constant0
	case a.isConst() && (op == bpf.AluADD || op == bpf.AluMUL || op == bpf.AluAND || op == bpf.AluOR || op == bpf.AluXOR):
		return l.aluSigned(op, b, a, signed)
	}
	r := l.emitTo(insn{op: opALU, alu: op, a: a, b: b, signed: signed})
	return l.bound(r, l.mostOf(op, a, b, signed))
}

// mostOf bounds the unsigned result of an operation.
func (l *lowerer) mostOf(op uint8, a, b operand, signed bool) uint64 {
	x, y := l.atMost(a), l.atMost(b)
	const all = 1<<64 - 1
	switch {
	case op == bpf.AluAND:
		return min(x, y)
	case op == bpf.AluOR || op == bpf.AluXOR:
		return 1<<max(bits.Len64(x), bits.Len64(y)) - 1
	case op == bpf.AluADD && x <= all-y:
		return x + y
	case op == bpf.AluMUL:
		if hi, lo := bits.Mul64(x, y); hi == 0 {
			return lo
		}
	case op == bpf.AluRSH:
		if b.isConst() {
			return x >> uint64(b.c&63)
		}
		return x
	case op == bpf.AluDIV && !signed:
		return x
	case op == bpf.AluMOD && !signed && b.isConst() && b.c != 0:
		return uint64(b.c) - 1
	case op == bpf.AluLSH && b.isConst() && bits.Len64(x)+int(b.c&63) <= 64:
		return x << uint64(b.c&63)
	}
	return all
}

// fold does an operation; a division by zero it leaves.
func fold(op uint8, a, b int64, signed bool) (int64, bool) {
	switch op {
	case bpf.AluADD:
		return a + b, true
	case bpf.AluSUB:
		return a - b, true
	case bpf.AluMUL:
		return a * b, true
	case bpf.AluAND:
		return a & b, true
	case bpf.AluOR:
		return a | b, true
	case bpf.AluXOR:
		return a ^ b, true
	case bpf.AluLSH:
		return a << uint64(b&63), true
	case bpf.AluRSH:
		return int64(uint64(a) >> uint64(b&63)), true
	case bpf.AluARSH:
		return a >> uint64(b&63), true
	case bpf.AluDIV, bpf.AluMOD:
		return divide(op, a, b, signed)
	}
	return 0, false
}

func divide(op uint8, a, b int64, signed bool) (int64, bool) {
	switch {
	case b == 0:
		return 0, false
	case signed && op == bpf.AluDIV:
		return a / b, true
	case signed:
		return a % b, true
	case op == bpf.AluDIV:
		return int64(uint64(a) / uint64(b)), true
	}
	return int64(uint64(a) % uint64(b)), true
}

// binary lowers an arithmetic operation or a comparison whose value is used.
func (l *lowerer) binary(in *instance, i *ssa.BinOp) value {
	if isComparison(i.Op) {
		return l.comparison(in, i)
	}
	t, ok := scalar(i.Type())
	if !ok {
		l.fail("", "a guard cannot compute with %s values", typeName(i.Type()))
		return value{}
	}
	a, b := l.scalar(in, i.X), l.scalar(in, i.Y)
	switch i.Op {
	case token.ADD:
		return one(l.extend(l.alu(bpf.AluADD, a, b), t))
	case token.SUB:
		return one(l.extend(l.alu(bpf.AluSUB, a, b), t))
	case token.MUL:
		return one(l.extend(l.alu(bpf.AluMUL, a, b), t))
	case token.AND:
		return one(l.alu(bpf.AluAND, a, b))
	case token.OR:
		return one(l.alu(bpf.AluOR, a, b))
	case token.XOR:
		return one(l.alu(bpf.AluXOR, a, b))
	case token.AND_NOT:
		return one(l.alu(bpf.AluAND, a, l.alu(bpf.AluXOR, b, operand{c: -1})))
	case token.QUO, token.REM:
		return one(l.division(i.Op, a, b, t))
	case token.SHL, token.SHR:
		return one(l.shift(in, i, a, b, t))
	}
	l.fail("", "a guard cannot use the operator %s", i.Op)
	return value{}
}

// division is Go's: by zero it panics. The least number by −1 is itself, as in
// bytecode.
func (l *lowerer) division(op token.Token, a, b operand, t leaf) operand {
	l.faultIf(bpf.JmpEQ, b, constant0)
	alu := uint8(bpf.AluDIV)
	if op == token.REM {
		alu = bpf.AluMOD
	}
	return l.extend(l.aluSigned(alu, a, b, t.signed), t)
}

// shift is Go's: a negative count panics, a count of the width or more leaves
// 0, or the sign. Bytecode uses the low six bits of a count.
func (l *lowerer) shift(in *instance, i *ssa.BinOp, x, count operand, t leaf) operand {
	if ct, ok := scalar(i.Y.Type()); ok && ct.signed {
		l.faultIf(bpf.JmpSLT, count, constant0)
	}
	alu := uint8(bpf.AluLSH)
	switch {
	case i.Op == token.SHR && t.signed:
		alu = bpf.AluARSH
	case i.Op == token.SHR:
		alu = bpf.AluRSH
	}
	if l.atMost(count) <= 63 {
		return l.extend(l.alu(alu, x, count), t)
	}
	if count.isConst() {
		if alu == bpf.AluARSH {
			return l.alu(alu, x, operand{c: 63})
		}
		return constant0
	}
	far := constant0 // what counts above 63 leave
	if alu == bpf.AluARSH {
		far = l.alu(alu, x, operand{c: 63})
	}
	r := l.newReg()
	l.emit(insn{op: opMov, dst: r, a: far})
	near, done := l.newBlock(), l.newBlock()
	l.branch(bpf.JmpGT, count, operand{c: 63}, done, near)
	l.start(near)
	l.emit(insn{op: opALU, dst: r, alu: alu, a: l.inReg(x), b: count})
	l.jump(done)
	l.start(done)
	return l.extend(operand{r: r}, t)
}

// unary lowers an operation with one operand; loads are unary in SSA.
func (l *lowerer) unary(in *instance, i *ssa.UnOp) value {
	switch i.Op {
	case token.MUL:
		return l.load(l.eval(in, i.X), i)
	case token.NOT:
		return one(l.alu(bpf.AluXOR, l.scalar(in, i.X), operand{c: 1}))
	case token.SUB, token.XOR:
		t, ok := scalar(i.Type())
		if !ok {
			l.fail("", "a guard cannot compute with %s values", typeName(i.Type()))
			return value{}
		}
		x := l.scalar(in, i.X)
		if i.Op == token.SUB {
			return one(l.extend(l.alu(bpf.AluSUB, constant0, x), t))
		}
		return one(l.extend(l.alu(bpf.AluXOR, x, operand{c: -1}), t))
	}
	l.fail("", "a guard cannot use the operator %s here", i.Op)
	return value{}
}

// convert lowers T(x).
func (l *lowerer) convert(in *instance, x ssa.Value, to types.Type) value {
	t, ok := scalar(to)
	_, fromScalar := scalar(x.Type())
	if !ok || !fromScalar {
		v := l.eval(in, x)
		if isText(to) && isText(x.Type()) {
			return v
		}
		if s, ok := l.constText(v); ok && isText(x.Type()) && isByteSlice(to) {
			return l.bytesOf(s)
		}
		if b, isBasic := to.Underlying().(*types.Basic); isBasic && b.Info()&types.IsFloat != 0 {
			l.fail("compute with integers: 3*n/2 is n*1.5", "a guard has no floating-point arithmetic")
			return value{}
		}
		l.fail("compare bytes as numbers, and memory with Mem's methods", "a guard cannot convert %s to %s", typeName(x.Type()), typeName(to))
		return value{}
	}
	return one(l.extend(l.scalar(in, x), t))
}
