package compile

import (
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

func isComparison(op token.Token) bool {
	switch op {
	case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
		return true
	}
	return false
}

// condition returns the bytecode comparison.
func condition(op token.Token, signed bool) uint8 {
	conds := map[token.Token][2]uint8{
		token.EQL: {bpf.JmpEQ, bpf.JmpEQ}, token.NEQ: {bpf.JmpNE, bpf.JmpNE},
		token.LSS: {bpf.JmpLT, bpf.JmpSLT}, token.LEQ: {bpf.JmpLE, bpf.JmpSLE},
		token.GTR: {bpf.JmpGT, bpf.JmpSGT}, token.GEQ: {bpf.JmpGE, bpf.JmpSGE},
	}
	if signed {
		return conds[op][1]
	}
	return conds[op][0]
}

// mirrored is the comparison with its operands exchanged.
var mirrored = map[uint8]uint8{
	bpf.JmpEQ: bpf.JmpEQ, bpf.JmpNE: bpf.JmpNE,
	bpf.JmpLT: bpf.JmpGT, bpf.JmpLE: bpf.JmpGE, bpf.JmpGT: bpf.JmpLT, bpf.JmpGE: bpf.JmpLE,
	bpf.JmpSLT: bpf.JmpSGT, bpf.JmpSLE: bpf.JmpSGE, bpf.JmpSGT: bpf.JmpSLT, bpf.JmpSGE: bpf.JmpSLE,
}

// negated is the comparison that holds when this one does not.
var negated = map[uint8]uint8{
	bpf.JmpEQ: bpf.JmpNE, bpf.JmpNE: bpf.JmpEQ,
	bpf.JmpLT: bpf.JmpGE, bpf.JmpGE: bpf.JmpLT, bpf.JmpGT: bpf.JmpLE, bpf.JmpLE: bpf.JmpGT,
	bpf.JmpSLT: bpf.JmpSGE, bpf.JmpSGE: bpf.JmpSLT, bpf.JmpSGT: bpf.JmpSLE, bpf.JmpSLE: bpf.JmpSGT,
}

// decide tells the outcome of a comparison if it is known now.
func (l *lowerer) decide(cond uint8, a, b operand) (holds, known bool) {
	if a.isConst() && b.isConst() {
		return holdsFor(cond, a.c, b.c), true
	}
	if b.isConst() {
		switch most, c := l.atMost(a), uint64(b.c); {
		case cond == bpf.JmpGT && most <= c, cond == bpf.JmpGE && most < c:
			return false, true
		case cond == bpf.JmpLE && most <= c, cond == bpf.JmpLT && most < c:
			return true, true
		case cond == bpf.JmpSLT && most < 1<<63 && b.c <= 0:
			return false, true
		case cond == bpf.JmpSGE && most < 1<<63 && b.c <= 0:
			return true, true
		}
	}
	return false, false
}

func holdsFor(cond uint8, a, b int64) bool {
	switch cond {
	case bpf.JmpEQ:
		return a == b
	case bpf.JmpNE:
		return a != b
	case bpf.JmpLT:
		return uint64(a) < uint64(b)
	case bpf.JmpLE:
		return uint64(a) <= uint64(b)
	case bpf.JmpGT:
		return uint64(a) > uint64(b)
	case bpf.JmpGE:
		return uint64(a) >= uint64(b)
	case bpf.JmpSLT:
		return a < b
	case bpf.JmpSLE:
		return a <= b
	case bpf.JmpSGT:
		return a > b
	}
	return a >= b
}

// compare ends the current block on the comparison i. The blocks to go to are
// asked for only if they can be reached.
func (l *lowerer) compare(in *instance, i *ssa.BinOp, yes, no func() *block) {
	x, y := l.plain(l.eval(in, i.X)), l.plain(l.eval(in, i.Y))
	if l.err != nil || !l.comparable(i.Op, i.X.Type(), x, y) {
		return
	}
	t, isScalar := scalar(i.X.Type())
	if isScalar {
		l.branchTo(condition(i.Op, t.signed), x.parts[0], y.parts[0], yes, no)
		return
	}
	equal, differ := yes, no
	if i.Op == token.NEQ {
		equal, differ = no, yes
	}
	// A part that counts: on to the next one, or out.
	out := l.newBlock()
	for k, counts := range l.m.compared(i.X.Type()) {
		if !counts {
			continue
		}
		next := l.newBlock()
		l.branch(bpf.JmpEQ, x.parts[k], y.parts[k], next, out)
		l.start(next)
	}
	l.jump(equal())
	l.start(out)
	l.jump(differ())
}

// branchTo is branch for blocks that should not exist if they are not reached.
func (l *lowerer) branchTo(cond uint8, a, b operand, yes, no func() *block) {
	holds, known := l.decide(cond, a, b)
	switch {
	case known && holds:
		l.jump(yes())
	case known:
		l.jump(no())
	default:
		to := yes()
		l.branch(cond, a, b, to, no())
	}
}

// comparable refuses comparisons that cannot be made.
func (l *lowerer) comparable(op token.Token, t types.Type, x, y value) bool {
	switch {
	case isLib(t, "Verdict"):
		l.fail("decide with a bool and make the verdict where it is returned", "verdicts cannot be compared")
	case isLib(t, "Mem"):
		l.fail("use EqualMem, or compare Addr and Len", "pieces of memory cannot be compared with ==")
	case isText(t) && op != token.EQL && op != token.NEQ:
		l.fail("only == and != can", "strings cannot be ordered")
	case isFloat(t):
		l.fail("read the bits as an integer of the same size, and compare those", "a guard has no floating-point arithmetic")
	case x.place != nil || y.place != nil:
		l.fail("", "pointers to local variables cannot be compared")
	case len(x.parts) != len(y.parts) || len(x.parts) == 0:
		l.fail("compare what is in them", "values of type %s cannot be compared", typeName(t))
	}
	return l.err == nil
}

func isFloat(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&(types.IsFloat|types.IsComplex) != 0
}

// comparison lowers a comparison whose value is used.
func (l *lowerer) comparison(in *instance, i *ssa.BinOp) value {
	r := l.newReg()
	yes, no, done := l.newBlock(), l.newBlock(), l.newBlock()
	l.compare(in, i, func() *block { return yes }, func() *block { return no })
	return one(l.outcome(r, yes, no, done))
}

// outcome sets r to 1 behind yes and to 0 behind no, and goes on behind both.
func (l *lowerer) outcome(r reg, yes, no, done *block) operand {
	for value, b := range []*block{no, yes} {
		l.start(b)
		l.emit(insn{op: opMov, dst: r, a: operand{c: int64(value)}})
		l.jump(done)
	}
	l.start(done)
	return l.bound(operand{r: r}, 1)
}
