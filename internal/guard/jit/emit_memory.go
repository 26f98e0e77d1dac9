package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// Addresses of the target below minAddress, and from 2^userBits + minAddress
// on, are refused before any access: what a NULL or a wild pointer plus an offset
// gives never costs a signal. The 64 KiB between the user half and that bound
// are left to the fault mode.
const (
	minAddress = 64 << 10
	userBits   = 47
)

const pageSize = 4096

// near is how far from an address found plausible others of the same base are
// taken as such. It bounds nothing but the price of a fault.
const near = 4096

// at returns the operand of a memory access.
func (e *emitter) at(v *value) amd64.Mem {
	if v.args[0].op == opStack {
		return amd64.At(amd64.RSP, e.fromR10(v.args[0].imm+v.imm))
	}
	return e.sumAt(v, v.imm)
}

// sumAt is memory at the sum of a load's or look's operands and off.
func (e *emitter) sumAt(v *value, off int64) amd64.Mem {
	base := e.operand(v.args[0], 0)
	if len(v.args) > 1 && v.op != opStore && v.op != opAtomic {
		return amd64.Indexed(base, e.operand(v.args[1], 1), 1, int32(off))
	}
	return amd64.At(base, int32(off))
}

func (e *emitter) loadInto(d amd64.Reg, v *value, m amd64.Mem) {
	if v.sext {
		e.LoadSX(amd64.Size(v.size), d, m)
		return
	}
	e.LoadZX(amd64.Size(v.size), d, m)
}

// plausible leaves the guard through the fault exit when base+off cannot be an
// address of the user half. t is clobbered.
func (e *emitter) plausible(t amd64.Reg, base *value, r amd64.Reg, off int64) {
	if seen, ok := e.checked[base]; ok && off-seen <= near && seen-off <= near {
		return
	}
	e.checked[base] = off
	e.plausibleAt(t, amd64.At(r, int32(off)-minAddress))
}

// plausibleAt is plausible for an address of which m is minAddress less.
func (e *emitter) plausibleAt(t amd64.Reg, m amd64.Mem) {
	e.Lea(t, m)
	e.ShiftImm(amd64.Shr, 8, t, userBits)
	e.Jcc(amd64.CondNE, e.land())
}

// look writes opPlausible.
func (e *emitter) look(v *value) { e.plausibleAt(v.temp[0], e.sumAt(v, v.imm-minAddress)) }

func (e *emitter) store(v *value) {
	if v.faults {
		e.put(v)
		return
	}
	m, y := e.at(v), v.args[1]
	if y.isConst() {
		e.StoreImm(amd64.Size(v.size), m, int32(y.imm))
		return
	}
	e.Store(amd64.Size(v.size), m, e.operand(y, 1))
}

// atomic writes an atomic operation. It is on the guard's own stack, which no
// other thread sees, so that plain instructions do.
func (e *emitter) atomic(v *value) {
	if v.shared {
		e.atomicShared(v)
		return
	}
	m, src, w, d := e.at(v), e.operand(v.args[1], 1), amd64.Size(v.size), e.result(v)
	if v.imm2&bpf.AtomicFetch != 0 {
		e.Load(w, d, m)
	}
	switch v.imm2 &^ bpf.AtomicFetch {
	case bpf.AtomicADD:
		e.OpStore(amd64.Add, w, m, src)
	case bpf.AtomicOR:
		e.OpStore(amd64.Or, w, m, src)
	case bpf.AtomicAND:
		e.OpStore(amd64.And, w, m, src)
	case bpf.AtomicXOR:
		e.OpStore(amd64.Xor, w, m, src)
	case bpf.AtomicXCHG &^ bpf.AtomicFetch:
		e.Store(w, m, src)
	default: // compare and exchange
		differs := e.Label()
		e.Op(amd64.Cmp, w, d, e.operand(v.args[2], 2))
		e.Jcc(amd64.CondNE, differs)
		e.Store(w, m, src)
		e.Bind(differs)
	}
}

// burn pays n units of fuel, or leaves through the fuel exit.
func (e *emitter) burn(n int32) {
	e.burnt = true
	e.OpImm(amd64.Sub, 4, e.regs.fuel.reg, n)
	e.Jcc(amd64.CondB, e.outOf)
}

// burnTo pays n units of fuel and goes on at a label; where it falls through, they are spent,
// and the jump to outOf must follow.
func (e *emitter) burnTo(n int32, to amd64.Label) {
	e.burnt = true
	e.OpImm(amd64.Sub, 4, e.regs.fuel.reg, n)
	e.Jcc(amd64.CondAE, to)
}
