package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// operand returns the register that holds v, loading it from its slot into the
// n-th scratch register when it lives there. v is placed.
func (e *emitter) operand(v *value, n int) amd64.Reg {
	if v.loc.reg != amd64.NoReg {
		return v.loc.reg
	}
	e.Load(8, e.regs.scratch[n], e.slot(v.loc.slot))
	return e.regs.scratch[n]
}

// result returns the register v is to be computed in; keep must follow.
func (e *emitter) result(v *value) amd64.Reg {
	if v.loc.reg != amd64.NoReg {
		return v.loc.reg
	}
	return e.regs.scratch[spillScratch-1]
}

// keep stores the result of v when it lives in a slot.
func (e *emitter) keep(v *value) {
	if v.loc.reg == amd64.NoReg {
		e.Store(8, e.slot(v.loc.slot), e.regs.scratch[spillScratch-1])
	}
}

// move sets dst to v.
func (e *emitter) move(dst amd64.Reg, v *value) {
	switch {
	case v.isConst():
		e.MovImm(dst, v.imm)
	case v.loc.reg == amd64.NoReg:
		e.Load(8, dst, e.slot(v.loc.slot))
	case v.loc.reg != dst:
		e.Mov(8, dst, v.loc.reg)
	}
}

// value writes the code of v.
func (e *emitter) value(v *value) {
	switch v.op {
	case opPhi, opConst, opUndef, opFrame:
		return
	case opLoad:
		e.load(v)
	case opStore:
		e.store(v)
		return
	case opAtomic:
		e.atomic(v)
	case opHelper:
		e.helper(v)
	case opStackUsed:
		e.stackUsed(v)
	case opThread:
		e.thread(e.result(v))
	case opPlausible:
		e.look(v)
		return
	case opFuel:
		e.burn(int32(v.imm))
		return
	case opShl, opShr, opSar:
		e.shift(v)
	case opDiv, opMod, opSDiv, opSMod:
		e.divide(v)
	case opNeg, opZext, opSext, opSwap:
		e.unary(v)
	case opHolds:
		e.holds(v)
	case opArg, opSP, opReturn, opStack, opSymbol, opRodata, opState, opWide:
		if v.uses == 0 || v.op == opArg && !e.regs.homes {
			return
		}
		e.given(v)
	default:
		e.binary(v)
	}
	e.keep(v)
}

// given writes values that need no operand.
func (e *emitter) given(v *value) {
	d := e.result(v)
	entry := e.frameSize() + e.site.SPDelta
	switch v.op {
	case opArg:
		r := e.regs.conv.args[v.imm]
		if m, ok := e.savedAt(r); ok {
			e.Load(8, d, m)
		} else if d != r {
			e.Mov(8, d, r)
		}
	case opSP:
		e.Lea(d, amd64.At(amd64.RSP, entry))
	case opReturn:
		e.Load(8, d, amd64.At(amd64.RSP, entry))
	case opStack:
		e.Lea(d, amd64.At(amd64.RSP, e.fromR10(v.imm)))
	case opSymbol:
		e.MovImm(d, int64(e.l.Symbols[v.imm]))
	case opState:
		e.MovImm(d, int64(e.l.State.Add(v.imm)))
	case opRodata:
		e.Lea(d, amd64.LabelMem(e.rodata))
		if v.imm != 0 {
			e.Lea(d, amd64.At(d, int32(v.imm)))
		}
	case opWide:
		e.MovImm(d, v.imm)
	}
}

// fromR10 returns the displacement from rsp of an offset from the bytecode's r10.
func (e *emitter) fromR10(off int64) int32 { return e.pushed + e.stack + int32(off) }

var arith = map[op]amd64.Arith{
	opAdd: amd64.Add, opSub: amd64.Sub, opAnd: amd64.And, opOr: amd64.Or, opXor: amd64.Xor,
}

