package jit

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// The frame of a guard: what of it there is, which blocks need it, and how it is made
// and undone. Its layout stands at the emitter.

// layFrame decides how the frame is laid out.
func (e *emitter) layFrame() {
	e.stack = int32(e.f.stack+7) &^ 7
	e.vectors = e.stack + 8*int32(e.regs.slots)
	e.copies = e.vectors + e.vectorBytes()
	if e.l.Faults == Copy {
		for _, b := range e.f.blocks {
			e.reaches(b)
		}
	}
	e.acts = e.copies + e.copied
	e.local = e.acts
	for _, b := range e.f.blocks {
		e.mayAct = e.mayAct || slices.ContainsFunc(b.values, (*value).acts)
	}
	if e.mayAct {
		e.local += 8
	}
}

// frameSize is the bytes between rsp and the entry's rsp at this point.
func (e *emitter) frameSize() int32 {
	if !e.framed {
		return e.pushed
	}
	return e.pushed + e.local + 8*int32(len(e.regs.saved))
}

// savedAt returns where r was saved; ok is false when its value is still in it.
func (e *emitter) savedAt(r amd64.Reg) (m amd64.Mem, ok bool) {
	i := slices.Index(e.regs.saved, r)
	if !e.framed || i < 0 {
		return m, false
	}
	return amd64.At(amd64.RSP, e.pushed+e.local+8*int32(len(e.regs.saved)-1-i)), true
}

// slot returns the operand of a slot of the frame.
func (e *emitter) slot(n int) amd64.Mem {
	return amd64.At(amd64.RSP, e.pushed+e.stack+8*int32(n))
}

// push and pop keep track of rsp, and drop forgets n bytes; it keeps the flags.
func (e *emitter) push(r amd64.Reg) {
	e.Push(r)
	e.grow(8)
}

func (e *emitter) pop(r amd64.Reg) {
	e.Pop(r)
	e.pushed -= 8
}

func (e *emitter) drop(n int32) {
	e.Lea(amd64.RSP, amd64.At(amd64.RSP, n))
	e.pushed -= n
}

// grow notes that n more bytes were pushed.
func (e *emitter) grow(n int32) {
	e.pushed += n
	e.deepest = max(e.deepest, e.frameSize())
}

// markFramed finds the blocks that need the frame. A block that writes a
// register the caller may rely on, or uses the frame's memory, needs it, and so
// does whatever may follow such a block.
func (e *emitter) markFramed() {
	var work []*block
	mark := func(b *block) {
		if b != nil && !b.framed {
			b.framed = true
			work = append(work, b)
		}
	}
	for _, b := range e.f.blocks {
		if e.needsFrame(b) {
			mark(b)
		}
	}
	if e.regs.homes {
		mark(e.f.entry)
	}
	for len(work) > 0 {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		for _, s := range b.succs {
			mark(s)
		}
		if b.mayFault() {
			mark(e.f.onFault)
		}
		if b.mayBurn() {
			mark(e.f.onFuel)
		}
	}
}

func (e *emitter) needsFrame(b *block) bool {
	writes := func(loc location) bool { return loc.reg == amd64.NoReg || !e.regs.free.Has(loc.reg) }
	for _, v := range b.values {
		switch {
		case v.burns(), v.op == opStack, (v.op == opStore || v.op == opAtomic) && !v.shared, v.op == opHelper,
			v.op == opLoad && v.args[0].op == opStack:
			return true
		case v.op == opPhi || v.op == opArg && !e.regs.homes:
			continue // written at the ends of the blocks before; not written at all
		case v.placed() && (v.uses > 0 || v.effect()) && writes(v.loc):
			return true
		}
		for _, r := range v.temp {
			if !e.regs.free.Has(r) {
				return true
			}
		}
		if v.faults && (e.l.Faults == Copy || e.l.Faults == Probe && e.regs.conv.room > 0) {
			return true
		}
	}
	for _, s := range b.succs {
		for _, v := range s.values {
			if v.op == opPhi && v.uses > 0 && writes(v.loc) {
				return true
			}
		}
	}
	return false
}

// prologue saves registers and makes the frame.
func (e *emitter) prologue() {
	e.framed = false
	e.haveRoom()
	e.framed = true
	for _, r := range e.regs.saved {
		e.Push(r)
	}
	if e.local > 0 {
		e.Lea(amd64.RSP, amd64.At(amd64.RSP, -e.local))
	}
	e.grow(0)
	if e.mayAct {
		e.decide()
	}
	if e.regs.burns {
		e.MovImm(e.regs.fuel.reg, int64(e.f.fuel))
	}
}

// haveRoom makes sure that the stack has room for the guard, where that is not
// certain; it is written where rsp is as at entry. A call that leaves none passes,
// and counts as a fault.
func (e *emitter) haveRoom() {
	room := e.regs.conv.room
	if room == 0 {
		return
	}
	// rsp itself, for a moment: any other register may hold a value by now, and
	// signals have a stack of their own.
	e.Lea(amd64.RSP, amd64.At(amd64.RSP, -room))
	e.OpLoad(amd64.Cmp, 8, amd64.RSP, amd64.At(amd64.R14, 0))
	e.Lea(amd64.RSP, amd64.At(amd64.RSP, room))
	e.cramped = true
	e.Jcc(amd64.CondB, e.noRoom)
}

// epilogue undoes prologue.
func (e *emitter) epilogue() {
	if !e.framed {
		return
	}
	if e.local > 0 {
		e.Lea(amd64.RSP, amd64.At(amd64.RSP, e.local))
	}
	for _, r := range slices.Backward(e.regs.saved) {
		e.Pop(r)
	}
}
