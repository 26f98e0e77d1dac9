package recorder

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// helper copies a helper call and records what it read or answered. r1–r5 hold
// nothing behind it.
func (b *builder) helper(pc int) {
	i := b.u.Insns[pc]
	h := bpf.Helper(i.Imm)
	if h.Args() == 0 {
		b.emit(i)
		if h != bpf.HelperNow { // the header has it
			b.answer(h)
		}
		return
	}
	reads := b.p.HelperReads(pc)
	first, second := reads[0] == verify.RegionTarget, reads[1] == verify.RegionTarget
	if !first && !second {
		b.emit(i)
		return
	}
	// Addresses of the guard's own memory stay out of the words kept: only what is
	// needed is.
	for k := range h.Args() {
		if k == 0 && !first || k == 2 && (!second || h.Args() < 4) {
			continue
		}
		b.store(bpf.R10, b.stackAt(stackSpill+k), uint8(bpf.R1+k))
	}
	b.slot(bpf.R0)
	b.storeImm(bpf.R0, slotReading, 0)
	b.emit(i)
	b.store(bpf.R10, b.stackAt(stackSpill+4), bpf.R0)
	if first {
		b.load(bpf.R1, bpf.R10, b.stackAt(stackSpill))
		b.lengthRead(h)
		b.block()
	}
	if second {
		b.load(bpf.R1, bpf.R10, b.stackAt(stackSpill+2))
		b.load(bpf.R2, bpf.R10, b.stackAt(stackSpill+3))
		if h == bpf.HelperEqual {
			b.load(bpf.R0, bpf.R10, b.stackAt(stackSpill+4))
			b.lengthRead(h)
		}
		b.block()
	}
	b.load(bpf.R0, bpf.R10, b.stackAt(stackSpill+4))
}

// lengthRead brings to r2 how many bytes of its first memory the helper h read, at
// most; r0 is its answer. A length out of range has ended the guard already.
func (b *builder) lengthRead(h bpf.Helper) {
	done := b.label()
	b.load(bpf.R2, bpf.R10, b.stackAt(stackSpill+1))
	switch h {
	case bpf.HelperIndex, bpf.HelperStrLen:
		b.branchReg(bpf.JmpGE, bpf.R0, bpf.R2, done) // not found
		b.move(bpf.R2, bpf.R0)
		b.alu(bpf.AluADD, bpf.R2, 1)
	case bpf.HelperFind:
		b.branchReg(bpf.JmpGE, bpf.R0, bpf.R2, done)
		b.load(bpf.R2, bpf.R10, b.stackAt(stackSpill+3))
		b.aluReg(bpf.AluADD, bpf.R2, bpf.R0)
	case bpf.HelperEqual:
		b.load(bpf.R3, bpf.R10, b.stackAt(stackSpill+3))
		b.branchReg(bpf.JmpEQ, bpf.R2, bpf.R3, done)
		b.set(bpf.R2, 0)
	}
	b.here(done)
}

// block records r2 bytes at r1, or cuts the record off.
func (b *builder) block() {
	b.slot(bpf.R3)
	b.callLocal(b.copy)
	b.branch(bpf.JmpNE, bpf.R0, 0, b.cut)
}

// answer records the answer in r0 of a helper that reads no memory.
func (b *builder) answer(h bpf.Helper) {
	b.slot(bpf.R2)
	b.room(bpf.R2, bpf.R3, 16)
	b.set(bpf.R4, int32(h))
	b.tag(bpf.R4, bpf.R3, kindHelper)
	b.store(bpf.R2, 0, bpf.R4)
	b.store(bpf.R2, 8, bpf.R0)
	b.advance(bpf.R2, bpf.R3, 16)
}

// copyFunction is a function of its own: it records a block of r2 bytes at r1 in
// the slot at r3 and returns 0, or something else when they did not fit.
func (b *builder) copyFunction() {
	const addr, left, slot, at, temp = bpf.R1, bpf.R2, bpf.R3, bpf.R4, bpf.R5
	size := b.o.Ring.Size
	full, fits, loop, tail, bytes, done := b.label(), b.label(), b.label(), b.label(), b.label(), b.label()
	b.here(b.copy)
	b.load(at, slot, slotUsed)
	b.branch(bpf.JmpGT, at, int32(size-24), full)
	b.alu(bpf.AluAND, at, int32(size-8))
	b.set(temp, int32(size-16))
	b.aluReg(bpf.AluSUB, temp, at)
	b.branchReg(bpf.JmpLE, left, temp, fits)
	b.move(left, temp)
	b.storeImm(slot, slotCut, 1)
	b.here(fits)
	b.storeImm(slot, slotReading, copying)
	b.move(bpf.R0, addr)
	b.tag(bpf.R0, temp, kindBlock)
	b.put(at, bpf.R0)
	b.put(at, left)

	b.here(loop)
	b.branch(bpf.JmpLT, left, 8, tail)
	b.load(bpf.R0, addr, 0)
	b.put(at, bpf.R0)
	b.alu(bpf.AluADD, addr, 8)
	b.alu(bpf.AluSUB, left, 8)
	b.jump(loop)

	b.here(tail)
	b.branch(bpf.JmpEQ, left, 0, done)
	b.set(bpf.R0, 0)
	b.here(bytes)
	b.alu(bpf.AluSUB, left, 1)
	b.move(temp, addr)
	b.aluReg(bpf.AluADD, temp, left)
	b.loadByte(temp, temp)
	b.alu(bpf.AluLSH, bpf.R0, 8)
	b.aluReg(bpf.AluOR, bpf.R0, temp)
	b.branch(bpf.JmpNE, left, 0, bytes)
	b.put(at, bpf.R0)

	b.here(done)
	b.store(slot, slotUsed, at)
	b.load(bpf.R0, slot, slotCut)
	b.exit()
	b.here(full)
	b.set(bpf.R0, 1)
	b.exit()
}

// put writes a register to the slot at r3 where r4 says, and leads r4 on. It
// clobbers r5.
func (b *builder) put(at, src uint8) {
	b.alu(bpf.AluAND, at, int32(b.o.Ring.Size-8))
	b.move(bpf.R5, bpf.R3)
	b.aluReg(bpf.AluADD, bpf.R5, at)
	b.store(bpf.R5, 0, src)
	b.alu(bpf.AluADD, at, 8)
}