// binary writes add, sub, mul, and, or, xor.
func (e *emitter) binary(v *value) {
	x, y, w := v.args[0], v.args[1], amd64.Size(v.width)
	d := e.result(v)
	switch {
	case y.isConst():
		e.binaryImm(v, d, x, int32(y.imm))
		return
	case x.isConst() && v.op != opSub:
		e.binaryImm(v, d, y, int32(x.imm))
		return
	}
	b := e.operand(y, 1)
	if !x.isConst() && v.op == opAdd && v.width == 8 {
		if a := e.operand(x, 0); d != a && d != b {
			e.Lea(d, amd64.Indexed(a, b, 1, 0))
			return
		}
	}
	if d == b { // the second operand is in the way
		if v.op == opSub {
			e.Un(amd64.Neg, w, d)
			if x.isConst() {
				e.OpImm(amd64.Add, w, d, int32(x.imm))
			} else {
				e.Op(amd64.Add, w, d, e.operand(x, 0))
			}
			return
		}
		b = e.operand(x, 0)
	} else {
		e.move(d, x)
	}
	if v.op == opMul {
		e.IMul(w, d, b)
		return
	}
	e.Op(arith[v.op], w, d, b)
}

// binaryImm writes the same with a constant second operand.
func (e *emitter) binaryImm(v *value, d amd64.Reg, x *value, n int32) {
	w := amd64.Size(v.width)
	if v.op == opMul && !x.isConst() {
		e.IMulImm(w, d, e.operand(x, 0), n)
		return
	}
	if v.op == opAdd && v.width == 8 && !x.isConst() {
		if a := e.operand(x, 0); a != d {
			e.Lea(d, amd64.At(a, n))
			return
		}
	}
	e.move(d, x)
	if v.op == opMul {
		e.IMulImm(w, d, d, n)
		return
	}
	e.OpImm(arith[v.op], w, d, n)
}

var shifts = map[op]amd64.Shift{opShl: amd64.Shl, opShr: amd64.Shr, opSar: amd64.Sar}

// shift writes a shift; the count is taken modulo the width, as the machine does.
// A variable count must be in cl, whatever else lives in rcx.
func (e *emitter) shift(v *value) {
	w, d, o := amd64.Size(v.width), e.result(v), shifts[v.op]
	if y := v.args[1]; y.isConst() {
		e.move(d, v.args[0])
		n := uint8(y.imm) & (v.width*8 - 1)
		if n == 0 {
			if w == 4 {
				e.Mov(4, d, d)
			}
			return
		}
		e.ShiftImm(o, w, d, n)
		return
	}
	t, count := v.temp[0], e.operand(v.args[1], 1)
	e.move(d, v.args[0])
	switch {
	case d == amd64.RCX:
		e.Mov(8, t, d)
		e.Mov(4, amd64.RCX, count)
		e.ShiftCL(o, w, t)
		e.Mov(8, d, t)
	case count == amd64.RCX:
		e.ShiftCL(o, w, d)
	default:
		e.Mov(8, t, amd64.RCX)
		e.Mov(4, amd64.RCX, count)
		e.ShiftCL(o, w, d)
		e.Mov(8, amd64.RCX, t)
	}
}

// divide writes division and remainder. The machine wants rax and rdx, which
// may hold anything; they are put back. It traps on a zero divisor and on
// min/−1, for which RFC 9669 defines results.
func (e *emitter) divide(v *value) {
	w, d := amd64.Size(v.width), e.result(v)
	divisor, rax, rdx := v.temp[0], v.temp[1], v.temp[2]
	signed := v.op == opSDiv || v.op == opSMod
	modulo := v.op == opMod || v.op == opSMod
	zero, minus, done := e.Label(), e.Label(), e.Label()
	e.move(divisor, v.args[1])
	e.Test(w, divisor, divisor)
	e.Jcc(amd64.CondE, zero)
	if signed {
		e.OpImm(amd64.Cmp, w, divisor, -1)
		e.Jcc(amd64.CondE, minus)
	}
	e.Mov(8, rax, amd64.RAX)
	e.Mov(8, rdx, amd64.RDX)
	e.move(amd64.RAX, v.args[0])
	if signed {
		e.SignExtendA(w)
		e.Un(amd64.IDiv, w, divisor)
	} else {
		e.Op(amd64.Xor, 4, amd64.RDX, amd64.RDX)
		e.Un(amd64.Div, w, divisor)
	}
	quotient := amd64.RAX
	if modulo {
		quotient = amd64.RDX
	}
	e.Mov(w, divisor, quotient)
	e.Mov(8, amd64.RAX, rax)
	e.Mov(8, amd64.RDX, rdx)
	e.Mov(8, d, divisor)
	e.Jmp(done)
	e.Bind(zero)
	if modulo {
		e.move(d, v.args[0])
		e.Mov(w, d, d)
	} else {
		e.Op(amd64.Xor, 4, d, d)
	}
	if signed {
		e.Jmp(done)
		e.Bind(minus)
		if modulo {
			e.Op(amd64.Xor, 4, d, d)
		} else {
			e.move(d, v.args[0])
			e.Un(amd64.Neg, w, d)
		}
	}
	e.Bind(done)
}

