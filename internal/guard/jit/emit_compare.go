package jit

import (
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// comparer holds the registers of a comparison of two byte strings.
type comparer struct {
	x, y amd64.Reg // next byte of either
	rest amd64.Reg // bytes still to compare
	t    amd64.Reg
}

const (
	vecLeft  = amd64.XMM(1)
	vecRight = amd64.XMM(2)
)

// compare compares rest > 0 bytes. When all are equal it falls through with x
// and y behind them and rest 0; else it goes to differ, where t is how many bytes
// from x on are equal and rest is counted from x. It never looks at a page unless
// a byte there is due: 16 bytes are taken at once only where neither side has a
// boundary within them.
func (e *emitter) compare(r comparer, differ amd64.Label) {
	again, single, equal := e.Label(), e.Label(), e.Label()
	e.enterPage(r.x, windowLeft)
	e.enterPage(r.y, windowRight)
	e.Bind(again)
	e.OpImm(amd64.Cmp, 8, r.rest, 16)
	e.Jcc(amd64.CondB, single)
	for _, p := range []amd64.Reg{r.x, r.y} {
		e.Mov(4, r.t, p)
		e.OpImm(amd64.And, 4, r.t, e.readable()-1)
		e.OpImm(amd64.Cmp, 4, r.t, e.readable()-16)
		e.Jcc(amd64.CondA, single)
	}
	e.unaligned(vecLeft, r.x, r.t, windowLeft)
	e.unaligned(vecRight, r.y, r.t, windowRight)
	e.Vec(amd64.PCmpEqB, vecLeft, vecRight)
	e.PMovMskB(r.t, vecLeft)
	e.OpImm(amd64.Xor, 4, r.t, 0xffff)
	unequal := e.Label()
	e.Jcc(amd64.CondNE, unequal)
	e.OpImm(amd64.Add, 8, r.x, 16)
	e.OpImm(amd64.Add, 8, r.y, 16)
	e.OpImm(amd64.Sub, 8, r.rest, 16)
	e.Jcc(amd64.CondE, equal)
	e.bothAtBoundary(r)
	e.Jmp(again)

	e.Bind(unequal)
	e.Bsf(4, r.t, r.t)
	e.Jmp(differ)

	e.Bind(single)
	e.oneByte(r, differ)
	e.OpImm(amd64.Add, 8, r.x, 1)
	e.OpImm(amd64.Add, 8, r.y, 1)
	e.OpImm(amd64.Sub, 8, r.rest, 1)
	e.Jcc(amd64.CondE, equal)
	e.bothAtBoundary(r)
	e.Jmp(again)
	e.Bind(equal)
}

func (e *emitter) bothAtBoundary(r comparer) {
	e.atBoundary(r.x, windowLeft)
	e.atBoundary(r.y, windowRight)
}

// unaligned loads 16 bytes that cross no boundary.
func (e *emitter) unaligned(v amd64.XMM, p, t amd64.Reg, window int) {
	m := e.source(p, t, window)
	start := e.Here()
	e.LoadVecU(v, m)
	e.mayFault(start, e.land())
}

// oneByte compares one byte; when it differs t is 0.
func (e *emitter) oneByte(r comparer, differ amd64.Label) {
	same := e.Label()
	m := e.source(r.x, r.t, windowLeft)
	start := e.Here()
	e.LoadZX(1, r.t, m)
	e.mayFault(start, e.land())
	if e.l.Faults == Copy { // y's window needs a register too
		e.MovToVec(4, vecLeft, r.t)
		e.LoadZX(1, r.t, e.source(r.y, r.t, windowRight))
		e.MovToVec(4, vecRight, r.t)
		e.Vec(amd64.PCmpEqB, vecLeft, vecRight)
		e.PMovMskB(r.t, vecLeft)
		e.TestImm(4, r.t, 1)
		e.Jcc(amd64.CondNE, same)
	} else {
		start = e.Here()
		e.OpLoad(amd64.Cmp, 1, r.t, amd64.At(r.y, 0))
		e.mayFault(start, e.land())
		e.Jcc(amd64.CondE, same)
	}
	e.Op(amd64.Xor, 4, r.t, r.t)
	e.Jmp(differ)
	e.Bind(same)
}

// equal writes HelperEqual.
func (e *emitter) equal(v *value) {
	r := comparer{x: v.temp[0], y: v.temp[1], rest: v.temp[2], t: v.temp[3]}
	a, n, b, m, d := v.args[0], v.args[1], v.args[2], v.args[3], e.result(v)
	same, differ, done := e.Label(), e.Label(), e.Label()
	e.length(r.rest, n)
	e.length(r.t, m)
	e.Op(amd64.Xor, 4, d, d)
	e.Op(amd64.Cmp, 8, r.rest, r.t)
	e.Jcc(amd64.CondNE, done)
	e.affordable(r.rest, r.t)
	e.Test(8, r.rest, r.rest)
	e.Jcc(amd64.CondE, same)
	e.move(r.x, a)
	e.move(r.y, b)
	e.userHalf(r.x, r.t)
	e.userHalf(r.y, r.t)
	e.compare(r, differ)
	e.Bind(same)
	e.move(r.x, n)
	e.payFor(r.x, r.t)
	e.MovImm(d, 1)
	e.Jmp(done)
	e.Bind(differ)
	e.move(r.x, n)
	e.affordable(r.x, r.y)
	e.payDiffering(r)
	e.Bind(done)
}

// payDiffering pays for what a comparison of x bytes read when it found a
// difference.
func (e *emitter) payDiffering(r comparer) {
	e.Op(amd64.Sub, 8, r.x, r.rest)
	e.Op(amd64.Add, 8, r.x, r.t)
	e.payUpTo(r.x)
}

// finder holds the registers of HelperFind: a search for the needle's first byte
// and, at each place where it stands, a comparison of the rest.
type finder struct {
	scanner
	comparer
	paid amd64.Reg // units paid for the haystack so far
}

// find writes HelperFind.
func (e *emitter) find(v *value) {
	f := finder{paid: e.result(v)}
	f.scanner = scanner{c: v.temp[0], end: v.temp[1], mask: v.temp[2], t: v.temp[3]}
	f.comparer = comparer{x: v.temp[4], y: v.temp[5], rest: v.temp[6], t: v.temp[3]}
	a, t := v.args[0], v.temp[3]
	exhausted, absent, done := e.Label(), e.Label(), e.Label()
	next, candidate := e.Label(), e.Label()

	e.findLengths(f, v, absent)
	e.Op(amd64.Xor, 4, f.paid, f.paid)
	e.findEnd(f, v)
	e.move(f.c, a)
	e.Op(amd64.Cmp, 8, f.c, f.end)
	e.Jcc(amd64.CondE, exhausted)
	e.userHalf(f.c, t)
	e.firstOfNeedle(f, v.args[2])
	e.OpImm(amd64.And, 8, f.c, -16)
	e.firstChunk(f.scanner, a, f.x)
	e.Test(4, f.mask, f.mask)
	e.Jcc(amd64.CondNE, candidate)
	e.Bind(next)
	e.nextChunk(f.scanner, exhausted)
	e.Test(4, f.mask, f.mask)
	e.Jcc(amd64.CondE, next)
	e.Bind(candidate)
	e.tryCandidate(f, v, exhausted, done)
	e.findEnd(f, v)
	e.Test(4, f.mask, f.mask)
	e.Jcc(amd64.CondNE, candidate)
	e.Jmp(next)

	e.Bind(exhausted)
	e.places(f.x, v, t)
	e.Op(amd64.Add, 4, e.regs.fuel.reg, f.paid) // what was paid counts towards the whole
	e.payFor(f.x, t)
	e.Bind(absent)
	e.MovImm(f.paid, -1)
	e.Bind(done)
}

// findLengths faults on lengths out of range, and goes to absent when the needle
// is longer than the haystack.
func (e *emitter) findLengths(f finder, v *value, absent amd64.Label) {
	t := v.temp[3]
	e.length(f.rest, v.args[1])
	e.length(t, v.args[3])
	e.Test(8, t, t)
	e.Jcc(amd64.CondE, e.land())
	e.Op(amd64.Cmp, 8, f.rest, t)
	e.Jcc(amd64.CondB, absent)
}

// tryCandidate takes the lowest bit off the mask and compares the rest of the
// needle behind that place. It goes to done with the result, to exhausted when
// the place is past the end, or falls through when the needle is not there.
func (e *emitter) tryCandidate(f finder, v *value, exhausted, done amd64.Label) {
	a, needle, m, t := v.args[0], v.args[2], v.args[3], v.temp[3]
	differ, match, compared := e.Label(), e.Label(), e.Label()
	e.Bsf(4, t, f.mask)
	e.Lea(f.x, amd64.Indexed(f.c, t, 1, 0))
	e.Op(amd64.Cmp, 8, f.x, f.end)
	e.Jcc(amd64.CondAE, exhausted)
	e.Lea(t, amd64.At(f.mask, -1))
	e.Op(amd64.And, 4, f.mask, t)
	e.payHaystack(f, a)
	e.OpImm(amd64.Add, 8, f.x, 1)
	e.move(f.rest, m)
	e.OpImm(amd64.Sub, 8, f.rest, 1)
	e.Jcc(amd64.CondE, match)
	e.affordable(f.rest, t)
	e.Test(8, f.rest, f.rest)
	e.Jcc(amd64.CondE, compared) // no fuel: payFor sends it away
	e.move(f.y, needle)
	e.OpImm(amd64.Add, 8, f.y, 1)
	e.compare(f.comparer, differ)
	e.Bind(compared)
	e.move(f.y, m)
	e.OpImm(amd64.Sub, 8, f.y, 1)
	e.payFor(f.y, t)
	e.Bind(match)
	e.apply(amd64.Sub, f.x, m, t)
	e.apply(amd64.Sub, f.x, a, t)
	e.Mov(8, f.paid, f.x)
	e.Jmp(done)

	e.Bind(differ)
	e.move(f.x, m)
	e.OpImm(amd64.Sub, 8, f.x, 1)
	e.affordable(f.x, f.y)
	e.payDiffering(f.comparer)
}

// places sets dst to at how many places the needle could stand; t is clobbered.
func (e *emitter) places(dst amd64.Reg, v *value, t amd64.Reg) {
	e.move(dst, v.args[1])
	e.apply(amd64.Sub, dst, v.args[3], t)
	e.OpImm(amd64.Add, 8, dst, 1)
}

// findEnd sets end so that fuel covers all places before it: of the haystack
// paid + fuel units.
func (e *emitter) findEnd(f finder, v *value) {
	t := v.temp[3]
	e.places(f.end, v, t)
	e.Mov(8, t, e.regs.fuel.reg)
	e.Op(amd64.Add, 8, t, f.paid)
	e.ShiftImm(amd64.Shl, 8, t, 6)
	e.Op(amd64.Cmp, 8, f.end, t)
	e.CMov(amd64.CondA, 8, f.end, t)
	e.apply(amd64.Add, f.end, v.args[0], t)
}

// payHaystack pays for the haystack up to the place at x.
func (e *emitter) payHaystack(f finder, a *value) {
	e.Mov(8, f.rest, f.x)
	e.apply(amd64.Sub, f.rest, a, f.y)
	e.ShiftImm(amd64.Shr, 8, f.rest, 6)
	e.OpImm(amd64.Add, 8, f.rest, 1)
	e.Op(amd64.Add, 4, e.regs.fuel.reg, f.paid)
	e.Op(amd64.Sub, 4, e.regs.fuel.reg, f.rest)
	e.Mov(8, f.paid, f.rest)
}

// firstOfNeedle broadcasts the needle's first byte.
func (e *emitter) firstOfNeedle(f finder, needle *value) {
	t := f.comparer.t
	e.move(f.y, needle)
	e.userHalf(f.y, t)
	e.enterPage(f.y, windowRight)
	m := e.source(f.y, t, windowRight)
	start := e.Here()
	e.LoadZX(1, t, m)
	e.mayFault(start, e.land())
	e.MovToVec(4, vecSought, t)
	e.Vec(amd64.PUnpckLBW, vecSought, vecSought)
	e.Vec(amd64.PUnpckLWD, vecSought, vecSought)
	e.PShufD(vecSought, vecSought, 0)
}
