package jit

import (
	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// bpf.HelperInvoke. The routine saves every register that the psABI lets a function
// change, vector and floating-point state by XSAVE, on the thread's own stack, and
// errno; the guard goes on as if nothing had been called. Meanwhile the thread is in
// a table at the end of the prepatch's state, and a guard of the prepatch that it
// enters passes. The function may leave by longjmp, or the thread end: then its row
// stays. It counts only while the thread's rsp is below that of the call, and the call's
// return address still stands there.

// The table: how many threads are in a call, how many calls passed because of
// that, then rows of a thread pointer, the rsp of its call, and its return address.
const (
	InsideCount  = 0
	InsideNested = 8
	insideRows   = 64
	rowThread    = 0
	rowSP        = 8
	rowReturn    = 16
	rowBits      = 5 // logarithm of a row's size
	// rowsTried is how many rows a thread looks at, from one that its pointer chooses.
	rowsTried = 16
)

// callRoom is how much stack must be left for a function that is called, in bytes.
const callRoom = 32 << 10

// Parts of an XSAVE area (Intel SDM vol. 1, 13.4).
const (
	xsaveHeader     = 512
	xsaveHeaderSize = 64
	xsaveAlign      = 64
)

// onAltStack is SS_ONSTACK of sigaltstack(2).
const onAltStack = 1

// inside is where the table of threads in a call is.
func (e *emitter) inside() address.Addr { return e.l.State.Add(Inside(e.p.Unit().State)) }

// Inside is where the table is in a state of so many bytes: at the end of its last
// page, where it is found without knowing how much of that page is used.
func Inside(state uint32) int64 {
	return (int64(state)+pageSize-1)&^(pageSize-1) - bpf.InsideSize
}

// callSaves are the registers that a function may change, and two that the routine
// uses across the call.
var callSaves = []amd64.Reg{
	amd64.RAX, amd64.RCX, amd64.RDX, amd64.RSI, amd64.RDI, amd64.R8, amd64.R9, amd64.R10, amd64.R11, amd64.RBX, amd64.R12,
}

// invoke writes bpf.HelperInvoke.
func (e *emitter) invoke(v *value) {
	e.invokes = true
	withheld := e.Label()
	e.unlessActs(withheld)
	block := v.temp[0]
	e.Mov(8, block, e.operand(v.args[1], 1))
	e.push(block)
	e.push(e.operand(v.args[0], 0))
	e.deepest = max(e.deepest, e.frameSize()+8*int32(2+len(callSaves))+e.l.XSave+xsaveAlign)
	e.Call(e.invocation)
	e.pop(block) // the function's address
	e.pop(block)
	e.Jcc(amd64.CondB, e.land())
	e.Load(8, e.result(v), amd64.At(block, bpf.InvokeWord))
	e.later = append(e.later, func() {
		e.framed, e.pushed = true, 0
		e.Bind(withheld)
		e.event(KindReject, nil) // audited: the guard does not act
		e.epilogue()
		e.Jmp(e.link)
	})
}

// writeInvoke writes the routine behind invoke: [rsp+8] is the function, [rsp+16]
// the block. The carry flag says that nothing was called.
func (e *emitter) writeInvoke() {
	refused, leave := e.Label(), e.Label()
	e.Bind(e.invocation)
	e.Push(amd64.RBP) // a frame that profilers can walk
	e.Mov(8, amd64.RBP, amd64.RSP)
	for _, r := range callSaves {
		e.Push(r)
	}
	e.enoughStack(refused)
	e.Load(8, amd64.RBX, amd64.At(amd64.RBP, 24))
	e.Lea(amd64.RSP, amd64.At(amd64.RSP, -e.l.XSave))
	e.OpImm(amd64.And, 8, amd64.RSP, -xsaveAlign)
	e.enterCall(refused)
	e.saveState()
	e.errnoTo(amd64.R12)
	for i, r := range sysV.args[:bpf.InvokeArgs] {
		e.Load(8, r, amd64.At(amd64.RBX, int32(8*i)))
	}
	e.Op(amd64.Xor, 4, amd64.RAX, amd64.RAX)
	e.Raw(0xfc) // cld
	e.CallMem(amd64.At(amd64.RBP, 16))
	e.Bind(e.returned)
	e.Store(8, amd64.At(amd64.RBX, bpf.InvokeWord), amd64.RAX)
	e.MovFromVec(8, amd64.RAX, 0)
	e.Store(8, amd64.At(amd64.RBX, bpf.InvokeXMM0), amd64.RAX)
	e.errnoBack(amd64.R12)
	e.restoreState()
	e.leaveCall()
	e.CLC()
	e.Jmp(leave)
	e.Bind(refused)
	e.STC()
	e.Bind(leave)
	e.Lea(amd64.RSP, amd64.At(amd64.RBP, -8*int32(len(callSaves))))
	for i := range callSaves {
		e.Pop(callSaves[len(callSaves)-1-i])
	}
	e.Pop(amd64.RBP)
	e.Ret()
}

// saveState saves vector and floating-point state, all that the kernel has enabled,
// at rsp. What XSAVE does not write of the header must be 0 for XRSTOR.
func (e *emitter) saveState() {
	for off := int32(0); off < xsaveHeaderSize; off += 8 {
		e.StoreImm(8, amd64.At(amd64.RSP, xsaveHeader+off), 0)
	}
	e.allState()
	e.Raw(0x48, 0x0f, 0xae, 0x24, 0x24) // xsave64 [rsp]
}

// restoreState brings back what saveState saved.
func (e *emitter) restoreState() {
	e.allState()
	e.Raw(0x48, 0x0f, 0xae, 0x2c, 0x24) // xrstor64 [rsp]
}

// allState asks XSAVE and XRSTOR for every component.
func (e *emitter) allState() {
	e.MovImm(amd64.RAX, -1)
	e.MovImm(amd64.RDX, -1)
}

// errnoSlot returns the operand of errno; rcx is clobbered.
func (e *emitter) errnoSlot() amd64.Mem {
	if e.l.Errno.GOT == 0 {
		return amd64.FSAt(amd64.NoReg, e.l.Errno.Offset)
	}
	e.MovImm(amd64.RCX, int64(e.l.Errno.GOT))
	e.Load(8, amd64.RCX, amd64.At(amd64.RCX, 0))
	return amd64.FSAt(amd64.RCX, 0)
}

// errnoTo keeps errno in r and clears it, so that what the function sets shows.
func (e *emitter) errnoTo(r amd64.Reg) {
	m := e.errnoSlot()
	e.Load(4, r, m)
	e.StoreImm(4, m, 0)
}

// errnoBack notes errno in the block and brings back what it was, in r.
func (e *emitter) errnoBack(r amd64.Reg) {
	m := e.errnoSlot()
	e.Load(4, amd64.RAX, m)
	e.Store(8, amd64.At(amd64.RBX, bpf.InvokeErrno), amd64.RAX)
	e.Store(4, m, r)
}

// enoughStack goes to refused on a signal handler's own stack, and where memory ends
// within callRoom below rsp. All registers of callSaves are clobbered.
func (e *emitter) enoughStack(refused amd64.Label) {
	again := e.Label()
	e.OpImm(amd64.Sub, 8, amd64.RSP, 24) // stack_t
	e.Op(amd64.Xor, 4, amd64.RDI, amd64.RDI)
	e.Mov(8, amd64.RSI, amd64.RSP)
	e.MovImm(amd64.RAX, sysSigaltstack)
	e.Syscall()
	e.Load(4, amd64.RCX, amd64.At(amd64.RSP, 8))
	e.OpImm(amd64.Add, 8, amd64.RSP, 24)
	e.Test(8, amd64.RAX, amd64.RAX)
	e.Jcc(amd64.CondNE, refused)
	e.TestImm(4, amd64.RCX, onAltStack)
	e.Jcc(amd64.CondNE, refused)

	e.Lea(amd64.RBX, amd64.At(amd64.RSP, -e.l.XSave))
	e.Lea(amd64.R12, amd64.At(amd64.RBX, -callRoom))
	e.Bind(again)
	e.OpImm(amd64.Sub, 8, amd64.RBX, pageSize)
	e.peek(amd64.RAX, amd64.RBX, 1, refused)
	e.Op(amd64.Cmp, 8, amd64.RBX, amd64.R12)
	e.Jcc(amd64.CondA, again)
}

// peek reads n bytes at the address in at into d, in a routine that has saved d
// and the registers of a system call; it goes to bad where they cannot be read.
func (e *emitter) peek(d, at amd64.Reg, n int32, bad amd64.Label) {
	if e.l.Faults == Table {
		start := e.Here()
		e.LoadZX(amd64.Size(n), d, amd64.At(at, 0))
		e.mayFault(start, bad)
		return
	}
	e.fetches = true
	e.PushImm(0)
	e.Push(at)
	e.PushImm(n)
	e.Lea(d, amd64.At(amd64.RSP, 16))
	e.Push(d)
	e.Call(e.fetch)
	e.Load(8, d, amd64.At(amd64.RSP, 24))
	e.Lea(amd64.RSP, amd64.At(amd64.RSP, 32))
	e.Jcc(amd64.CondB, bad)
}

// eachRow writes a loop over the rows that a thread looks at, whose address is in
// row; thread holds its pointer, n and i are clobbered. It falls through after the last.
func (e *emitter) eachRow(row, thread, i, n amd64.Reg, do func(next amd64.Label)) {
	again, next := e.Label(), e.Label()
	e.Load(8, thread, amd64.FSAt(amd64.NoReg, 0))
	e.Mov(8, i, thread)
	e.ShiftImm(amd64.Shr, 8, i, 6)
	e.IMulImm(4, i, i, hashFactor)
	e.ShiftImm(amd64.Shr, 4, i, 32-bpf.InsideBits)
	e.MovImm(n, rowsTried)
	e.Bind(again)
	e.MovImm(row, int64(e.inside().Add(insideRows)))
	e.ShiftImm(amd64.Shl, 4, i, rowBits)
	e.Op(amd64.Add, 8, row, i)
	e.ShiftImm(amd64.Shr, 4, i, rowBits)
	do(next)
	e.Bind(next)
	e.OpImm(amd64.Add, 4, i, 1)
	e.OpImm(amd64.And, 4, i, 1<<bpf.InsideBits-1)
	e.OpImm(amd64.Sub, 4, n, 1)
	e.Jcc(amd64.CondNE, again)
}

// enterCall takes a row for the thread, and goes to refused when there is none. rsp
// is that of the call. It leaves the row's address in rdi, which leaveCall finds again.
func (e *emitter) enterCall(refused amd64.Label) {
	fresh, got := e.Label(), e.Label()
	e.eachRow(amd64.RDI, amd64.RCX, amd64.RSI, amd64.RDX, func(amd64.Label) {
		e.Op(amd64.Xor, 4, amd64.RAX, amd64.RAX)
		e.LockCmpxchg(8, amd64.At(amd64.RDI, rowThread), amd64.RCX)
		e.Jcc(amd64.CondE, fresh)
		e.Op(amd64.Cmp, 8, amd64.RAX, amd64.RCX) // one that a call left behind which did not return
		e.Jcc(amd64.CondE, got)
	})
	e.Jmp(refused)
	e.Bind(fresh)
	e.MovImm(amd64.RAX, int64(e.inside().Add(InsideCount)))
	e.LockInc(amd64.At(amd64.RAX, 0))
	e.Bind(got)
	e.Store(8, amd64.At(amd64.RDI, rowSP), amd64.RSP)
	e.Lea(amd64.RAX, amd64.LabelMem(e.returned))
	e.Store(8, amd64.At(amd64.RDI, rowReturn), amd64.RAX)
}

// leaveCall gives the thread's row back.
func (e *emitter) leaveCall() {
	found, done := e.Label(), e.Label()
	e.eachRow(amd64.RDI, amd64.RCX, amd64.RSI, amd64.RDX, func(amd64.Label) {
		e.OpLoad(amd64.Cmp, 8, amd64.RCX, amd64.At(amd64.RDI, rowThread))
		e.Jcc(amd64.CondE, found)
	})
	e.Jmp(done) // the state was emptied meanwhile, for a prepatch that came back
	e.Bind(found)
	e.StoreImm(8, amd64.At(amd64.RDI, rowThread), 0)
	e.MovImm(amd64.RAX, int64(e.inside().Add(InsideCount)))
	e.MovImm(amd64.RCX, -1)
	e.LockOp(amd64.Add, 8, amd64.At(amd64.RAX, 0), amd64.RCX)
	e.Bind(done)
}

// nestedSaves are the registers that the routine of unlessInside uses.
var nestedSaves = []amd64.Reg{amd64.RAX, amd64.RCX, amd64.RDX, amd64.RSI, amd64.RDI}

// unlessInside lets a call pass whose thread is in a call that a guard of the
// prepatch has made. It is written where rsp is as at entry.
func (e *emitter) unlessInside() {
	some, none := e.Label(), e.Label()
	e.Push(amd64.RAX)
	e.MovImm(amd64.RAX, int64(e.inside()))
	e.OpStoreImm(amd64.Cmp, 8, amd64.At(amd64.RAX, InsideCount), 0)
	e.Pop(amd64.RAX)
	e.Jcc(amd64.CondNE, some)
	e.Bind(none)
	e.later = append(e.later, func() {
		e.Bind(some)
		e.writeInside(none)
	})
}

// writeInside looks the thread up.
func (e *emitter) writeInside(none amd64.Label) {
	inside, out := e.Label(), e.Label()
	for _, r := range nestedSaves {
		e.Push(r)
	}
	e.eachRow(amd64.RDI, amd64.RCX, amd64.RSI, amd64.RDX, func(next amd64.Label) {
		e.OpLoad(amd64.Cmp, 8, amd64.RCX, amd64.At(amd64.RDI, rowThread))
		e.Jcc(amd64.CondNE, next)
		e.Load(8, amd64.RAX, amd64.At(amd64.RDI, rowSP))
		e.Op(amd64.Cmp, 8, amd64.RSP, amd64.RAX)
		e.Jcc(amd64.CondAE, next)
		e.OpImm(amd64.Sub, 8, amd64.RAX, 8) // where the call's return address was pushed
		e.peek(amd64.RAX, amd64.RAX, 8, next)
		e.OpLoad(amd64.Cmp, 8, amd64.RAX, amd64.At(amd64.RDI, rowReturn))
		e.Jcc(amd64.CondE, inside)
	})
	e.Jmp(out)
	e.Bind(inside)
	e.MovImm(amd64.RAX, int64(e.inside().Add(InsideNested)))
	e.LockInc(amd64.At(amd64.RAX, 0))
	for i := range nestedSaves {
		e.Pop(nestedSaves[len(nestedSaves)-1-i])
	}
	e.Jmp(e.link)
	e.Bind(out)
	for i := range nestedSaves {
		e.Pop(nestedSaves[len(nestedSaves)-1-i])
	}
	e.Jmp(none)
}
