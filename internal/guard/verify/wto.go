package verify

import "slices"

// A loop is a strongly connected part of a function. Every cycle in it passes
// its head or lies in an inner loop (Bourdoncle, "Efficient chaotic iteration
// strategies with widenings", 1993).
type loop struct {
	head    int
	pcs     []int // with the head and those of inner loops, by rank
	parent  *loop
	depth   int
	entries int // how many of its instructions are entered from outside; 1: only the head
}

// contains reports whether l is m or lies around it.
func (l *loop) contains(m *loop) bool {
	for ; m != nil; m = m.parent {
		if m == l {
			return true
		}
	}
	return false
}

// maxNesting bounds how deep loops nest: cutting them takes time by depth.
const maxNesting = 64

// An order is a weak topological order: a rank for each instruction so that
// each loop is a contiguous run of ranks that begins with its head.
type order struct {
	pcs   []int   // all instructions by rank
	rank  []int   // index into pcs
	loops []*loop // outer before inner
	of    []*loop // the innermost loop around each instruction
}

// isHead reports whether pc is where a loop begins.
func (o *order) isHead(pc int) bool { return o.of[pc] != nil && o.of[pc].head == pc }

// newOrder orders the instructions pcs of a graph with n nodes. Roots are
// entered from outside.
func newOrder(n int, pcs, roots []int, edges func(pc int) []int) (*order, *Error) {
	b := &orderBuilder{
		order:  &order{rank: make([]int, n), of: make([]*loop, n)},
		edges:  edges,
		preds:  make([][]int, n),
		region: make([]int, n),
		visit:  make([]visit, n),
		root:   make([]bool, n),
	}
	for _, pc := range pcs {
		for _, next := range edges(pc) {
			b.preds[next] = append(b.preds[next], pc)
		}
	}
	for _, pc := range roots {
		b.root[pc] = true
	}
	return b.order, b.cut(pcs, nil)
}

// A visit is Tarjan's bookkeeping for one instruction; index 0 is not visited.
type visit struct {
	index, low int
	onStack    bool
}

type orderBuilder struct {
	*order
	edges   func(pc int) []int
	preds   [][]int
	root    []bool
	region  []int // the region that each instruction is in at present
	regions int
	visit   []visit
	indexes int
	stack   []int
}

// cut splits the instructions of one region into strongly connected parts, and
// places those in topological order.
func (b *orderBuilder) cut(pcs []int, around *loop) *Error {
	b.regions++
	for _, pc := range pcs {
		b.region[pc] = b.regions
		b.visit[pc] = visit{}
	}
	var parts [][]int
	for _, pc := range pcs {
		if b.visit[pc].index == 0 {
			b.connect(pc, b.regions, &parts)
		}
	}
	for _, part := range slices.Backward(parts) {
		if err := b.place(part, around); err != nil {
			return err
		}
	}
	return nil
}

// connect is Tarjan's algorithm: parts come out last first.
func (b *orderBuilder) connect(pc, region int, parts *[][]int) {
	b.indexes++
	v := &b.visit[pc]
	*v = visit{index: b.indexes, low: b.indexes, onStack: true}
	b.stack = append(b.stack, pc)
	for _, next := range b.edges(pc) {
		w := &b.visit[next]
		switch {
		case b.region[next] != region:
		case w.index == 0:
			b.connect(next, region, parts)
			v.low = min(v.low, w.low)
		case w.onStack:
			v.low = min(v.low, w.index)
		}
	}
	if v.low != v.index {
		return
	}
	at := slices.Index(b.stack, pc)
	part := slices.Clone(b.stack[at:])
	b.stack = b.stack[:at]
	for _, pc := range part {
		b.visit[pc].onStack = false
	}
	*parts = append(*parts, part)
}

// place gives ranks to a strongly connected part, and cuts it further when it
// is a loop.
func (b *orderBuilder) place(part []int, around *loop) *Error {
	if len(part) == 1 && !slices.Contains(b.edges(part[0]), part[0]) {
		b.add(part[0], around)
		return nil
	}
	l := b.newLoop(part, around)
	if l.depth > maxNesting {
		return refuse(l.head, ReasonTooComplex, "loops nest more than %d deep; simplify the guard", maxNesting)
	}
	b.loops = append(b.loops, l)
	b.add(l.head, l)
	b.region[l.head] = 0
	return b.cut(slices.DeleteFunc(part, func(pc int) bool { return pc == l.head }), l)
}

// add appends an instruction to the order and to the loops around it.
func (b *orderBuilder) add(pc int, around *loop) {
	b.rank[pc], b.of[pc] = len(b.pcs), around
	b.pcs = append(b.pcs, pc)
	for l := around; l != nil; l = l.parent {
		l.pcs = append(l.pcs, pc)
	}
}

// newLoop makes a loop of a part. Its head is the first instruction that is
// entered from outside.
func (b *orderBuilder) newLoop(part []int, around *loop) *loop {
	slices.Sort(part)
	l := &loop{head: part[0], parent: around, depth: 1}
	if around != nil {
		l.depth = around.depth + 1
	}
	for _, pc := range slices.Backward(part) {
		outside := func(from int) bool {
			_, inside := slices.BinarySearch(part, from)
			return !inside
		}
		if b.root[pc] || slices.ContainsFunc(b.preds[pc], outside) {
			l.entries++
			l.head = pc
		}
	}
	return l
}
