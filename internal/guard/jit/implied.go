package jit

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// A branch that asks what one on the only way to it has answered is no branch. Where several
// ways meet ahead of it, as at the head of a loop, it is none if all of them leave the same
// answer (meeting.go): the bounds check of m.At(i) in a loop over m is such a one.

// maxImplied bounds how far up the only way is followed, in blocks.
const maxImplied = 64

// ordering is what a comparison can find: bits of less, equal and greater.
type ordering uint8

const (
	less ordering = 1 << iota
	equal
	greater

	anyOrder = less | equal | greater
)

// orderings are the answers for which a comparison holds. JmpSET is none of them.
var orderings = map[uint8]ordering{
	bpf.JmpEQ: equal, bpf.JmpNE: less | greater,
	bpf.JmpLT: less, bpf.JmpLE: less | equal, bpf.JmpGT: greater, bpf.JmpGE: greater | equal,
	bpf.JmpSLT: less, bpf.JmpSLE: less | equal, bpf.JmpSGT: greater, bpf.JmpSGE: greater | equal,
}

// reading is how a comparison orders numbers.
type reading uint8

const (
	either reading = iota // it asks only whether they are equal
	asUnsigned
	asSigned
)

func readingOf(cond uint8) reading {
	switch cond {
	case bpf.JmpEQ, bpf.JmpNE:
		return either
	case bpf.JmpLT, bpf.JmpLE, bpf.JmpGT, bpf.JmpGE:
		return asUnsigned
	}
	return asSigned
}

// question is how the low width bytes of x and y are ordered.
type question struct {
	x, y  *value
	width uint8
	as    reading
}

// foldImplied decides the branch of b where those on the way to it leave one answer.
func foldImplied(b *block) bool {
	want := orderings[b.cond]
	if b.term != termBranch || want == 0 {
		return false
	}
	q := question{b.args[0], b.args[1], b.width, readingOf(b.cond)}
	left, way := q.answers(b)
	if left&want != 0 && left&^want != 0 {
		left &= q.atHead(way)
	}
	switch {
	case left&want == 0:
		b.keepOnly(1)
	case left&^want == 0:
		b.keepOnly(0)
	default:
		return false
	}
	return true
}

// answers returns what q can still find at the end of b, and the blocks of the only way
// there: b first, the one where others meet it last.
func (q question) answers(b *block) (left ordering, way []*block) {
	left, way = q.possible(), []*block{b}
	for len(b.preds) == 1 && len(way) <= maxImplied {
		from := b.preds[0]
		if from != way[0] {
			left &= from.implies(b, q)
		}
		b, way = from, append(way, from)
	}
	return left, way
}

// possible is what q can find whatever has been asked: of constants what is so, and no number
// is below 0 where none is negative.
func (q question) possible() ordering {
	left := anyOrder
	if q.x.isConst() && q.y.isConst() {
		below := uint8(bpf.JmpLT)
		if q.as == asSigned {
			below = bpf.JmpSLT
		}
		switch {
		case holds(bpf.JmpEQ, q.width, q.x.imm, q.y.imm):
			return equal
		case holds(below, q.width, q.x.imm, q.y.imm):
			return less
		}
		return greater
	}
	if q.as == asUnsigned {
		if isZero(q.y, q.width) {
			left &^= less
		}
		if isZero(q.x, q.width) {
			left &^= greater
		}
	}
	return left
}

func isZero(v *value, width uint8) bool {
	return v.isConst() && (v.imm == 0 || width == 4 && uint32(v.imm) == 0)
}

// implies returns what q can find once control has come from b to the block to.
func (b *block) implies(to *block, q question) ordering {
	cond := b.cond
	held, known := orderings[cond]
	if b.term != termBranch || !known || b.width != q.width || b.succs[0] == b.succs[1] {
		return anyOrder
	}
	switch {
	case sameOperand(b.args[0], q.x) && sameOperand(b.args[1], q.y):
	case sameOperand(b.args[0], q.y) && sameOperand(b.args[1], q.x):
		cond = mirrored(cond)
		held = orderings[cond]
	default:
		return anyOrder
	}
	if b.succs[0] != to {
		held = anyOrder &^ held
	}
	if readingOf(cond) == q.as || held == equal {
		return held
	}
	// Of another reading it tells only whether the two can be equal.
	if held&equal == 0 {
		return less | greater
	}
	return anyOrder
}

func sameOperand(x, y *value) bool {
	return x == y || x.isConst() && y.isConst() && x.imm == y.imm
}

// keepOnly makes b jump to its successor n.
func (b *block) keepOnly(n int) {
	b.succs[1-n].dropPred(b)
	b.term, b.args, b.succs = termJump, nil, []*block{b.succs[n]}
}
