package recorder

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// guard copies the guard's instructions, as far as its entry leads to them, and
// puts what records behind those that read the target.
func (b *builder) guard() {
	reached := b.reach()
	for pc := 0; pc < len(b.u.Insns); pc = b.u.Insns[pc].Next(pc) {
		if !reached[pc] {
			continue
		}
		b.here(pc)
		if pc < len(b.u.Pos) {
			b.at = b.u.Pos[pc]
		}
		b.insn(pc)
	}
}

// reach returns the instructions that the entry leads to.
func (b *builder) reach() []bool {
	u := b.u
	reached := make([]bool, len(u.Insns))
	for work := []int{0}; len(work) > 0; {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		if reached[pc] {
			continue
		}
		reached[pc] = true
		i := u.Insns[pc]
		if b.panics(pc) {
			continue
		}
		if t, ok := i.Target(pc); ok {
			work = append(work, t)
		}
		if i.Op != bpf.OpEXIT && i.Op != bpf.OpJA && i.Op != bpf.OpJA32 {
			work = append(work, i.Next(pc))
		}
	}
	return reached
}

// panics reports whether the instruction at pc reads where nothing can be: so the
// compiler writes a Go panic, right in front of the landing block. What the verifier
// found never to run is taken so, too.
func (b *builder) panics(pc int) bool {
	i := b.u.Insns[pc]
	if !b.p.Reachable(pc) {
		return true
	}
	if !i.IsLoad() || b.p.Access(pc).Region != verify.RegionTarget {
		return false
	}
	base, known := b.p.Const(pc, int(i.Src))
	return known && !bpf.InTarget(base+uint64(int64(i.Off)), uint64(i.Width()))
}

// insn copies the instruction at pc.
func (b *builder) insn(pc int) {
	i := b.u.Insns[pc]
	region := b.p.Access(pc).Region
	t, jumps := i.Target(pc)
	switch {
	case b.panics(pc):
		b.jump(b.panic)
	case i.Op == bpf.OpEXIT:
		b.slot(bpf.R7)
		b.store(bpf.R7, slotVerdict, bpf.R0)
		b.jump(b.publish)
	case i.Op == bpf.OpJA32:
		b.jump(t)
	case jumps:
		b.out = append(b.out, emitted{Insn: i, to: t, pos: b.at})
	case i.IsHelperCall():
		b.helper(pc)
	case i.IsLoad() && (region == verify.RegionTarget || region == verify.RegionSymbol):
		b.read(pc)
	case i.IsStore() && region == verify.RegionFrame:
		// A recorder lets every call pass: results would be for nothing.
	case i.IsLDDW():
		b.emit(i)
		b.emit(b.u.Insns[pc+1])
	default:
		b.emit(i)
	}
}

// read copies a load of the target and records it.
func (b *builder) read(pc int) {
	i := b.u.Insns[pc]
	s := b.borrow(pc, i)
	addr, slot, temp := s.regs[0], s.regs[1], s.regs[2]
	b.move(addr, i.Src)
	if i.Off != 0 {
		b.alu(bpf.AluADD, addr, int32(i.Off))
	}
	b.slot(slot)
	b.store(slot, slotReading, addr)
	b.emit(i)

	size := 16
	if i.Width() <= 2 {
		size = 8
	}
	b.room(slot, temp, size)
	switch i.Width() {
	case 1, 2:
		b.short(addr, temp, i)
		b.store(slot, 0, addr)
	default:
		kind := int32(kindWord4)
		if i.Width() == 8 {
			kind = kindWord8
		}
		b.tag(addr, temp, kind)
		b.store(slot, 0, addr)
		b.store(slot, 8, i.Dst)
	}
	b.advance(slot, temp, int32(size))
	b.giveBack(s)
}

// room leads slot, the address of the slot, to where size more bytes go, or cuts
// the record off.
func (b *builder) room(slot, temp uint8, size int) {
	b.load(temp, slot, slotUsed)
	b.branch(bpf.JmpGT, temp, int32(b.o.Ring.Size-size), b.cut)
	b.alu(bpf.AluAND, temp, int32(b.o.Ring.Size-8)) // to whole words
	b.aluReg(bpf.AluADD, slot, temp)
}

// advance counts size bytes as used.
func (b *builder) advance(slot, temp uint8, size int32) {
	b.slot(slot)
	b.load(temp, slot, slotUsed)
	b.alu(bpf.AluADD, temp, size)
	b.store(slot, slotUsed, temp)
}

// short makes addr the entry of a read of one or two bytes.
func (b *builder) short(addr, temp uint8, i bpf.Insn) {
	b.move(temp, i.Dst)
	if i.Width() == 1 {
		b.alu(bpf.AluAND, temp, 0xff)
		b.alu(bpf.AluOR, temp, kindByte<<13)
	} else {
		b.alu(bpf.AluAND, temp, 0xffff)
		b.alu(bpf.AluOR, temp, 1<<16)
	}
	b.alu(bpf.AluLSH, temp, addressBits)
	b.aluReg(bpf.AluOR, addr, temp)
}

// tag marks the address or number in addr as an entry of a kind.
func (b *builder) tag(addr, temp uint8, kind int32) {
	b.set(temp, kind<<13)
	b.alu(bpf.AluLSH, temp, addressBits)
	b.aluReg(bpf.AluOR, addr, temp)
}

// A loan is three registers that the guard lends; those it still needs lie on the
// stack.
type loan struct {
	regs  [3]uint8
	saved [3]bool
}

// borrow takes three registers other than those of the load at pc, unused ones
// first.
func (b *builder) borrow(pc int, i bpf.Insn) loan {
	live := b.p.Live(pc) | b.p.Live(i.Next(pc)) | 1<<i.Dst | 1<<i.Src
	var l loan
	n := 0
	take := func(r uint8, saved bool) {
		if n < len(l.regs) && r != i.Dst && r != i.Src {
			l.regs[n], l.saved[n] = r, saved
			n++
		}
	}
	for r := range uint8(bpf.R10) {
		if live&(1<<r) == 0 {
			take(r, false)
		}
	}
	for r := range uint8(bpf.R10) {
		if live&(1<<r) != 0 {
			take(r, true)
		}
	}
	for k, r := range l.regs {
		if l.saved[k] {
			b.store(bpf.R10, b.stackAt(stackSpill+k), r)
		}
	}
	return l
}

func (b *builder) giveBack(l loan) {
	for k, r := range l.regs {
		if l.saved[k] {
			b.load(r, bpf.R10, b.stackAt(stackSpill+k))
		}
	}
}
