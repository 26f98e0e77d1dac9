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
	return amd64.At(e.operand(v.args[0], 0), int32(v.imm))
}

func (e *emitter) load(v *value) {
	d := e.result(v)
	if !v.faults {
		e.loadInto(d, v, e.at(v))
		return
	}
	base := v.args[0]
	m := e.at(v)
	e.plausible(d, base, m.Base, v.imm)
	switch e.l.Faults {
	case Table:
		start := e.Here()
		e.loadInto(d, v, m)
		e.mayFault(start, e.land())
	case Probe:
		e.probeFor(v, d, m)
		e.loadInto(d, v, m)
	case Copy:
		e.Lea(d, m)
		e.fetchTo(d, int32(v.size))
		e.loadInto(d, v, amd64.At(amd64.RSP, 8))
		e.drop(16)
	}
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
	e.Lea(t, amd64.At(r, int32(off)-minAddress))
	e.ShiftImm(amd64.Shr, 8, t, userBits)
	e.Jcc(amd64.CondNE, e.land())
}

func (e *emitter) store(v *value) {
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

// probeFor asks the kernel whether the pages of a load can be read. t is
// clobbered.
func (e *emitter) probeFor(v *value, t amd64.Reg, m amd64.Mem) {
	e.Lea(t, m)
	e.probeAt(t)
	if v.size > 1 {
		one := e.Label()
		// The last byte may be on the next page: then it is among its first eight.
		e.Lea(t, amd64.At(m.Base, m.Disp+int32(v.size)-1))
		e.TestImm(4, t, pageSize-8)
		e.Jcc(amd64.CondNE, one)
		e.probeAt(t)
		e.Bind(one)
	}
}

// probeAt leaves through the fault exit unless the 8 aligned bytes around t can
// be read.
func (e *emitter) probeAt(t amd64.Reg) {
	e.probes = true
	e.push(t)
	e.deepest = max(e.deepest, e.frameSize()+probeStack)
	e.Call(e.probe)
	e.drop(8)
	e.Jcc(amd64.CondB, e.land())
}

// fetchTo copies n ≤ 8 bytes at the address in t to rsp+8, 16 bytes below where
// rsp was, or leaves through the fault exit.
func (e *emitter) fetchTo(t amd64.Reg, n int32) {
	e.fetches = true
	e.push(t)
	e.PushImm(n)
	e.grow(8)
	e.deepest = max(e.deepest, e.frameSize()+fetchStack)
	e.Call(e.fetch)
	bad := e.Label()
	e.Jcc(amd64.CondB, bad)
	pushed, land := e.pushed, e.land()
	e.later = append(e.later, func() {
		e.Bind(bad)
		e.pushed = pushed
		e.drop(16)
		e.Jmp(land)
	})
}

// burn pays n units of fuel, or leaves through the fuel exit.
func (e *emitter) burn(n int32) {
	e.burnt = true
	e.OpImm(amd64.Sub, 4, e.regs.fuel.reg, n)
	e.Jcc(amd64.CondB, e.outOf)
}
