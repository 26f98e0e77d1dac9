package jit

import (
	"math"
	"slices"
)

// maxWays bounds how many ways that meet are looked at.
const maxWays = 8

// atHead returns what q, asked at the end of way, can find where several ways meet at its
// head: what any of them leaves of the question that it is there, about the numbers which
// come along on it. They are the same numbers: what is not computed on way has its value
// from before the head.
//
// A number that counts up from one that is not negative, and is below some other in
// the signed reading on every way, is below that in the unsigned one. For it is never
// negative, by induction over the arrivals at the head: a constant is not; and one more
// than the number was at the arrival before is not either, for there it was below something,
// so that it was not the greatest number there is, and adding 1 has not wrapped. What is
// above it is not negative then, and between such numbers the two readings agree.
func (q question) atHead(way []*block) ordering {
	head := way[len(way)-1]
	if q.width != 8 || len(head.preds) < 2 || len(head.preds) > maxWays {
		return anyOrder
	}
	left, signed := ordering(0), ordering(0)
	for i, from := range head.preds {
		there, ok := q.comingFrom(way, i)
		if !ok {
			return anyOrder
		}
		left |= there.answersOn(from, head)
		there.as = asSigned
		signed |= there.answersOn(from, head)
	}
	switch {
	case q.as != asUnsigned:
	case signed == less && q.x.countsUp(head), signed == greater && q.y.countsUp(head):
		left &= signed
	}
	return left
}

// comingFrom returns what q, asked at the end of way, is where control comes to its head from
// predecessor i. ok is false where a number is computed on the way: it is another in each
// round.
func (q question) comingFrom(way []*block, i int) (there question, ok bool) {
	head := way[len(way)-1]
	for _, v := range []**value{&q.x, &q.y} {
		switch {
		case (*v).isConst():
		case (*v).op == opPhi && (*v).block == head:
			*v = (*v).args[i].find()
		case slices.Contains(way, (*v).block):
			return q, false
		}
	}
	return q, true
}

// answersOn returns what q can find when control goes from the end of b to the block to.
func (q question) answersOn(b, to *block) ordering {
	left := anyOrder
	for _, q := range []question{q, q.narrowed()} {
		here, _ := q.answers(b)
		left &= here & b.implies(to, q)
	}
	return left
}

// narrowed returns a question of 32 bits that has the same answer, or q: of two numbers that
// were extended in the same way, or of one and a constant of that range. Extending an int32
// keeps the order in either reading; of a uint32 it is the unsigned order in both.
func (q question) narrowed() question {
	n := question{q.x, q.y, 4, q.as}
	how := opConst
	for _, v := range []**value{&n.x, &n.y} {
		x := *v
		if x.isConst() {
			continue
		}
		if x.op != opSext && x.op != opZext || x.size != 4 || x.width != 8 || how != opConst && how != x.op {
			return q
		}
		how, *v = x.op, x.args[0].find()
	}
	least := int64(math.MinInt32)
	if how == opZext {
		n.as, least = asUnsigned, 0
	}
	for _, v := range []*value{n.x, n.y} {
		if v.isConst() && (v.imm < least || v.imm > math.MaxInt32) {
			return q
		}
	}
	return n
}

// countsUp reports whether v, where control comes to head, is a number from 0 on or one more
// than it was there before: all 64 bits of it.
func (v *value) countsUp(head *block) bool {
	return v.op == opPhi && v.block == head && !slices.ContainsFunc(v.args, func(a *value) bool {
		a = a.find()
		return !(a.isConst() && a.imm >= 0) && !(a.isSum() && a.args[0].find() == v && a.args[1].isConst() && a.args[1].imm == 1)
	})
}
