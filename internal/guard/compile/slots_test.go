package compile

import (
	"testing"
)

// slotCode is a block of accesses to slots.
func slotCode(insns ...insn) *block { return &block{insns: insns, end: endExit} }

func storeTo(s *slot, off int32) insn { return insn{op: opStackStore, slot: s, off: off, size: 8} }

func loadFrom(s *slot, off int32) insn {
	return insn{op: opStackLoad, slot: s, off: off, size: 8, dst: firstReg}
}

// placed gives the slots their places in code of blocks in layout order.
func placed(t *testing.T, slots []*slot, order ...*block) int64 {
	t.Helper()
	for n, b := range order {
		b.id = n
	}
	s := newSlotSpace(slots, order)
	s.interfere(order)
	return s.place()
}

// Slots share bytes when they are never live at once, and only then.
func TestSlotsShare(t *testing.T) {
	indexed := operand{r: firstReg}
	for _, c := range []struct {
		name string
		want int64
		code func(x, y *slot) []*block
	}{
		{"one after the other", 16, func(x, y *slot) []*block {
			return []*block{slotCode(storeTo(x, 0), loadFrom(x, 0), storeTo(y, 0), loadFrom(y, 0))}
		}},
		{"at once", 32, func(x, y *slot) []*block {
			return []*block{slotCode(storeTo(x, 0), storeTo(y, 0), loadFrom(x, 0), loadFrom(y, 0))}
		}},
		{"one half at once", 32, func(x, y *slot) []*block {
			return []*block{slotCode(storeTo(x, 0), storeTo(x, 8), loadFrom(x, 0), storeTo(y, 0), loadFrom(x, 8))}
		}},
		{"written for nothing while the other lives", 32, func(x, y *slot) []*block {
			return []*block{slotCode(storeTo(x, 0), storeTo(y, 0), loadFrom(x, 0))}
		}},
		{"perhaps read before it is written", 32, func(x, y *slot) []*block {
			return []*block{slotCode(storeTo(x, 0), loadFrom(x, 0), loadFrom(y, 0))}
		}},
		{"its address is given away", 32, func(x, y *slot) []*block {
			return []*block{slotCode(storeTo(x, 0), loadFrom(x, 0), storeTo(y, 0), insn{op: opStackAddr, slot: y, dst: firstReg})}
		}},
		{"written at an index while the other lives", 32, func(x, y *slot) []*block {
			store := storeTo(y, 0)
			store.a = indexed
			return []*block{slotCode(storeTo(y, 0), storeTo(y, 8), storeTo(x, 0), store, loadFrom(x, 0))}
		}},
		{"read at an index after the other", 32, func(x, y *slot) []*block {
			load := loadFrom(x, 0)
			load.a = indexed
			return []*block{slotCode(storeTo(x, 0), storeTo(x, 8), storeTo(y, 0), loadFrom(y, 0), load)}
		}},
		{"through the rounds of a loop", 32, func(x, y *slot) []*block {
			first, loop, end := slotCode(storeTo(x, 0)), slotCode(storeTo(y, 0), loadFrom(y, 0)), slotCode(loadFrom(x, 0))
			first.end, first.to[0] = endJump, loop
			loop.end, loop.to = endBranch, [2]*block{loop, end}
			return []*block{first, loop, end}
		}},
	} {
		x, y := &slot{size: 16}, &slot{size: 16}
		if got := placed(t, []*slot{x, y}, c.code(x, y)...); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
}
