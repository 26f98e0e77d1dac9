package jit

import "github.com/patch-integration-engine/pie/internal/guard/bpf"

// A branch that asks what one on the only way to it has answered is no branch: the
// bounds check of m.At(i) in a loop over m is such a one.

// maxImplied bounds how far up the only way is followed, in blocks.
const maxImplied = 64

// ordering is what a comparison can find: bits of less, equal and greater.
type ordering uint8

const (
	less ordering = 1 << iota
	equal
	greater
)

// orderings are the answers for which a comparison holds. JmpSET is none of them.
var orderings = map[uint8]ordering{
	bpf.JmpEQ: equal, bpf.JmpNE: less | greater,
	bpf.JmpLT: less, bpf.JmpLE: less | equal, bpf.JmpGT: greater, bpf.JmpGE: greater | equal,
	bpf.JmpSLT: less, bpf.JmpSLE: less | equal, bpf.JmpSGT: greater, bpf.JmpSGE: greater | equal,
}

// kind says in which reading a comparison orders: 0 in either, 1 unsigned, 2 signed.
func kind(cond uint8) uint8 {
	switch cond {
	case bpf.JmpEQ, bpf.JmpNE:
		return 0
	case bpf.JmpLT, bpf.JmpLE, bpf.JmpGT, bpf.JmpGE:
		return 1
	}
	return 2
}

// foldImplied decides the branch of b where those on the only way to it leave one answer.
func foldImplied(b *block) bool {
	want := orderings[b.cond]
	if b.term != termBranch || want == 0 {
		return false
	}
	left := less | equal | greater // what the comparison can still find, in b's reading
	for at, n := b, 0; len(at.preds) == 1 && n < maxImplied; n++ {
		from := at.preds[0]
		left &= from.implies(at, b)
		at = from
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

// implies returns what the comparison of asks can find once control has come from b to
// the block to.
func (b *block) implies(to, asks *block) ordering {
	const all = less | equal | greater
	cond := b.cond
	held, known := orderings[cond]
	if b.term != termBranch || !known || b == asks || b.width != asks.width || b.succs[0] == b.succs[1] {
		return all
	}
	switch {
	case sameOperand(b.args[0], asks.args[0]) && sameOperand(b.args[1], asks.args[1]):
	case sameOperand(b.args[0], asks.args[1]) && sameOperand(b.args[1], asks.args[0]):
		cond = mirrored(cond)
		held = orderings[cond]
	default:
		return all
	}
	if b.succs[0] != to {
		held = all &^ held
	}
	if kind(cond) == kind(asks.cond) || held == equal {
		return held
	}
	// Of another reading it tells only whether the two can be equal.
	if held&equal == 0 {
		return less | greater
	}
	return all
}

func sameOperand(x, y *value) bool {
	return x == y || x.isConst() && y.isConst() && x.imm == y.imm
}

// keepOnly makes b jump to its successor n.
func (b *block) keepOnly(n int) {
	b.succs[1-n].dropPred(b)
	b.term, b.args, b.succs = termJump, nil, []*block{b.succs[n]}
}
