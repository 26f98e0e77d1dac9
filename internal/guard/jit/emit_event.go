package jit

import (
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// eventArgs is how many argument words an event carries.
const eventArgs = 4

// Operands of the record routine above its return address: what event pushes.
const (
	recordKind = 8 * iota
	recordCode
	recordArgs
	recordBytes = recordArgs + 8*eventArgs
)

// event counts an event and writes it to the ring. After KindReject, KindRewrite
// and KindExit the carry flag says that the call is to pass: audit mode, or the end of a trial. It keeps
// every register.
func (e *emitter) event(k Kind, code *value) {
	if e.l.Quiet {
		e.quietly(k)
		return
	}
	e.records = true
	if !e.framed {
		e.haveRoom()
	}
	for i := eventArgs - 1; i >= 0; i-- {
		r := e.regs.conv.args[i]
		if m, ok := e.savedAt(r); ok {
			e.PushMem(m)
		} else {
			e.Push(r)
		}
		e.grow(8)
	}
	switch {
	case code == nil:
		e.PushImm(0)
	case code.isConst():
		e.PushImm(int32(code.imm))
	case code.loc.reg == amd64.NoReg:
		e.PushMem(e.slot(code.loc.slot))
	default:
		e.Push(code.loc.reg)
	}
	e.grow(8)
	e.PushImm(int32(k))
	e.grow(8)
	e.Call(e.record)
	e.deepest = max(e.deepest, e.frameSize()+8+recordPushes*8)
	e.drop(recordBytes)
}

// quietly is event for a quiet guard, in which it only counts: in enforce mode what
// acts is done, for there is no trial. Neither lock inc nor jmp changes the carry flag.
func (e *emitter) quietly(k Kind) {
	done := e.Label()
	switch k {
	case KindLog:
		e.LockInc(e.counter(CounterLogs))
	case KindFault:
		e.LockInc(e.counter(CounterFaults))
	case KindFuel:
		e.LockInc(e.counter(CounterFuel))
	default:
		audited := e.Label()
		e.OpStoreImm(amd64.Cmp, 4, e.control(ControlMode), int32(ModeEnforce))
		e.Jcc(amd64.CondB, audited)
		e.LockInc(e.counter(CounterRejects))
		e.Jmp(done)
		e.Bind(audited)
		e.LockInc(e.counter(CounterAudited))
	}
	e.Bind(done)
}

// recordSaves are the registers the record routine uses, in the order pushed.
var recordSaves = []amd64.Reg{
	amd64.RAX, amd64.RCX, amd64.RDX, amd64.RSI, amd64.R8, amd64.R11,
}

const recordPushes = 6

// routines writes the code that several places call.
func (e *emitter) routines() {
	if e.records {
		e.writeRecord()
	}
	if e.invokes {
		e.writeInvoke()
	}
	if e.probes {
		e.writeProbe()
	}
	if e.fetches {
		e.writeFetch()
	}
	if e.windows {
		e.writeFetchInto()
	}
	if e.poked {
		e.writePoke()
	}
}

func (e *emitter) control(off int64) amd64.Mem { return amd64.Abs(e.l.Control.Add(off)) }

// counter returns the operand of a counter.
func (e *emitter) counter(off int) amd64.Mem {
	size := CountersSize
	if e.l.Quiet {
		size = QuietCountersSize
	}
	return amd64.Abs(e.l.Counters.Add(int64(CounterAt(size, off))))
}

// writeRecord writes the routine behind event.
func (e *emitter) writeRecord() {
	kind := amd64.At(amd64.RSP, 8*recordPushes+8+recordKind)
	acts, notReject, write, audited, enforced := e.Label(), e.Label(), e.Label(), e.Label(), e.Label()
	e.Bind(e.record)
	for _, r := range recordSaves {
		e.Push(r)
	}
	e.Load(8, amd64.RCX, e.control(ControlTrialEnd))
	e.OpStoreImm(amd64.Cmp, 4, kind, int32(KindReject))
	e.Jcc(amd64.CondE, acts)
	e.OpStoreImm(amd64.Cmp, 4, kind, int32(KindRewrite)) // and KindExit above it
	e.Jcc(amd64.CondB, notReject)

	e.Bind(acts)
	e.Test(8, amd64.RCX, amd64.RCX)
	e.Jcc(amd64.CondE, enforced)
	e.tsc()
	e.Op(amd64.Cmp, 8, amd64.RAX, amd64.RCX)
	e.Jcc(amd64.CondB, enforced)
	e.trip(TripTrialEnd)
	e.Bind(audited)
	e.StoreImm(4, kind, int32(KindAudited))
	e.LockInc(e.counter(CounterAudited))
	e.Jmp(write)

	e.Bind(enforced)
	e.OpStoreImm(amd64.Cmp, 4, e.control(ControlMode), int32(ModeEnforce))
	e.Jcc(amd64.CondNE, audited)
	e.LockInc(e.counter(CounterRejects))
	e.Test(8, amd64.RCX, amd64.RCX)
	e.Jcc(amd64.CondE, write)
	e.share(write)
	e.Jmp(write)

	e.Bind(notReject)
	e.others(kind)
	e.Bind(write)
	e.writeEvent(kind)
	// CF = kind is KindAudited.
	e.Load(4, amd64.RAX, kind)
	e.OpImm(amd64.Xor, 4, amd64.RAX, int32(KindAudited))
	e.OpImm(amd64.Sub, 4, amd64.RAX, 1)
	for i := range recordSaves {
		e.Pop(recordSaves[len(recordSaves)-1-i])
	}
	e.Ret()
}

// tsc sets rax to the time-stamp counter; rdx is clobbered.
func (e *emitter) tsc() {
	e.Rdtsc()
	e.ShiftImm(amd64.Shl, 8, amd64.RDX, 32)
	e.Op(amd64.Or, 8, amd64.RAX, amd64.RDX)
}

// trip turns the guard off, unless it has tripped before. The reason comes
// first: who sees the mode sees why.
func (e *emitter) trip(why Trip) {
	already := e.Label()
	e.OpStoreImm(amd64.Cmp, 4, e.control(ControlTripped), int32(TripNone))
	e.Jcc(amd64.CondNE, already)
	e.StoreImm(4, e.control(ControlTripped), int32(why))
	e.Bind(already)
	e.StoreImm(4, e.control(ControlMode), int32(ModeOff))
}

// others counts what is not a reject. During a trial, rcx ≠ 0, a guard error or
// exhausted fuel trips.
func (e *emitter) others(kind amd64.Mem) {
	done := e.Label()
	for _, k := range []struct {
		kind    Kind
		counter int
		why     Trip
	}{
		{KindLog, CounterLogs, TripNone},
		{KindFault, CounterFaults, TripFault},
		{KindFuel, CounterFuel, TripFuel},
	} {
		other := e.Label()
		e.OpStoreImm(amd64.Cmp, 4, kind, int32(k.kind))
		e.Jcc(amd64.CondNE, other)
		e.LockInc(e.counter(k.counter))
		if k.why != TripNone {
			e.Test(8, amd64.RCX, amd64.RCX)
			e.Jcc(amd64.CondE, done)
			e.trip(k.why)
		}
		e.Jmp(done)
		e.Bind(other)
	}
	e.Bind(done)
}

// share trips when more than ControlMaxReject of 65,536 calls since the trial
// began were rejected.
func (e *emitter) share(done amd64.Label) {
	calls, rejects, base, i := amd64.RSI, amd64.R8, amd64.RCX, amd64.RDX
	again := e.Label()
	e.Load(4, amd64.RAX, e.control(ControlMaxReject))
	e.Test(4, amd64.RAX, amd64.RAX)
	e.Jcc(amd64.CondE, done)
	e.Lea(base, e.counter(CounterCalls))
	e.MovImm(i, CallSlots)
	e.Op(amd64.Xor, 4, calls, calls)
	e.Bind(again)
	e.OpLoad(amd64.Add, 8, calls, amd64.Indexed(base, i, 8, -8))
	e.OpImm(amd64.Sub, 4, i, 1)
	e.Jcc(amd64.CondNE, again)
	e.Load(8, rejects, e.counter(CounterRejects))
	e.OpLoad(amd64.Sub, 8, calls, e.control(ControlCalls0))
	e.OpLoad(amd64.Sub, 8, rejects, e.control(ControlRejects0))
	e.OpImm(amd64.Cmp, 8, calls, TripMinCalls)
	e.Jcc(amd64.CondB, done)
	e.ShiftImm(amd64.Shl, 8, rejects, 16)
	e.IMul(8, calls, amd64.RAX)
	e.Op(amd64.Cmp, 8, rejects, calls)
	e.Jcc(amd64.CondBE, done)
	e.trip(TripMaxReject)
}

// writeEvent claims a slot of the ring, fills it and publishes it, or counts the
// event as lost. See EventHead for the protocol.
func (e *emitter) writeEvent(kind amd64.Mem) {
	const (
		slot   = amd64.RSI
		ticket = amd64.R8 // ticket + 1, the seq to publish
	)
	lost, free, done := e.Label(), e.Label(), e.Label()
	above := func(off int32) amd64.Mem { return amd64.At(amd64.RSP, 8*recordPushes+8+off) }
	e.MovImm(amd64.RAX, 1)
	e.Mov(8, ticket, amd64.RAX)
	e.LockXadd(8, amd64.Abs(e.l.Events.Add(EventHead)), ticket)
	e.Mov(8, amd64.RAX, ticket)
	e.OpImm(amd64.Add, 8, ticket, 1)
	e.Op(amd64.Xor, 4, amd64.RDX, amd64.RDX)
	e.MovImm(amd64.RCX, EventSlots)
	e.Un(amd64.Div, 8, amd64.RCX)
	e.ShiftImm(amd64.Shl, 4, amd64.RDX, 6)
	e.Lea(slot, amd64.Abs(e.l.Events.Add(EventFirst)))
	e.Op(amd64.Add, 8, slot, amd64.RDX)

	e.Load(8, amd64.RAX, amd64.At(slot, EventSeq))
	e.Mov(8, amd64.RDX, amd64.RAX)
	e.ShiftImm(amd64.Shl, 8, amd64.RDX, 1)
	e.ShiftImm(amd64.Shr, 8, amd64.RDX, 1) // the ticket of the slot's last owner, +1
	e.Mov(8, amd64.RCX, ticket)
	e.Op(amd64.Sub, 8, amd64.RCX, amd64.RDX)
	e.Jcc(amd64.CondBE, lost) // a later one: this writer slept through a round
	e.Test(8, amd64.RAX, amd64.RAX)
	e.Jcc(amd64.CondNS, free)
	e.OpImm(amd64.Cmp, 8, amd64.RCX, EventSteal)
	e.Jcc(amd64.CondB, lost)
	e.Bind(free)
	e.busy(amd64.RDX, amd64.RCX, ticket)
	e.LockCmpxchg(8, amd64.At(slot, EventSeq), amd64.RDX)
	e.Jcc(amd64.CondNE, lost)

	e.tsc()
	e.Store(8, amd64.At(slot, EventTSC), amd64.RAX)
	e.StoreImm(4, amd64.At(slot, EventGuard), int32(e.l.Guard))
	e.Load(4, amd64.RAX, kind)
	e.Store(4, amd64.At(slot, EventKind), amd64.RAX)
	e.Load(4, amd64.RAX, above(recordCode))
	e.Store(4, amd64.At(slot, EventCode), amd64.RAX)
	for i := range int32(eventArgs) {
		e.Load(8, amd64.RAX, above(recordArgs+8*i))
		e.Store(8, amd64.At(slot, EventArgs+8*i), amd64.RAX)
	}
	e.gettid() // in rax; rcx and r11 are clobbered
	e.Store(4, amd64.At(slot, EventTid), amd64.RAX)
	e.busy(amd64.RAX, amd64.RCX, ticket)
	e.LockCmpxchg(8, amd64.At(slot, EventSeq), ticket)
	e.Jmp(done)

	e.Bind(lost)
	e.LockInc(e.counter(CounterLost))
	e.Bind(done)
}

// busy sets dst to seq with EventBusy; t is clobbered.
func (e *emitter) busy(dst, t, seq amd64.Reg) {
	e.Mov(8, dst, seq)
	e.MovImm(t, -1<<63)
	e.Op(amd64.Or, 8, dst, t)
}

// gettid sets rax to the thread's id, or to 0 where PIE may not ask.
func (e *emitter) gettid() {
	if !e.l.Gettid {
		e.Op(amd64.Xor, 4, amd64.RAX, amd64.RAX)
		return
	}
	e.MovImm(amd64.RAX, sysGettid)
	e.Syscall()
}
