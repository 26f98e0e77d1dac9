package compile

import (
	"go/types"

	"golang.org/x/tools/go/ssa"
)

// instance is one function, inlined at one place.
type instance struct {
	fn      *ssa.Function
	vals    map[ssa.Value]value
	entry   map[*ssa.BasicBlock]*block // blocks that have a live edge into them
	edges   []edge                     // live ones
	rank    map[*ssa.BasicBlock]int    // the order in which blocks are lowered
	tail    bool                       // its verdict is the guard's
	returns []returned
}

// edge is a way from one SSA block to another that can be taken. Copies for the
// phis of to go into at.
type edge struct {
	from, to *ssa.BasicBlock
	index    int // of from in to.Preds
	at       *block
}

// returned is a return, to be joined with the others.
type returned struct {
	at   *block
	vals []value
}

// call inlines f and returns its results. With tail, f's verdict ends the guard.
func (l *lowerer) call(f *function, args []value, tail bool) []value {
	fn := f.fn
	for _, outer := range l.active {
		if outer == fn {
			l.fail("use a loop", "%s calls itself: a guard has no recursion", fn.Name())
			return nil
		}
	}
	if len(l.active) >= maxInline {
		l.fail("", "functions call one another more than %d deep", maxInline)
		return nil
	}
	if len(fn.Blocks) == 0 {
		l.fail("", "%s has no body", fn.Name())
		return nil
	}
	if l.insns += callCost + len(f.bound); l.insns > maxInsns {
		l.tooLarge()
		return nil
	}
	l.active = append(l.active, fn)
	in := &instance{fn: fn, vals: map[ssa.Value]value{}, entry: map[*ssa.BasicBlock]*block{}, tail: tail}
	for i, p := range fn.Params {
		in.vals[p] = args[i]
	}
	for i, v := range fn.FreeVars {
		in.vals[v] = f.bound[i]
	}
	outer, pos := l.depth, l.pos
	depth := loopDepths(fn)
	in.entry[fn.Blocks[0]] = l.cur
	blocks := reversePostorder(fn)
	in.rank = make(map[*ssa.BasicBlock]int, len(blocks))
	for k, b := range blocks {
		in.rank[b] = k
	}
	for _, b := range blocks {
		at := in.entry[b]
		if at == nil || l.err != nil {
			continue // no way in was left by constant conditions
		}
		if l.depth = outer + depth[b]; b != fn.Blocks[0] {
			at.depth = l.depth
		}
		l.start(at)
		l.block(in, b)
	}
	l.depth = outer
	l.phis(in)
	l.pos = pos
	results := l.join(in)
	l.active = l.active[:len(l.active)-1]
	return results
}

// block lowers b, whose dominators have been.
func (l *lowerer) block(in *instance, b *ssa.BasicBlock) {
	for _, i := range b.Instrs {
		if l.err != nil {
			return
		}
		l.at(i.Pos())
		l.instr(in, i)
	}
}

// goTo returns the block for the edge from b to its i-th successor.
func (l *lowerer) goTo(in *instance, b *ssa.BasicBlock, i int) *block {
	to := b.Succs[i]
	if in.entry[to] == nil {
		in.entry[to] = l.newBlock()
	}
	// A block may be twice among the predecessors: tell the edges apart by
	// which of them they are.
	nth := 0
	for _, s := range b.Succs[:i] {
		if s == to {
			nth++
		}
	}
	e := edge{from: b, to: to, at: l.newBlock()}
	for k, p := range to.Preds {
		if p == b {
			if nth == 0 {
				e.index = k
				break
			}
			nth--
		}
	}
	e.at.end, e.at.to, e.at.pos = endJump, [2]*block{in.entry[to]}, l.pos
	in.edges = append(in.edges, e)
	return e.at
}

// phi gives p registers, unless it has one value on all ways in.
func (l *lowerer) phi(in *instance, p *ssa.Phi) value {
	b := p.Block()
	if isFunction(p.Type()) {
		l.fail("call each function where the condition says which", "which function a variable is cannot depend on a condition")
		return value{}
	}
	var vals []value
	loop := false
	for _, pred := range b.Preds {
		loop = loop || in.rank[pred] >= in.rank[b] // also where a loop has two ways in
	}
	for _, e := range in.edges {
		if e.to == b {
			vals = append(vals, l.eval(in, p.Edges[e.index]))
		}
	}
	if !loop && len(vals) > 0 && allSame(vals) {
		return vals[0]
	}
	for _, v := range vals {
		if v.place != nil || v.object != nil {
			l.fail("write the cases out, each with its own variable", "a pointer to a variable cannot depend on a condition")
			return value{}
		}
	}
	if isLib(p.Type(), "Verdict") {
		return value{verdict: &verdict{phi: p}}
	}
	all, ok := l.m.leaves(p.Type())
	if !ok || len(all) > maxParts {
		l.fail("write the two cases out, each with its own constant", "a %s cannot depend on a condition", typeName(p.Type()))
		return value{}
	}
	v := value{}
	for _, leaf := range all {
		r := operand{r: l.newReg()}
		v.parts = append(v.parts, l.bound(r, widest(leaf)))
	}
	return v
}

func allSame(vals []value) bool {
	for _, v := range vals[1:] {
		if !same(v, vals[0]) {
			return false
		}
	}
	return true
}

func same(a, b value) bool {
	if len(a.parts) != len(b.parts) || a.off != b.off || a.verdict != b.verdict || a.result != b.result || !sameFunction(a.function, b.function) || a.tuple != nil || b.tuple != nil {
		return false
	}
	for i := range a.parts {
		if a.parts[i] != b.parts[i] {
			return false
		}
	}
	if (a.text == nil) != (b.text == nil) || a.text != nil && *a.text != *b.text {
		return false
	}
	return a.object == b.object && a.count == b.count && a.room == b.room && (a.place == nil) == (b.place == nil) && (a.place == nil || *a.place == *b.place)
}

