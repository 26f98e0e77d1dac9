package verify

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// A slot is 8 aligned bytes of stack. init has a bit for each byte written. When
// size is not 0, bytes off to off+size hold val: all 8 for an address.
type slot struct {
	init      uint8
	off, size uint8
	val       value
}

// frameWords are the words of the frame that can be read: arguments, SP, Return.
const frameWords = bpf.FrameArgs + 2

// A state is what is known at one place on one or more paths.
type state struct {
	regs   [bpf.NumRegs]value
	stacks [][]slot // by depth; slot k is bytes −8(k+1) … −8k−1 from r10
	owned  uint16   // depths whose slots no other state shares
	saved  [][4]value
	words  *[frameWords]value // nil: nothing known yet; shared, replaced when it changes
	stored uint16             // what the frame was given: bits storedXMM0, …
	merges int                // how often it was combined with others to be what it is
}

// Bits of state.stored; bit n is result word n.
const (
	storedXMM0 = 1 << (bpf.FrameResults + iota)
	storedErrno
	storedCode
)

// entryState is what the contract promises: r1 and r10.
func entryState() *state {
	s := &state{stacks: [][]slot{nil}}
	s.regs[bpf.R1] = value{kind: kindFrame, num: scalar.Const(0)}
	s.regs[bpf.R10] = value{kind: kindStack, num: scalar.Const(0)}
	return s
}

func (s *state) depth() int { return len(s.stacks) - 1 }

func (s *state) clone() *state {
	c := *s
	s.owned, c.owned, c.merges = 0, 0, 0
	c.stacks = slices.Clone(s.stacks)
	c.saved = slices.Clone(s.saved)
	return &c
}

// fresh is a copy of s whose numbers have not moved yet: where it goes next is
// another loop.
func (s *state) fresh() *state {
	c := s.clone()
	for r := range c.regs {
		c.regs[r].moves = 0
	}
	return c
}

// slots is how many words of stack s has.
func (s *state) slots() int {
	n := 0
	for _, st := range s.stacks {
		n += len(st)
	}
	return n
}

// size estimates the bytes that keeping s costs.
func (s *state) size() int { return 2048 + 112*s.slots() }

// slot returns slot k at a depth as it is.
func (s *state) slot(depth int32, k int) slot {
	if st := s.stacks[depth]; k < len(st) {
		return st[k]
	}
	return slot{}
}

// setSlot changes slot k at a depth.
func (s *state) setSlot(depth int32, k int, v slot) {
	st := s.stacks[depth]
	if s.owned&(1<<depth) == 0 || k >= len(st) {
		st = append(make([]slot, 0, max(k+1, len(st))), st...)
		s.owned |= 1 << depth
	}
	for len(st) <= k {
		st = append(st, slot{})
	}
	st[k] = v
	s.stacks[depth] = st
}

// link gives v an id if it can use one.
func (a *analysis) link(v *value) {
	if _, known := v.num.Const(); v.linkable() && v.id == 0 && !known {
		a.ids++
		v.id, v.delta = a.ids, 0
	}
}

// refine replaces what is known about the number in reg, and narrows all that
// are at a known distance from it.
func (s *state) refine(reg uint8, num scalar.Set) {
	from := s.regs[reg]
	s.regs[reg].num = num
	if from.id == 0 {
		return
	}
	narrow := func(v *value) {
		if v.id != from.id || !v.linkable() {
			return
		}
		there := scalar.ALU(addImm, num, scalar.Const(v.delta-from.delta))
		if m, ok := v.num.Meet(there); ok {
			v.num = m
		}
	}
	for r := range s.regs {
		narrow(&s.regs[r])
	}
	for d := range s.saved {
		for r := range s.saved[d] {
			narrow(&s.saved[d][r])
		}
	}
	for depth := range s.stacks {
		for k, sl := range s.stacks[depth] {
			if sl.size == 8 && sl.val.id == from.id {
				narrow(&sl.val)
				s.setSlot(int32(depth), k, sl)
			}
		}
	}
	linked := func(v value) bool { return v.id == from.id && v.linkable() }
	if s.words != nil && slices.ContainsFunc(s.words[:], linked) {
		words := *s.words
		for w := range words {
			narrow(&words[w])
		}
		s.words = &words
	}
}

// addImm is the sum of two numbers.
var addImm = bpf.Insn{Op: bpf.ClassALU64 | bpf.AluADD}

// word returns a word of the frame, linked so that a later load of it gives
// the same number.
func (a *analysis) word(s *state, w int) value {
	words := [frameWords]value{}
	if s.words != nil {
		words = *s.words
	}
	if words[w].kind == kindUninit {
		words[w] = number(scalar.Top())
		a.link(&words[w])
		s.words = &words
	}
	return words[w]
}

// forgetDead drops registers that nothing reads any more, so that states which
// differ in nothing that matters are the same.
func (s *state) forgetDead(live uint16) {
	for r := range bpf.R10 {
		if live&(1<<r) == 0 {
			s.regs[r] = value{}
		}
	}
}
