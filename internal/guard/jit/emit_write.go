package jit

import "github.com/patch-integration-engine/pie/internal/isa/amd64"

// What a guard with bpf.CapWrite writes to the target's memory. Whether it writes
// at all is decided once a call: in audit mode, and when the trial is over, it
// reads instead, so that it faults where it would.

// belowFrame is how far under rsp a guard's own memory reaches: what the routines push
// while they write.
const belowFrame = 256

// decide notes in the frame whether the guard writes. It keeps every register.
func (e *emitter) decide() {
	acts := amd64.At(amd64.RSP, e.acts)
	yes, trial, done := e.Label(), e.Label(), e.Label()
	e.StoreImm(4, acts, 0)
	e.OpStoreImm(amd64.Cmp, 4, e.control(ControlMode), int32(ModeEnforce))
	e.Jcc(amd64.CondNE, done)
	e.OpStoreImm(amd64.Cmp, 8, e.control(ControlTrialEnd), 0)
	e.Jcc(amd64.CondNE, trial)
	e.Bind(yes)
	e.StoreImm(4, acts, 1)
	e.Bind(done)
	e.later = append(e.later, func() {
		e.framed, e.pushed = true, 0
		e.Bind(trial)
		e.push(amd64.RAX)
		e.push(amd64.RDX)
		e.tsc()
		e.OpLoad(amd64.Cmp, 8, amd64.RAX, e.control(ControlTrialEnd))
		e.pop(amd64.RDX)
		e.pop(amd64.RAX)
		e.Jcc(amd64.CondB, yes)
		e.Jmp(done)
	})
}

// unlessActs goes to dry when the guard does not write.
func (e *emitter) unlessActs(dry amd64.Label) {
	e.OpStoreImm(amd64.Cmp, 4, amd64.At(amd64.RSP, e.pushed+e.acts), 0)
	e.Jcc(amd64.CondE, dry)
}

// put writes a store to the target.
func (e *emitter) put(v *value) {
	m, t := e.at(v), v.temp[0]
	dry, done := e.Label(), e.Label()
	e.plausible(t, v.args[0], m.Base, v.imm)
	e.notOwn(t, m, int32(v.size))
	e.unlessActs(dry)
	if e.l.Faults == Table {
		start := e.Here()
		if y := v.args[1]; y.isConst() {
			e.StoreImm(amd64.Size(v.size), m, int32(y.imm))
		} else {
			r := e.operand(y, 1)
			start = e.Here()
			e.Store(amd64.Size(v.size), m, r)
		}
		e.mayFault(start, e.land())
	} else {
		e.poke(t, m, v)
	}
	e.Bind(done)
	land := e.land()
	e.later = append(e.later, func() {
		e.framed, e.pushed = true, 0
		e.Bind(dry)
		e.lookAt(t, m, int32(v.size), land)
		e.Jmp(done)
	})
}

// notOwn leaves through the fault exit when one of n bytes at m is the guard's own
// memory: from what its routines push up to the return address, or in the arena. t
// is clobbered.
func (e *emitter) notOwn(t amd64.Reg, m amd64.Mem, n int32) {
	last := m.Disp + n - 1
	own := e.frameSize() + e.site.SPDelta + 8 + belowFrame
	e.Lea(t, amd64.At(m.Base, last+belowFrame))
	e.Op(amd64.Sub, 8, t, amd64.RSP)
	e.OpImm(amd64.Cmp, 8, t, own+n-1)
	e.Jcc(amd64.CondB, e.land())
	if e.l.OwnEnd > e.l.OwnStart {
		e.Lea(t, amd64.Abs(e.l.OwnStart))
		e.Un(amd64.Neg, 8, t)
		e.Lea(t, amd64.Indexed(m.Base, t, 1, last))
		e.OpImm(amd64.Cmp, 8, t, int32(e.l.OwnEnd-e.l.OwnStart)+n-1)
		e.Jcc(amd64.CondB, e.land())
	}
}

// poke stores v at m by a system call, or leaves through the fault exit.
func (e *emitter) poke(t amd64.Reg, m amd64.Mem, v *value) {
	e.poked = true
	if v.size > 1 {
		e.unlessSplit(t, m, int32(v.size))
	}
	e.Lea(t, m)
	if y := v.args[1]; y.isConst() {
		e.PushImm(int32(y.imm))
		e.grow(8)
	} else {
		e.push(e.operand(y, 1))
	}
	e.push(t)
	e.PushImm(int32(v.size))
	e.grow(8)
	e.Lea(t, amd64.At(amd64.RSP, 16))
	e.push(t)
	e.callCopy(e.pokes)
	e.drop(32)
	e.Jcc(amd64.CondB, e.land())
}

// unlessSplit makes sure that n bytes at m in two pages are written all or not at all.
// The kernel writes as far as it can: so the last byte is written first, as it is.
// When that cannot be done nothing has changed, and when the first page cannot be written
// nothing of the rest is. t is clobbered.
func (e *emitter) unlessSplit(t amd64.Reg, m amd64.Mem, n int32) {
	split, again, land := e.Label(), e.Label(), e.land()
	e.Lea(t, m)
	e.OpImm(amd64.And, 4, t, pageSize-1)
	e.OpImm(amd64.Cmp, 4, t, pageSize-n)
	e.Jcc(amd64.CondA, split)
	e.Bind(again)
	last := m
	last.Disp += n - 1
	e.later = append(e.later, func() {
		e.framed, e.pushed, e.fetches = true, 0, true
		failed := e.Label()
		e.Bind(split)
		e.PushImm(0) // the byte
		e.grow(8)
		for _, routine := range []amd64.Label{e.fetch, e.pokes} {
			e.Lea(t, last)
			e.push(t)
			e.PushImm(1)
			e.grow(8)
			e.Lea(t, amd64.At(amd64.RSP, 16))
			e.push(t)
			e.callCopy(routine)
			e.drop(24)
			if routine == e.fetch {
				e.Jcc(amd64.CondB, failed)
			}
		}
		e.Bind(failed)
		e.drop(8)
		e.Jcc(amd64.CondB, land)
		e.Jmp(again)
	})
}

// callCopy calls a routine of writeCopy.
func (e *emitter) callCopy(routine amd64.Label) {
	e.deepest = max(e.deepest, e.frameSize()+fetchStack)
	e.Call(routine)
}

// lookAt reads n bytes at m, 8 at most, and goes to land where they cannot be
// read. t is clobbered.
func (e *emitter) lookAt(t amd64.Reg, m amd64.Mem, n int32, land amd64.Label) {
	if e.l.Faults == Table {
		start := e.Here()
		e.LoadZX(amd64.Size(n), t, m)
		e.mayFault(start, land)
		return
	}
	e.fetches = true
	e.Lea(t, m)
	e.PushImm(0)
	e.grow(8)
	e.push(t)
	e.PushImm(n)
	e.grow(8)
	e.Lea(t, amd64.At(amd64.RSP, 16))
	e.push(t)
	e.callCopy(e.fetch)
	e.drop(32)
	e.Jcc(amd64.CondB, land)
}
