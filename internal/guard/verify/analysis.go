package verify

import (
	"container/heap"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify/scalar"
)

// Limits of the analysis. They bound what a hostile guard can cost: about half
// a second and 200 MB. A usual guard takes a few hundred steps.
const (
	maxSteps     = 200_000  // instructions looked at
	maxKept      = 64 << 20 // bytes of states kept at once, estimated
	maxContexts  = 256      // chains of calls
	maxDisjuncts = 8        // states kept apart at one place
)

// A context is a chain of calls, so that each call of a function is followed by
// itself.
type context struct {
	parent  *context
	call    int // where the parent calls
	depth   int
	fn      int
	landing bool // in OnFault or OnFuel
	path    []int
	points  map[int]*point
	callees map[int]*context // by call
}

// A point is a place where paths meet, in one context.
type point struct {
	ctx    *context
	pc     int
	states []*state // what was found so far, none implied by another
	queue  []*state // what arrived since
	taken  int      // how many states arrived that were not implied
	order  []int    // ranks of the calls around it, and its own
}

// seen is what all visits of an instruction have in common.
type seen struct {
	visited bool
	regs    [bpf.NumRegs]value
	access  Access
	reads   [2]Region // what a helper's memories are

	elsewhere bool // a stack access goes to a caller's stack on some path
	faults    bool
	passes    bool // on some path it does not certainly fault
	through   bool // control went on to the next instruction
	jumped    bool // control went to the target
	marked    bool // its comparands are among the thresholds
}

// An analysis follows the values of a guard to a fixpoint.
type analysis struct {
	unit       *bpf.Unit
	flow       *flow
	order      *order
	live       []uint16
	meets      []bool // places where states are kept
	seen       []seen
	thresholds scalar.Thresholds
	work       pointHeap
	contexts   []*context
	depths     []int // stack bytes used, by function
	verdicts   []bpf.Verdict
	ids        uint32
	steps      int
	kept       int
}

func newAnalysis(u *bpf.Unit, f *flow) (*analysis, *Error) {
	a := &analysis{unit: u, flow: f, live: f.liveness(), meets: make([]bool, len(u.Insns)),
		seen: make([]seen, len(u.Insns)), depths: make([]int, len(f.functions))}
	var pcs []int
	roots := []int{u.OnFault, u.OnFuel}
	for _, fn := range f.functions {
		pcs = append(pcs, fn.pcs...)
		roots = append(roots, fn.entry)
	}
	var err *Error
	if a.order, err = newOrder(len(u.Insns), pcs, roots, f.successors); err != nil {
		return nil, err
	}
	preds := make([]int, len(u.Insns))
	for _, pc := range pcs {
		for _, next := range f.successors(pc) {
			preds[next]++
		}
		i := u.Insns[pc]
		a.meets[pc] = a.meets[pc] || a.order.isHead(pc)
		if i.IsLocalCall() {
			a.meets[pc+1] = true
		}
		if i.IsConditional() && i.Op&bpf.SrcX == 0 {
			a.thresholds.Add(uint64(int64(i.Imm)))
			a.thresholds.Add(uint64(uint32(i.Imm)))
		}
	}
	for pc, n := range preds {
		a.meets[pc] = a.meets[pc] || n > 1
	}
	for _, pc := range roots {
		a.meets[pc] = true
	}
	return a, nil
}

// run follows all paths from the entry and from the landing blocks.
func (a *analysis) run() *Error {
	for k, entries := range [][]int{{0}, {a.unit.OnFault, a.unit.OnFuel}} {
		ctx := a.newContext(nil, -1, 0)
		ctx.landing = k > 0
		ctx.path = []int{k}
		for _, pc := range entries {
			if err := a.arrive(ctx, pc, entryState()); err != nil {
				return err
			}
		}
	}
	for len(a.work) > 0 {
		p := heap.Pop(&a.work).(*point)
		for _, s := range a.absorbAll(p) {
			if err := a.follow(p.ctx, p.pc, s.fresh()); err != nil {
				return err
			}
		}
	}
	return nil
}