// unary writes negation, extensions and byte swaps.
func (e *emitter) unary(v *value) {
	d, size := e.result(v), amd64.Size(v.size)
	switch v.op {
	case opNeg:
		e.move(d, v.args[0])
		e.Un(amd64.Neg, amd64.Size(v.width), d)
	case opZext:
		e.MovZX(size, d, e.operandOrMove(v, d))
	case opSext:
		e.MovSX(amd64.Size(v.width), size, d, e.operandOrMove(v, d))
	case opSwap:
		e.move(d, v.args[0])
		if size == 2 {
			e.ShiftImm(amd64.Rol, 2, d, 8)
			e.MovZX(2, d, d)
			return
		}
		e.Bswap(size, d)
	}
}

// operandOrMove returns the register of the operand of v; a constant is moved
// to d first.
func (e *emitter) operandOrMove(v *value, d amd64.Reg) amd64.Reg {
	if v.args[0].isConst() {
		e.move(d, v.args[0])
		return d
	}
	return e.operand(v.args[0], 0)
}

var conditions = map[uint8]amd64.Cond{
	bpf.JmpEQ: amd64.CondE, bpf.JmpNE: amd64.CondNE, bpf.JmpSET: amd64.CondNE,
	bpf.JmpGT: amd64.CondA, bpf.JmpGE: amd64.CondAE, bpf.JmpLT: amd64.CondB, bpf.JmpLE: amd64.CondBE,
	bpf.JmpSGT: amd64.CondG, bpf.JmpSGE: amd64.CondGE, bpf.JmpSLT: amd64.CondL, bpf.JmpSLE: amd64.CondLE,
}

// flags compares the low w bytes of args and returns the condition that then stands for cond.
func (e *emitter) flags(cond uint8, w amd64.Size, args []*value) amd64.Cond {
	x, y := e.operand(args[0], 0), args[1]
	switch {
	case cond == bpf.JmpSET && y.isConst():
		e.TestImm(w, x, int32(y.imm))
	case cond == bpf.JmpSET:
		e.Test(w, x, e.operand(y, 1))
	case y.isConst() && uint32(y.imm) == 0 && (w == 4 || y.imm == 0):
		e.Test(w, x, x)
	case y.isConst():
		e.OpImm(amd64.Cmp, w, x, int32(y.imm))
	default:
		e.Op(amd64.Cmp, w, x, e.operand(y, 1))
	}
	return conditions[cond]
}

// holds writes whether a comparison holds, as 0 or 1. No operand is in the result's register
// (demandOf), so that it is made 0 first: an extension behind would be waited for.
func (e *emitter) holds(v *value) {
	d := e.result(v)
	e.Op(amd64.Xor, 4, d, d)
	e.SetCC(e.flags(uint8(v.imm), amd64.Size(v.size), v.args), d)
}

// branch writes the end of b, the i-th block.
func (e *emitter) branch(b *block, i int) {
	c, yes, no := e.flags(b.cond, amd64.Size(b.width), b.args), b.succs[0], b.succs[1]
	if e.runsInto(i, yes) {
		c, yes, no = c.Not(), no, yes
	}
	e.Jcc(c, e.to(b, yes))
	if !e.runsInto(i, no) {
		e.Jmp(e.to(b, no))
	}
}
