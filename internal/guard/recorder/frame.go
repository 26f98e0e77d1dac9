package recorder

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// What slotVerdict holds when the guard did not come to a verdict.
const (
	unfinished = -1 // memory is missing
	faulted    = -2
	outOfFuel  = -3
	unasked    = -4 // the recorder has argument words only, and asks no guard
)

// prologue takes a slot, or lets the call go on unrecorded. r1 keeps the frame.
func (b *builder) prologue() {
	claim, own, release, drop := b.label(), b.label(), b.label(), b.label()
	const frame, sp, ring, free, lane = bpf.R1, bpf.R2, bpf.R3, bpf.R5, bpf.R7
	b.load(sp, frame, bpf.FrameSP)
	b.state(ring, b.o.Ring.At)
	b.haveLeave(b.pass)
	b.load(bpf.R0, ring, RingEvery)
	b.branch(bpf.JmpLE, bpf.R0, 1, claim)
	b.set(bpf.R6, 1)
	b.atomic(bpf.AtomicADD|bpf.AtomicFetch, ring, ringSeen, bpf.R6)
	b.aluReg(bpf.AluMOD, bpf.R6, bpf.R0)
	b.branch(bpf.JmpNE, bpf.R6, 0, b.pass)

	// A lane that has this frame already is of a call that never ended: a signal
	// handler left it by longjmp(3), say.
	b.here(claim)
	b.laneOf(lane, sp, bpf.R4)
	b.load(bpf.R0, lane, 0)
	b.branchReg(bpf.JmpEQ, bpf.R0, sp, own)
	b.branch(bpf.JmpNE, bpf.R0, 0, drop)
	b.atomic(bpf.AtomicCMPXCHG, lane, 0, sp)
	b.branch(bpf.JmpNE, bpf.R0, 0, drop)

	b.here(own)
	b.haveLeave(release)
	b.move(bpf.R0, free)
	b.move(bpf.R6, free)
	b.alu(bpf.AluADD, bpf.R6, 1)
	b.atomic(bpf.AtomicCMPXCHG, ring, RingNext, bpf.R6)
	b.branchReg(bpf.JmpNE, bpf.R0, free, release)
	b.store(lane, 8, free)
	b.slotOf(bpf.R4, free)
	b.store(bpf.R10, b.stackAt(stackSlot), bpf.R4)
	b.header(bpf.R4, bpf.R6)
	begin := b.label()
	b.jump(begin)

	b.here(release)
	b.storeImm(lane, 0, 0)
	b.here(drop)
	b.set(bpf.R6, 1)
	b.atomic(bpf.AtomicADD, ring, RingDrops, bpf.R6)
	b.jump(b.pass)
	b.here(begin)
}

// haveLeave jumps away when the next slot, which comes to r5, must not be taken.
func (b *builder) haveLeave(none int) {
	b.load(bpf.R5, bpf.R3, RingNext)
	b.load(bpf.R0, bpf.R3, RingLimit)
	b.branchReg(bpf.JmpGE, bpf.R5, bpf.R0, none)
}

// spread is 2³² divided by the golden ratio: it spreads frames over the lanes.
const spread = -0x61c88647

// laneOf loads the address of the lane of the frame in sp.
func (b *builder) laneOf(dst, sp, temp uint8) {
	b.move(temp, sp)
	b.alu(bpf.AluMUL, temp, spread)
	b.alu(bpf.AluRSH, temp, 64-9)
	b.alu(bpf.AluLSH, temp, 4)
	b.state(dst, b.o.Ring.At+ringLanes)
	b.aluReg(bpf.AluADD, dst, temp)
}

// slotOf loads the address of the slot whose number is in n, which it clobbers.
func (b *builder) slotOf(dst, n uint8) {
	r := b.o.Ring
	b.alu(bpf.AluAND, n, int32(r.Slots-1))
	b.alu(bpf.AluMUL, n, int32(r.Size))
	b.state(dst, r.slots())
	b.aluReg(bpf.AluADD, dst, n)
}

// header fills the slot at r4 whose number plus one is in r6 with what is known of
// every call. r1 stays.
func (b *builder) header(slot, number uint8) {
	b.store(slot, slotTaken, number)
	b.storeImm(slot, slotGuard, int32(b.o.Guard))
	b.storeImm(slot, slotUsed, slotEntries)
	b.storeImm(slot, slotCut, 0)
	b.store(slot, slotSP, bpf.R2)
	b.load(bpf.R0, bpf.R1, bpf.FrameReturn)
	b.store(slot, slotReturn, bpf.R0)
	b.storeImm(slot, slotReading, 0)
	if b.o.Memory {
		b.storeImm(slot, slotVerdict, unfinished)
	} else {
		b.storeImm(slot, slotVerdict, unasked)
	}
	for k := range bpf.FrameArgs {
		if k >= b.o.Args {
			b.storeImm(slot, slotArgs+8*k, 0)
			continue
		}
		b.load(bpf.R0, bpf.R1, bpf.FrameArg+8*k)
		b.store(slot, slotArgs+8*k, bpf.R0)
	}
	b.move(bpf.R6, bpf.R1)
	b.call(bpf.HelperNow)
	b.move(bpf.R1, bpf.R6)
	b.slot(bpf.R4)
	b.store(bpf.R4, slotNow, bpf.R0)
}

// endings are the ways out. Those that a landing block leads to come behind it: such
// a block must not jump back.
func (b *builder) endings() {
	b.at = bpf.Pos{}
	b.landings()
	if b.used(b.cut) {
		b.here(b.cut)
		b.slot(bpf.R7)
		b.storeImm(bpf.R7, slotCut, 1)
		b.jump(b.publish)
	}
	if b.used(b.panic) {
		b.here(b.panic)
		b.slot(bpf.R7)
		b.storeImm(bpf.R7, slotVerdict, faulted)
		b.storeImm(bpf.R7, slotReading, 0)
		b.jump(b.publish)
	}
	if b.used(b.finish) {
		b.here(b.finish)
		b.slot(bpf.R7)
	}
	// The frame is read first: once published, the slot may be another call's.
	b.here(b.publish)
	b.load(bpf.R2, bpf.R7, slotSP)
	b.load(bpf.R6, bpf.R7, slotTaken)
	b.store(bpf.R7, slotDone, bpf.R6)
	b.laneOf(bpf.R5, bpf.R2, bpf.R4)
	b.storeImm(bpf.R5, 0, 0)
	b.here(b.pass)
	b.set(bpf.R0, int32(bpf.VerdictPass))
	b.exit()
	if b.used(b.copy) {
		b.copyFunction()
	}
}

// landings publish the slot of a guard that a fault or the end of its fuel ended.
func (b *builder) landings() {
	land := b.label()
	b.here(b.onFault)
	b.set(bpf.R8, faulted)
	b.jump(land)
	b.here(b.onFuel)
	b.set(bpf.R8, outOfFuel)
	b.here(land)
	b.load(bpf.R2, bpf.R1, bpf.FrameSP)
	b.laneOf(bpf.R7, bpf.R2, bpf.R4)
	b.load(bpf.R0, bpf.R7, 0)
	b.branchReg(bpf.JmpNE, bpf.R0, bpf.R2, b.pass)
	b.load(bpf.R5, bpf.R7, 8)
	b.slotOf(bpf.R7, bpf.R5)
	b.store(bpf.R7, slotVerdict, bpf.R8)
	b.jump(b.publish)
}