// absorbAll adds what arrived at p to what is known there, and returns the
// states that this brought: at most maxDisjuncts, however many arrived.
func (a *analysis) absorbAll(p *point) []*state {
	known := slices.Clone(p.states)
	for _, s := range p.queue {
		a.kept -= s.size()
		a.absorb(p, s)
	}
	p.queue = nil
	var fresh []*state
	for _, s := range p.states {
		if !slices.Contains(known, s) {
			fresh = append(fresh, s)
		}
	}
	return fresh
}

func (a *analysis) newContext(parent *context, call, fn int) *context {
	c := &context{parent: parent, call: call, fn: fn, points: map[int]*point{}, callees: map[int]*context{}}
	if parent != nil {
		c.depth, c.landing = parent.depth+1, parent.landing
		c.path = append(slices.Clone(parent.path), a.order.rank[call])
	}
	a.contexts = append(a.contexts, c)
	return c
}

// callee is the context of the call at pc.
func (a *analysis) callee(ctx *context, pc, fn int) (*context, *Error) {
	if c := ctx.callees[pc]; c != nil {
		return c, nil
	}
	if len(a.contexts) >= maxContexts {
		return nil, refuse(pc, ReasonTooComplex, "functions call each other in more than %d ways; inline less or call less", maxContexts)
	}
	c := a.newContext(ctx, pc, fn)
	ctx.callees[pc] = c
	return c, nil
}

// arrive leaves a state at a place where paths meet, to be followed later.
func (a *analysis) arrive(ctx *context, pc int, s *state) *Error {
	p := ctx.points[pc]
	if p == nil {
		p = &point{ctx: ctx, pc: pc, order: append(slices.Clone(ctx.path), a.order.rank[pc])}
		ctx.points[pc] = p
	}
	s.forgetDead(a.live[pc])
	if len(p.queue) == 0 {
		heap.Push(&a.work, p)
	}
	p.queue = append(p.queue, s)
	if a.kept += s.size(); a.kept > maxKept {
		return tooComplex(pc)
	}
	return nil
}

func tooComplex(pc int) *Error {
	return refuse(pc, ReasonTooComplex, "the guard has too many different paths to follow; simplify it around here")
}

// follow runs a state through straight code, and both ways at branches, until
// paths meet or end.
func (a *analysis) follow(ctx *context, pc int, s *state) *Error {
	type path struct {
		pc int
		s  *state
	}
	begun := false
	for paths := []path{{pc, s}}; len(paths) > 0; {
		at := paths[len(paths)-1]
		paths = paths[:len(paths)-1]
		for ; at.s != nil; begun = true {
			if begun && a.meets[at.pc] {
				if err := a.arrive(ctx, at.pc, at.s); err != nil {
					return err
				}
				break
			}
			if a.steps++; a.steps > maxSteps {
				return tooComplex(at.pc)
			}
			a.visit(at.pc, at.s)
			out, err := a.step(ctx, at.pc, at.s)
			if err != nil {
				return err
			}
			if out.other != nil {
				paths = append(paths, path{out.otherPC, out.other})
			}
			at.pc, at.s = out.pc, out.s
		}
	}
	return nil
}

// visit adds a state to what is known about an instruction on all paths.
func (a *analysis) visit(pc int, s *state) {
	x := &a.seen[pc]
	if !x.visited {
		x.visited, x.regs = true, s.regs
		return
	}
	for r := range x.regs {
		if x.regs[r] != s.regs[r] {
			x.regs[r] = x.regs[r].join(s.regs[r])
		}
	}
}

// An outcome is where control goes after an instruction: to pc with s, and to
// otherPC with other; nil when it goes nowhere (on).
type outcome struct {
	pc, otherPC int
	s, other    *state
}

// pointHeap is the points with something in their queue: a callee before its
// caller goes on, an inner loop before the rest of the outer one.
type pointHeap []*point

func (h pointHeap) Less(i, j int) bool {
	return slices.Compare(h[i].order, h[j].order) < 0
}

func (h pointHeap) Len() int      { return len(h) }
func (h pointHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *pointHeap) Push(p any)   { *h = append(*h, p.(*point)) }

func (h *pointHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	*h = old[:len(old)-1]
	return p
}
