package jit

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// helperDemand says how many scratch registers a helper works with. None of
// them is an operand: operands may be argument words in place.
func helperDemand(h bpf.Helper) demand {
	d := demand{early: true}
	switch h {
	case bpf.HelperZero:
		d.temps = make([]amd64.RegSet, 3)
	case bpf.HelperInvoke:
		d.temps = make([]amd64.RegSet, 1)
	case bpf.HelperIndex, bpf.HelperStrLen, bpf.HelperEqual:
		d.temps = make([]amd64.RegSet, 4)
	case bpf.HelperCount:
		d.temps = make([]amd64.RegSet, 5)
	case bpf.HelperFind:
		d.temps = make([]amd64.RegSet, 7)
	case bpf.HelperTid:
		d.temps = []amd64.RegSet{syscalls}
	case bpf.HelperNow:
		d.temps = []amd64.RegSet{divides, divides, divides}
	}
	return d
}

func (e *emitter) helper(v *value) {
	switch h := bpf.Helper(v.imm); h {
	case bpf.HelperTid:
		e.tid(v)
	case bpf.HelperNow:
		e.now(v)
	case bpf.HelperZero:
		e.zero(v)
	case bpf.HelperInvoke:
		e.invoke(v)
	default:
		e.memoryHelper(h, v)
	}
}

// tid writes HelperTid. The system call's registers are put back.
func (e *emitter) tid(v *value) {
	d := e.result(v)
	if !e.l.Gettid {
		e.Op(amd64.Xor, 4, d, d)
		return
	}
	e.push(amd64.RAX)
	e.push(amd64.RCX)
	e.push(amd64.R11)
	e.gettid()
	e.Mov(4, v.temp[0], amd64.RAX)
	e.pop(amd64.R11)
	e.pop(amd64.RCX)
	e.pop(amd64.RAX)
	e.Mov(8, d, v.temp[0])
}

// now writes HelperNow from the clock in the control block.
func (e *emitter) now(v *value) {
	d, rax, rdx, t := e.result(v), v.temp[0], v.temp[1], v.temp[2]
	e.Mov(8, rax, amd64.RAX)
	e.Mov(8, rdx, amd64.RDX)
	e.tsc()
	e.OpLoad(amd64.Sub, 8, amd64.RAX, e.control(ControlClockTSC))
	e.Load(8, t, e.control(ControlClockMult))
	e.Un(amd64.Mul, 8, t)
	e.Shrd(8, amd64.RAX, amd64.RDX, 32)
	e.OpLoad(amd64.Add, 8, amd64.RAX, e.control(ControlClockNS))
	e.Mov(8, t, amd64.RAX)
	e.Mov(8, amd64.RAX, rax)
	e.Mov(8, amd64.RDX, rdx)
	e.Mov(8, d, t)
}

// The part of the frame that memory helpers use: the vector registers they
// change, and in Copy mode a window for each of three cursors.
const (
	vectorCount = 3
	windowSize  = 128
	windowCount = 3
)

// Windows of copied memory, by the cursor they belong to.
const (
	windowScan = iota
	windowLeft
	windowRight
)

// vectorsOf is how many vector registers a helper changes, from xmm0 on.
func vectorsOf(h bpf.Helper) int {
	switch h {
	case bpf.HelperZero, bpf.HelperInvoke:
		return 0
	case bpf.HelperIndex, bpf.HelperStrLen:
		return 2
	}
	return vectorCount
}

// vectorBytes is how much of the frame memory helpers need.
func (e *emitter) vectorBytes() int32 {
	n := 0
	for _, b := range e.f.blocks {
		for _, v := range b.values {
			if v.op == opHelper && v.faults {
				n = max(n, vectorsOf(bpf.Helper(v.imm)))
			}
		}
	}
	if n > 0 && e.l.Faults == Copy {
		return 16*vectorCount + windowSize*windowCount
	}
	return 16 * int32(n)
}

// memoryHelper writes a helper that reads memory. Its ways out, of a fault and
// of fuel, put the vector registers back before they join the guard's.
func (e *emitter) memoryHelper(h bpf.Helper, v *value) {
	n := vectorsOf(h)
	for i := range n {
		e.StoreVecU(e.vector(i), amd64.XMM(i))
	}
	outFault, outFuel := e.land(), e.outOf
	e.burnt = true
	fault, fuel := e.Label(), e.Label()
	e.inner, e.outOf = &fault, fuel
	switch h {
	case bpf.HelperFind:
		e.find(v)
	case bpf.HelperEqual:
		e.equal(v)
	default:
		e.scan(h, v)
	}
	e.inner, e.outOf = nil, outFuel
	e.restoreVectors(n)
	e.later = append(e.later, func() {
		for _, way := range [][2]amd64.Label{{fault, outFault}, {fuel, outFuel}} {
			e.framed, e.pushed = true, 0
			e.Bind(way[0])
			e.restoreVectors(n)
			e.Jmp(way[1])
		}
	})
}

func (e *emitter) vector(i int) amd64.Mem {
	return amd64.At(amd64.RSP, e.pushed+e.vectors+16*int32(i))
}

func (e *emitter) restoreVectors(n int) {
	for i := range n {
		e.LoadVecU(amd64.XMM(i), e.vector(i))
	}
}