// phis puts the copies for phis on the edges.
func (l *lowerer) phis(in *instance) {
	for _, e := range in.edges {
		if l.err != nil {
			return
		}
		if e.at.end == endExit {
			continue
		}
		var dst []reg
		var src []operand
		l.start(e.at)
		for _, i := range e.to.Instrs {
			p, ok := i.(*ssa.Phi)
			if !ok {
				break
			}
			to, from := in.vals[p], l.eval(in, p.Edges[e.index])
			if to.verdict != nil || same(to, from) {
				continue
			}
			l.at(p.Pos())
			if from.place != nil || from.object != nil {
				l.fail("write the cases out, each with its own variable", "a %s cannot depend on a condition", typeName(p.Type()))
				return
			}
			parts := l.plain(from).parts
			for k := range parts {
				if k < len(to.parts) && to.parts[k].r != 0 && to.parts[k] != parts[k] {
					dst, src = append(dst, to.parts[k].r), append(src, parts[k])
				}
			}
		}
		l.copyTo(dst, src)
		l.jump(in.entry[e.to])
	}
}

// join brings the returns of in together and goes on behind the call.
func (l *lowerer) join(in *instance) []value {
	if l.err != nil {
		return nil
	}
	if len(in.returns) == 0 { // it always faults, or ended the guard
		l.start(l.newBlock())
		return l.zeros(in.fn.Signature.Results())
	}
	if len(in.returns) == 1 {
		l.start(in.returns[0].at)
		return in.returns[0].vals
	}
	results := make([]value, len(in.returns[0].vals))
	var dst []reg
	for k := range results {
		column := make([]value, len(in.returns))
		for i, r := range in.returns {
			column[i] = r.vals[k]
		}
		if allSame(column) {
			results[k] = column[0]
			continue
		}
		t := in.fn.Signature.Results().At(k).Type()
		if !l.joinable(t, column, in.fn.Name()) {
			return nil
		}
		all, _ := l.m.leaves(t)
		for _, leaf := range all {
			r := l.newReg()
			dst = append(dst, r)
			results[k].parts = append(results[k].parts, l.bound(operand{r: r}, widest(leaf)))
		}
	}
	cont := l.newBlock()
	for _, r := range in.returns {
		l.start(r.at)
		var src []operand
		for k, v := range r.vals {
			if len(results[k].parts) > 0 && !same(v, results[k]) {
				src = append(src, l.plain(v).parts...)
			}
		}
		l.copyTo(dst, src)
		l.jump(cont)
	}
	l.start(cont)
	return results
}

// joinable reports whether different values of type t can come from one call.
func (l *lowerer) joinable(t types.Type, column []value, name string) bool {
	if isLib(t, "Verdict") {
		l.fail("write return "+name+"(…), or let "+name+" return a bool and make the verdict here", "the verdict of %s is not returned at once", name)
		return false
	}
	all, ok := l.m.leaves(t)
	for _, v := range column {
		ok = ok && v.place == nil && v.object == nil && v.result == nil
	}
	if !ok || len(all) > maxParts {
		l.fail("return the parts that are needed", "%s cannot return different values of type %s", name, typeName(t))
		return false
	}
	return true
}

// zeros returns values for results that are never returned.
func (l *lowerer) zeros(results *types.Tuple) []value {
	vals := make([]value, results.Len())
	for i := range vals {
		vals[i] = l.zero(results.At(i).Type())
	}
	return vals
}

// reversePostorder lists fn's reachable blocks, each after its dominators and,
// loops aside, after its predecessors; the first successor soon after its block.
func reversePostorder(fn *ssa.Function) []*ssa.BasicBlock {
	type frame struct {
		b    *ssa.BasicBlock
		next int
	}
	seen := map[*ssa.BasicBlock]bool{fn.Blocks[0]: true}
	stack := []frame{{b: fn.Blocks[0]}}
	var post []*ssa.BasicBlock
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.next == len(top.b.Succs) {
			post = append(post, top.b)
			stack = stack[:len(stack)-1]
			continue
		}
		top.next++
		s := top.b.Succs[len(top.b.Succs)-top.next]
		if !seen[s] {
			seen[s] = true
			stack = append(stack, frame{b: s})
		}
	}
	for i, j := 0, len(post)-1; i < j; i, j = i+1, j-1 {
		post[i], post[j] = post[j], post[i]
	}
	return post
}

// loopDepths returns how many loops each block is in.
func loopDepths(fn *ssa.Function) map[*ssa.BasicBlock]int {
	depth := map[*ssa.BasicBlock]int{}
	for _, head := range fn.Blocks {
		body := map[*ssa.BasicBlock]bool{head: true}
		var work []*ssa.BasicBlock
		for _, p := range head.Preds {
			if head.Dominates(p) && !body[p] {
				body[p] = true
				work = append(work, p)
			}
		}
		if len(work) == 0 && !selfLoop(head) {
			continue
		}
		for len(work) > 0 {
			b := work[len(work)-1]
			work = work[:len(work)-1]
			for _, p := range b.Preds {
				if !body[p] {
					body[p] = true
					work = append(work, p)
				}
			}
		}
		for b := range body {
			depth[b]++
		}
	}
	return depth
}

func selfLoop(b *ssa.BasicBlock) bool {
	for _, s := range b.Succs {
		if s == b {
			return true
		}
	}
	return false
}
