package compile

import (
	"encoding/binary"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// maxInlineText is the longest text that is compared by loads; longer ones are
// compared by a helper. libpie's own comparison reads the same pieces in the
// same order, so that both fault at the same byte.
const maxInlineText = 32

func memAt(s *site) value {
	a, n := s.mem(0)
	i := s.word(1)
	s.faultIf(bpf.JmpGE, i, n)
	if i.isConst() {
		return one(s.loadLeaf(s.inReg(a), i.c, leaf{size: 1}))
	}
	return one(s.loadLeaf(s.alu(bpf.AluADD, a, i), 0, leaf{size: 1}))
}

// memWord reads size bytes from argument 1 on. The first check is unsigned, so that a
// negative index is too large, and the second cannot wrap: no piece is longer than
// bpf.MaxLength.
func (s *site) memWord(size uint8) operand {
	a, n := s.mem(0)
	i := s.word(1)
	s.faultIf(bpf.JmpGE, i, n)
	s.faultIf(bpf.JmpGT, s.alu(bpf.AluADD, i, operand{c: int64(size)}), n)
	if i.isConst() {
		return s.loadLeaf(s.inReg(a), i.c, leaf{size: size})
	}
	return s.loadLeaf(s.alu(bpf.AluADD, a, i), 0, leaf{size: size})
}

// swapped turns a number of size bytes.
func (l *lowerer) swapped(o operand, size uint8) operand {
	return l.bound(l.emitTo(insn{op: opSwap, a: l.inReg(o), size: size}), widest(leaf{size: size}))
}

// memSlice lowers m.Slice(i, j): j is at most n, i at most j. Both comparisons
// are unsigned, so that negative numbers are too large.
func memSlice(s *site) value {
	a, n := s.mem(0)
	i, j := s.word(1), s.word(2)
	s.faultIf(bpf.JmpGT, j, n)
	s.faultIf(bpf.JmpGT, i, j)
	length := s.alu(bpf.AluSUB, j, i)
	if length == j && !j.isConst() {
		length = s.mov(j) // what is known of it below j itself has only where it was checked
	}
	return value{parts: []operand{s.alu(bpf.AluADD, a, i), s.bound(length, min(s.atMost(n), bpf.MaxLength))}}
}

func memIndex(s *site) value {
	a, n := s.mem(0)
	return one(s.helper(bpf.HelperIndex, a, n, s.word(1)))
}

func memCount(s *site) value {
	a, n := s.mem(0)
	return one(s.bound(s.helper(bpf.HelperCount, a, n, s.word(1)), min(s.atMost(n), bpf.MaxLength)))
}

// find returns the index of argument 1 in argument 0, or −1.
func (s *site) find() operand {
	a, n := s.mem(0)
	if v, ok := s.chosenArg(1); ok {
		return s.findChosen(a, n, v)
	}
	t := s.textArg(1)
	switch {
	case s.err != nil || t == "":
		return constant0
	case len(t) == 1:
		return s.helper(bpf.HelperIndex, a, n, operand{c: int64(t[0])})
	}
	needle := s.emitTo(insn{op: opRodata, off: s.text(t)})
	return s.helper(bpf.HelperFind, a, n, needle, operand{c: int64(len(t))})
}

func contains(s *site) value {
	at := s.find()
	r := s.newReg()
	yes, no, done := s.newBlock(), s.newBlock(), s.newBlock()
	s.branch(bpf.JmpSGE, at, constant0, yes, no)
	return one(s.outcome(r, yes, no, done))
}

func equalMem(s *site) value {
	a, n := s.mem(0)
	b, m := s.mem(1)
	return one(s.bound(s.helper(bpf.HelperEqual, a, n, b, m), 1))
}

// matches reports whether the length of argument 0 stands in relation cond to
// that of argument 1, and that is its beginning, or its end.
func (s *site) matches(cond uint8, atEnd bool) operand {
	a, n := s.mem(0)
	if v, ok := s.chosenArg(1); ok {
		return s.matchesChosen(a, n, v, cond, atEnd)
	}
	t := s.textArg(1)
	size := operand{c: int64(len(t))}
	r := s.newReg()
	long, yes, no, done := s.newBlock(), s.newBlock(), s.newBlock(), s.newBlock()
	s.branch(cond, n, size, long, no)
	s.start(long)
	if atEnd {
		a = s.alu(bpf.AluADD, a, s.alu(bpf.AluSUB, n, size))
	}
	if len(t) > maxInlineText {
		text := s.emitTo(insn{op: opRodata, off: s.text(t)})
		s.branch(bpf.JmpNE, s.helper(bpf.HelperEqual, a, size, text, size), constant0, yes, no)
		return s.outcome(r, yes, no, done)
	}
	if t != "" {
		a = s.inReg(a)
	}
	for at := 0; at < len(t); {
		piece := pieceSize(len(t) - at)
		var want [8]byte
		copy(want[:], t[at:at+piece])
		got := s.loadLeaf(a, int64(at), leaf{size: uint8(piece)})
		next := s.newBlock()
		s.branch(bpf.JmpEQ, got, operand{c: int64(binary.LittleEndian.Uint64(want[:]))}, next, no)
		s.start(next)
		at += piece
	}
	s.jump(yes)
	return s.outcome(r, yes, no, done)
}

// pieceSize is the largest load for n bytes.
func pieceSize(n int) int {
	for _, size := range []int{8, 4, 2} {
		if n >= size {
			return size
		}
	}
	return 1
}
