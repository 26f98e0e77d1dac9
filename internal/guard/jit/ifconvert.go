package jit

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A guard that counts what it finds, if x == '*' { k++ }, jumps over the addition nearly
// always or, worse, now and then. The answer of the comparison is a number, too: k += x ==
// '*' takes neither a jump nor a guess (if-conversion: Allen, Kennedy, Porterfield and
// Warren, POPL 1983). In a loop over bytes the jump taken is a cycle of the two that a
// round takes.
//
// Only what adds or takes away 1, or chooses between two neighbouring constants, is turned
// so: it costs no more than the comparison, whichever way would have been taken. Nothing
// else happens on either way: no read, which might fault, no fuel, no effect.

// maxCounted bounds how many numbers one comparison changes.
const maxCounted = 2

// maxStraight bounds the blocks that one way is followed.
const maxStraight = 8

// ifConvert does so all over f and reports whether it did at all.
func ifConvert(f *function) bool {
	changed := false
	for _, b := range f.blocks {
		changed = b.count() || changed
	}
	if changed {
		for _, b := range f.blocks {
			b.rewrite()
		}
		prune(f)
		dropDead(f)
	}
	return changed
}

// count makes numbers of the two ways on from b, where they meet again at once.
func (b *block) count() bool {
	if b.term != termBranch {
		return false
	}
	yes, no := b.straightOn(0), b.straightOn(1)
	if len(yes) == 0 || len(no) == 0 {
		return false
	}
	last, other := yes[len(yes)-1], no[len(no)-1]
	join := last.succs[0]
	if join != other.succs[0] || join == b || len(join.preds) != 2 {
		return false
	}
	fromYes := slices.Index(join.preds, last)
	var phis []*value
	var all []counted
	for _, phi := range join.values {
		if phi.op != opPhi {
			break
		}
		c, ok := b.counts(phi.args[fromYes].find(), phi.args[1-fromYes].find())
		if !ok {
			return false
		}
		phis, all = append(phis, phi), append(all, c)
	}
	if len(all) == 0 || len(all) > maxCounted || !onlyCounts(append(yes, no...), all) {
		return false
	}
	for i, phi := range phis {
		phi.fwd = b.counter(all[i])
	}
	b.succs[0].preds, b.succs[1].preds = nil, nil
	b.term, b.args, b.succs, join.preds = termJump, nil, []*block{join}, []*block{b}
	return true
}

// straightOn lists the blocks behind successor n of b, to the last before others meet it:
// nothing leads into them but b, and each only jumps on.
func (b *block) straightOn(n int) (way []*block) {
	for s := b.succs[n]; len(s.preds) == 1 && s.term == termJump && len(way) < maxStraight; s = s.succs[0] {
		way = append(way, s)
	}
	if len(way) > 0 && len(way[len(way)-1].succs[0].preds) == 1 {
		return nil
	}
	return way
}

// counted is a number that a comparison changes by 1.
type counted struct {
	from *value // what it is where cond does not hold
	step op     // opAdd or opSub: where it does, 1 more or less
	cond uint8
	to   *value // what that was
}

// counts says how what a number is where the comparison of b holds, yes, differs from what
// it is else, no; ok is false unless it is by 1.
func (b *block) counts(yes, no *value) (c counted, ok bool) {
	if step, ok := stepFrom(no, yes); ok {
		return counted{no, step, b.cond, yes}, true
	}
	opposite, known := negated[b.cond]
	step, ok := stepFrom(yes, no)
	return counted{yes, step, opposite, no}, ok && known
}

// stepFrom says how to comes of from by 1, all 64 bits of it.
func stepFrom(from, to *value) (step op, ok bool) {
	by := int64(0)
	switch {
	case from.isConst() && to.isConst():
		by = to.imm - from.imm
	case to.op == opAdd && to.width == 8 && to.args[0].find() == from && to.args[1].isConst():
		by = to.args[1].imm
	}
	switch by {
	case 1:
		return opAdd, true
	case -1:
		return opSub, true
	}
	return 0, false
}

// negated is the comparison that holds when another does not. There is none for JmpSET.
var negated = map[uint8]uint8{
	bpf.JmpEQ: bpf.JmpNE, bpf.JmpNE: bpf.JmpEQ,
	bpf.JmpLT: bpf.JmpGE, bpf.JmpGE: bpf.JmpLT, bpf.JmpLE: bpf.JmpGT, bpf.JmpGT: bpf.JmpLE,
	bpf.JmpSLT: bpf.JmpSGE, bpf.JmpSGE: bpf.JmpSLT, bpf.JmpSLE: bpf.JmpSGT, bpf.JmpSGT: bpf.JmpSLE,
}

// onlyCounts reports whether all that happens in blocks is in all.
func onlyCounts(blocks []*block, all []counted) bool {
	for _, s := range blocks {
		for _, v := range s.values {
			if v.fwd == nil && v.op != opConst && v.op != opUndef && !slices.ContainsFunc(all, func(c counted) bool { return c.to == v }) {
				return false
			}
		}
	}
	return true
}

// counter adds what c says to the end of b and returns the number.
func (b *block) counter(c counted) *value {
	args, cond := b.args, c.cond
	if args[0].isConst() {
		args, cond = []*value{args[1], args[0]}, mirrored(cond)
	}
	is := &value{op: opHolds, width: 8, size: b.width, imm: int64(cond), args: slices.Clone(args), insn: b.insn, block: b}
	b.values = append(b.values, is)
	n := &value{op: c.step, width: 8, args: []*value{c.from, is}, insn: b.insn, block: b}
	switch zero := c.from.isConst() && c.from.imm == 0; {
	case c.step == opAdd && zero:
		return is
	case c.step == opAdd && c.from.isConst(): // a constant is the second operand
		n.args = []*value{is, c.from}
	case zero:
		n.op, n.args = opNeg, []*value{is}
	}
	b.values = append(b.values, n)
	return n
}
