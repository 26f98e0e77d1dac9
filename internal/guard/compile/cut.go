package compile

import (
	"go/types"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Parts of arrays and constant strings, and what is done with whole parts at once. The
// bounds of a part of an array may be known only when the guard runs.

// cut lowers x[low:high:room] of a slice or an array.
func (l *lowerer) cut(in *instance, i *ssa.Slice, x value) value {
	low, high, room := constant0, x.count, x.room
	for _, b := range []struct {
		given ssa.Value
		to    *operand
	}{{i.Low, &low}, {i.High, &high}, {i.Max, &room}} {
		if b.given != nil {
			*b.to = l.scalar(in, b.given)
		}
	}
	l.faultIf(bpf.JmpGT, room, x.room)
	l.faultIf(bpf.JmpGT, high, room)
	l.faultIf(bpf.JmpGT, low, high)
	if l.err != nil {
		return value{}
	}
	elem := i.Type().Underlying().(*types.Slice).Elem()
	return value{
		place: l.indexPlace(x.place, types.NewArray(elem, 0), low),
		count: l.alu(bpf.AluSUB, high, low), room: l.alu(bpf.AluSUB, room, low),
	}
}

// elementPlace is the place of an element of a slice, whose index has been checked. What
// two variables together may be is not seen by verification: their sum is compared, too,
// with where the array ends.
func (l *lowerer) elementPlace(p *place, elem types.Type, index operand) *place {
	q := l.indexPlace(p, types.NewArray(elem, 0), index)
	if p.index.isConst() || q.index.isConst() || p.alloc.results != nil {
		return q
	}
	end := int64(len(q.alloc.table))
	if q.alloc.slot != nil {
		end = q.alloc.slot.size
	}
	l.faultIf(bpf.JmpGT, q.index, operand{c: end - q.off - l.m.sizes.Sizeof(elem)})
	return q
}

// cutText is a part of a constant string.
func (l *lowerer) cutText(in *instance, i *ssa.Slice, s string) value {
	low, high := int64(0), int64(len(s))
	for _, b := range []struct {
		given ssa.Value
		to    *int64
	}{{i.Low, &low}, {i.High, &high}} {
		if b.given == nil {
			continue
		}
		o := l.scalar(in, b.given)
		if !o.isConst() {
			l.fail("loop over its bytes, s[i]", "where a guard cuts a string must be a constant")
			return value{}
		}
		*b.to = o.c
	}
	if low < 0 || low > high || high > int64(len(s)) {
		l.faultIf(bpf.JmpEQ, constant0, constant0) // as a Go panic does
		return value{text: new(string)}
	}
	part := s[low:high]
	return value{text: &part}
}

// maxAtOnce is how many scalars copy and clear move without a loop.
const maxAtOnce = 16

// clearSlice lowers clear(s).
func (l *lowerer) clearSlice(in *instance, i *ssa.Call) {
	s, ok := i.Call.Args[0].Type().Underlying().(*types.Slice)
	x := l.eval(in, i.Call.Args[0])
	if !ok || !l.writable(x, "clear") {
		return
	}
	all, _ := l.m.leaves(s.Elem())
	l.eachElement(x.count, len(all), func(k operand) {
		p := l.elementPlace(x.place, s.Elem(), k)
		for _, leaf := range all {
			l.putStack(p, leaf, constant0)
		}
	})
}

// copySlice lowers copy(to, from), whose value is how many elements were copied.
func (l *lowerer) copySlice(in *instance, i *ssa.Call) value {
	s, ok := i.Call.Args[0].Type().Underlying().(*types.Slice)
	to, from := l.eval(in, i.Call.Args[0]), l.eval(in, i.Call.Args[1])
	if text, isConst := l.constText(from); isConst && isText(i.Call.Args[1].Type()) {
		from = l.bytesOf(text)
	}
	if !ok || !l.writable(to, "copy to") {
		return value{}
	}
	if from.place == nil {
		l.fail("read it byte by byte, in a loop with a bound", "a guard cannot copy this")
		return value{}
	}
	n := l.lesser(to.count, from.count)
	all, _ := l.m.leaves(s.Elem())
	load := func(k operand) []operand { return l.loadAt(l.elementPlace(from.place, s.Elem(), k), s.Elem()).parts }
	store := func(k operand, parts []operand) {
		p := l.elementPlace(to.place, s.Elem(), k)
		for at, leaf := range all {
			l.putStack(p, leaf, parts[at])
		}
	}
	switch atOnce := n.isConst() && n.c*int64(len(all)) <= maxAtOnce; {
	case atOnce: // all is read before something is written: the two may overlap
		var read [][]operand
		for k := range n.c {
			read = append(read, load(operand{c: k}))
		}
		for k := range read {
			store(operand{c: int64(k)}, read[k])
		}
	case to.place.alloc == from.place.alloc:
		l.fail("write the loop, in the direction that is right", "a guard cannot copy within one array by more than %d numbers, or as many as a variable says", maxAtOnce)
	default:
		l.eachElement(n, len(all), func(k operand) { store(k, load(k)) })
	}
	return one(n)
}

// writable refuses what cannot be written through a slice.
func (l *lowerer) writable(x value, what string) bool {
	if l.err == nil && (x.place == nil || x.place.alloc.slot == nil) {
		l.fail("declare a local array, and "+what+" a[:]", "a guard can %s local arrays only", what)
	}
	return l.err == nil
}

// eachElement lowers do for each index below n; width is how many scalars it moves.
func (l *lowerer) eachElement(n operand, width int, do func(k operand)) {
	if n.isConst() && n.c*int64(width) <= maxAtOnce {
		for k := range n.c {
			do(operand{c: k})
		}
		return
	}
	k := l.newReg()
	l.emit(insn{op: opMov, dst: k})
	head, body, done := l.newBlock(), l.newBlock(), l.newBlock()
	l.jump(head)
	l.start(head)
	l.branch(bpf.JmpLT, operand{r: k}, n, body, done)
	l.start(body)
	do(operand{r: k})
	l.emit(insn{op: opALU, alu: bpf.AluADD, dst: k, a: operand{r: k}, b: operand{c: 1}})
	l.jump(head)
	l.start(done)
}

// lesser is the smaller one of two lengths.
func (l *lowerer) lesser(a, b operand) operand {
	if first, known := l.decide(bpf.JmpLE, a, b); known {
		if first {
			return a
		}
		return b
	}
	r := l.newReg()
	l.emit(insn{op: opMov, dst: r, a: a})
	other, done := l.newBlock(), l.newBlock()
	l.branch(bpf.JmpLE, a, b, done, other)
	l.start(other)
	l.emit(insn{op: opMov, dst: r, a: b})
	l.jump(done)
	l.start(done)
	return l.bound(operand{r: r}, min(l.atMost(a), l.atMost(b)))
}