// apply is op dst, v for an operand wherever it lives; t is clobbered when v is
// a wide constant.
func (e *emitter) apply(op amd64.Arith, dst amd64.Reg, v *value, t amd64.Reg) {
	switch {
	case v.isConst() && fits32(v.imm):
		e.OpImm(op, 8, dst, int32(v.imm))
	case v.isConst():
		e.MovImm(t, v.imm)
		e.Op(op, 8, dst, t)
	case v.loc.reg == amd64.NoReg:
		e.OpLoad(op, 8, dst, e.slot(v.loc.slot))
	default:
		e.Op(op, 8, dst, v.loc.reg)
	}
}

// length sets dst to a length operand, or faults when it is above
// bpf.MaxLength; that includes what a negative length looks like.
func (e *emitter) length(dst amd64.Reg, v *value) {
	e.move(dst, v)
	e.OpImm(amd64.Cmp, 8, dst, bpf.MaxLength)
	e.Jcc(amd64.CondA, e.land())
}

// affordable lowers dst to the bytes that the fuel left pays for; t is
// clobbered.
func (e *emitter) affordable(dst, t amd64.Reg) {
	e.Mov(8, t, e.regs.fuel.reg)
	e.ShiftImm(amd64.Shl, 8, t, 6)
	e.Op(amd64.Cmp, 8, dst, t)
	e.CMov(amd64.CondA, 8, dst, t)
}

// payFor pays for the bytes counted in dst, none of which is read again; what
// fuel does not cover leaves through the fuel exit. dst and t are clobbered.
func (e *emitter) payFor(dst, t amd64.Reg) {
	e.Mov(8, t, e.regs.fuel.reg)
	e.ShiftImm(amd64.Shl, 8, t, 6)
	e.Op(amd64.Cmp, 8, dst, t)
	e.Jcc(amd64.CondA, e.outOf)
	e.OpImm(amd64.Add, 8, dst, bpf.FuelBytes-1)
	e.ShiftImm(amd64.Shr, 8, dst, 6)
	e.Op(amd64.Sub, 4, e.regs.fuel.reg, dst)
}

// payUpTo pays for bytes 0 to index dst, which the fuel covers. dst is clobbered.
func (e *emitter) payUpTo(dst amd64.Reg) {
	e.ShiftImm(amd64.Shr, 8, dst, 6)
	e.OpImm(amd64.Add, 8, dst, 1)
	e.Op(amd64.Sub, 4, e.regs.fuel.reg, dst)
}

// userHalf faults unless the address in r is plausible; t is clobbered.
func (e *emitter) userHalf(r, t amd64.Reg) {
	e.Lea(t, amd64.At(r, -minAddress))
	e.ShiftImm(amd64.Shr, 8, t, userBits)
	e.Jcc(amd64.CondNE, e.land())
}

// readable is how many bytes from an aligned boundary on can be read once the first
// of them could.
func (e *emitter) readable() int32 {
	if e.l.Faults == Copy {
		return windowSize
	}
	return pageSize
}

// enterPage makes sure that memory from the address in r to the end of its page,
// or window, can be read.
func (e *emitter) enterPage(r amd64.Reg, window int) {
	switch e.l.Faults {
	case Probe:
		e.probeAt(r)
	case Copy:
		e.fetchWindow(r, window)
	}
}

// atBoundary does enterPage when the address in r is the first of a page.
func (e *emitter) atBoundary(r amd64.Reg, window int) {
	if e.l.Faults == Table {
		return
	}
	inside := e.Label()
	e.TestImm(4, r, e.readable()-1)
	e.Jcc(amd64.CondNE, inside)
	e.enterPage(r, window)
	e.Bind(inside)
}

// fetchWindow copies memory from the address in r to the end of its window, to
// the same place in the window's copy.
func (e *emitter) fetchWindow(r amd64.Reg, window int) {
	e.windows = true
	e.push(r)
	e.Lea(r, e.window(window))
	e.push(r)
	e.deepest = max(e.deepest, e.frameSize()+fetchStack)
	e.Call(e.fetchInto)
	e.Load(8, r, amd64.At(amd64.RSP, 8))
	e.drop(16)
	e.Jcc(amd64.CondB, e.land())
}

// window returns the first byte of a window's copy.
func (e *emitter) window(n int) amd64.Mem {
	return amd64.At(amd64.RSP, e.pushed+e.vectors+16*vectorCount+windowSize*int32(n))
}

// source returns the operand that holds the memory at the address in r, within
// a page entered before; t is clobbered and may not be r.
func (e *emitter) source(r, t amd64.Reg, window int) amd64.Mem {
	if e.l.Faults != Copy {
		return amd64.At(r, 0)
	}
	e.Mov(4, t, r)
	e.OpImm(amd64.And, 4, t, windowSize-1)
	m := e.window(window)
	m.Index, m.Scale = t, 1
	return m
}

// chunk loads 16 bytes: aligned ones never cross a page.
func (e *emitter) chunk(x amd64.XMM, m amd64.Mem) {
	start := e.Here()
	if e.l.Faults == Copy {
		e.LoadVecU(x, m)
		return
	}
	e.LoadVec(x, m)
	e.mayFault(start, e.land())
}
