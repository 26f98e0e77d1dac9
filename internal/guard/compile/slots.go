package compile

import (
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Variables on the stack whose lives do not overlap share its bytes: inlined copies of a
// function would otherwise each have their own. What is live is told for each byte, for an
// array is written piece by piece. A slot whose address is given away, or that may be read
// before it was written, shares with none: of the second verification tells, and must not
// find there what another variable has left.

// slotSpace numbers the bytes of the slots that are used: those of a slot follow one
// another from its first on.
type slotSpace struct {
	slots []*slot
	index map[*slot]int
	first []int // by index
	bytes int
	alone []bool   // shares with none
	apart []bitset // by index: the slots it cannot share with
}

func newSlotSpace(all []*slot, order []*block) *slotSpace {
	s := &slotSpace{index: map[*slot]int{}}
	used, given := map[*slot]bool{}, map[*slot]bool{}
	for _, b := range order {
		for k := range b.insns {
			if i := &b.insns[k]; i.slot != nil {
				used[i.slot] = true
				given[i.slot] = given[i.slot] || i.op == opStackAddr
			}
		}
	}
	for _, of := range all {
		if !used[of] {
			continue
		}
		s.index[of] = len(s.slots)
		s.slots = append(s.slots, of)
		s.first = append(s.first, s.bytes)
		s.alone = append(s.alone, given[of])
		s.bytes += int(of.size)
	}
	for range s.slots {
		s.apart = append(s.apart, newBitset(len(s.slots)))
	}
	return s
}

// span is the bytes that an access may touch: those of its whole slot when it is indexed
// by a variable.
func (s *slotSpace) span(i *insn) (from, to int) {
	from = s.first[s.index[i.slot]]
	if i.a.r != 0 {
		return from, from + int(i.slot.size)
	}
	return from + int(i.off), from + int(i.off) + int(i.size)
}

// step takes live from behind i to before it.
func (s *slotSpace) step(live bitset, i *insn) {
	from, to := s.span(i)
	switch {
	case i.op == opStackLoad:
		for k := from; k < to; k++ {
			live.add(reg(k))
		}
	case i.op == opStackStore && i.a.r == 0:
		for k := from; k < to; k++ {
			live.remove(reg(k))
		}
	}
}

// lives returns the bytes that are live at the end of each block, by block id, and
// notes the slots of which some are live at the beginning.
func (s *slotSpace) lives(order []*block) []bitset {
	in, out := make([]bitset, len(order)), make([]bitset, len(order))
	for i := range order {
		in[i], out[i] = newBitset(s.bytes), newBitset(s.bytes)
	}
	live := newBitset(s.bytes)
	for changed := true; changed; {
		changed = false
		for n := len(order) - 1; n >= 0; n-- {
			for _, next := range order[n].succs() {
				out[n].union(in[next.id])
			}
			live.copyFrom(out[n])
			for k := len(order[n].insns) - 1; k >= 0; k-- {
				if i := &order[n].insns[k]; i.slot != nil {
					s.step(live, i)
				}
			}
			changed = in[n].union(live) || changed
		}
	}
	in[0].each(func(k reg) { s.alone[s.of(int(k))] = true })
	return out
}

// of is the index of the slot that has a byte.
func (s *slotSpace) of(byte int) int {
	n, found := slices.BinarySearch(s.first, byte)
	if !found {
		n--
	}
	return n
}

// interfere finds which slots are written while others are live.
func (s *slotSpace) interfere(order []*block) {
	live := newBitset(s.bytes)
	for n, out := range s.lives(order) {
		live.copyFrom(out)
		for k := len(order[n].insns) - 1; k >= 0; k-- {
			i := &order[n].insns[k]
			if i.slot == nil {
				continue
			}
			if at := s.index[i.slot]; i.op == opStackStore {
				live.each(func(k reg) { s.part(at, s.of(int(k))) })
			}
			s.step(live, i)
		}
	}
}

func (s *slotSpace) part(a, b int) {
	s.apart[a].add(reg(b))
	s.apart[b].add(reg(a))
}

// place gives each slot the place nearest to r10 that it can have, and returns the bytes
// that all of them take.
func (s *slotSpace) place() (deepest int64) {
	for n, of := range s.slots {
		bottom := of.size
		for moved := true; moved; {
			moved = false
			for m, other := range s.slots[:n] {
				shared := !s.alone[n] && !s.alone[m] && !s.apart[n].has(reg(m))
				if top := -other.at - other.size; !shared && top < bottom && -other.at > bottom-of.size {
					bottom, moved = of.size-other.at, true
				}
			}
		}
		of.at = -bottom
		deepest = max(deepest, bottom)
	}
	return deepest
}

// maxShared bounds what a hostile guard can have compared, in bytes of slots.
const maxShared = 32 * bpf.StackSize

// placeSlots gives the slots that are used their place below r10.
func (l *lowerer) placeSlots(order []*block) *Error {
	s := newSlotSpace(l.slots, order)
	top := int64(s.bytes)
	if top <= maxShared {
		s.interfere(order)
		top = s.place()
	}
	if top > bpf.StackSize {
		return &Error{Pos: l.m.place(order[0].pos), Msg: fmt.Sprintf("the guard's local variables need %d bytes of stack, which has %d", top, bpf.StackSize), Instead: "use smaller arrays, or read the target's memory where it is"}
	}
	return nil
}
