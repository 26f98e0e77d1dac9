package jit

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// location is where a value lives: in a register, or in a slot of the frame.
type location struct {
	reg  amd64.Reg // NoReg: in slot
	slot int
}

// Positions: each value and terminator has one, a multiple of posStep. Operands
// are read at it, scratch registers live from it to just past the result, the
// result is written at posResult past it.
const (
	posStep   = 4
	posResult = 2
)

// span is a half-open range of positions.
type span struct{ from, to int }

// web is what shares one location: a value, phis it flows into, or a scratch
// register of one instruction.
type web struct {
	spans []span // ascending, disjoint
	avoid amd64.RegSet
	temp  bool // cannot live in a slot
	hints []*web
	loc   location
	into  *web // the web this one was merged into
}

func newWeb() *web { return &web{loc: location{reg: amd64.NoReg, slot: -1}} }

func (w *web) find() *web {
	for w.into != nil {
		w = w.into
	}
	return w
}

// registers is the outcome of allocation.
type registers struct {
	conv    *convention
	inPlace amd64.RegSet // argument registers that are read and never written
	free    amd64.RegSet // may change without saving
	saved   []amd64.Reg  // pushed in this order
	fuel    location     // what is left of the fuel
	burns   bool         // fuel is used at all
	slots   int          // 8-byte slots
	homes   bool         // argument words are read from where they were saved
	scratch []amd64.Reg  // for operands in slots
}

// allocator assigns registers at one level of pressure.
type allocator struct {
	*registers
	f     *function
	webs  []*web
	of    map[*value]*web
	temps map[*value][]*web
	in    []map[*value]bool // live at the start of each block
	used  map[amd64.Reg][]span
	pool  []amd64.Reg // in order of preference
	spill bool        // slots are allowed
	taken amd64.RegSet
}

// pressure is one way to allocate. Without spill, arguments stay where the caller
// put them and everything else gets a register. With it, the registers of
// arguments are saved and used too, and what still does not fit lives in the frame.
type pressure struct {
	spill bool
	pool  int // use so many registers at most; 0: all there are
}

// pressures are tried in turn.
var pressures = [...]pressure{{}, {spill: true}}

// allocate gives every placed value a location; nil when no pressure of the given
// ones suffices.
func allocate(f *function, conv *convention, free amd64.RegSet, try []pressure) *registers {
	number(f)
	for _, p := range try {
		a := newAllocator(f, conv, free, p.spill)
		if p.pool > 0 && p.pool < len(a.pool) {
			a.pool = a.pool[:p.pool]
		}
		if a.run() {
			a.finish()
			return a.registers
		}
	}
	return nil
}

// number gives positions to blocks, values and terminators in emission order.
func number(f *function) {
	pos := 0
	for _, b := range f.blocks {
		b.pos = pos
		for _, v := range b.values {
			if v.op != opPhi {
				pos += posStep
			}
			v.pos = pos
		}
		pos += posStep
		b.end = pos
		pos += posStep
	}
}

func newAllocator(f *function, conv *convention, free amd64.RegSet, spill bool) *allocator {
	a := &allocator{
		registers: &registers{conv: conv, homes: spill}, f: f, spill: spill,
		of: map[*value]*web{}, temps: map[*value][]*web{}, used: map[amd64.Reg][]span{},
	}
	args := a.argRegisters()
	a.free = free &^ conv.never
	for i, r := range conv.args {
		if i < eventArgs || args.Has(r) {
			a.free = a.free.Without(r) // still wanted when an event is written
		}
	}
	never := conv.never
	if !spill {
		a.inPlace = args
		never |= args
	}
	a.pool = preference(a.free, never)
	_, a.burns = f.exitsTaken()
	if a.burns {
		a.fuel = location{reg: a.pool[0]}
		a.taken = a.taken.With(a.pool[0])
		a.pool = a.pool[1:]
	}
	if spill {
		n := len(a.pool) - spillScratch
		a.scratch, a.pool = a.pool[n:], a.pool[:n]
		a.taken |= amd64.Set(a.scratch...)
		for _, r := range args.Regs() {
			a.taken = a.taken.With(r) // saved on entry, so that they can be read
		}
	}
	return a
}

// spillScratch is how many registers operands in slots pass through.
const spillScratch = 4

// preference orders registers: free ones first, then those that cost a push,
// the frame pointer last, so that profilers can walk the stack.
func preference(free, never amd64.RegSet) []amd64.Reg {
	all := []amd64.Reg{
		amd64.RAX, amd64.R11, amd64.R10, amd64.R9, amd64.R8, amd64.RCX, amd64.RDX, amd64.RSI, amd64.RDI,
		amd64.RBX, amd64.R12, amd64.R13, amd64.R14, amd64.R15, amd64.RBP,
	}
	var first, second []amd64.Reg
	for _, r := range all {
		switch {
		case never.Has(r):
		case free.Has(r):
			first = append(first, r)
		default:
			second = append(second, r)
		}
	}
	return append(first, second...)
}

// argRegisters returns the registers of the argument words the guard reads.
func (a *allocator) argRegisters() amd64.RegSet {
	var s amd64.RegSet
	for _, b := range a.f.blocks {
		for _, v := range b.values {
			if v.op == opArg {
				s = s.With(a.conv.args[v.imm])
			}
		}
	}
	return s
}

// needsWeb reports whether v is to be given a location.
func (a *allocator) needsWeb(v *value) bool {
	return v.placed() && (a.spill || v.op != opArg) && (v.uses > 0 || v.effect())
}

func (a *allocator) run() bool {
	a.makeWebs()
	a.coalesce()
	var todo []*web
	for _, w := range a.webs {
		if w.into == nil && len(w.spans) > 0 {
			todo = append(todo, w)
		}
	}
	slices.SortStableFunc(todo, func(x, y *web) int {
		if x.temp != y.temp { // what cannot spill chooses first
			if x.temp {
				return -1
			}
			return 1
		}
		return x.spans[0].from - y.spans[0].from
	})
	for _, w := range todo {
		if a.assign(w) {
			continue
		}
		if !a.spill || w.temp {
			return false
		}
		w.loc = location{reg: amd64.NoReg, slot: a.slots}
		a.slots++
	}
	return true
}

// assign finds a register for w: the one of a web it is copied from or to when
// possible, then the cheapest.
func (a *allocator) assign(w *web) bool {
	for _, h := range w.hints {
		h = h.find()
		if r := h.loc.reg; h != w && r != amd64.NoReg && a.fits(w, r) {
			return a.take(w, r)
		}
	}
	for _, cheap := range []bool{true, false} {
		for _, r := range a.pool {
			if (a.free.Has(r) || a.taken.Has(r)) == cheap && a.fits(w, r) {
				return a.take(w, r)
			}
		}
	}
	return false
}

func (a *allocator) fits(w *web, r amd64.Reg) bool {
	return slices.Contains(a.pool, r) && !w.avoid.Has(r) && !overlap(w.spans, a.used[r])
}

func (a *allocator) take(w *web, r amd64.Reg) bool {
	w.loc = location{reg: r, slot: -1}
	a.taken = a.taken.With(r)
	a.used[r] = insert(a.used[r], w.spans)
	return true
}

// finish writes the locations into the values and decides what is saved.
func (a *allocator) finish() {
	for _, b := range a.f.blocks {
		for _, v := range b.values {
			switch w := a.of[v]; {
			case w != nil:
				v.loc = w.find().loc
			case v.op == opArg:
				v.loc = location{reg: a.conv.args[v.imm], slot: -1}
			}
			v.temp = nil
			for _, t := range a.temps[v] {
				v.temp = append(v.temp, t.loc.reg)
			}
		}
	}
	a.saved = (a.taken &^ a.free).Regs()
}

// overlap reports whether two span lists share a position.
func overlap(x, y []span) bool {
	if len(x) > len(y) {
		x, y = y, x
	}
	for _, s := range x {
		i, _ := slices.BinarySearchFunc(y, s, func(a, b span) int { return a.to - b.from - 1 })
		if i < len(y) && y[i].from < s.to {
			return true
		}
	}
	return false
}

// insert adds the spans of x to y, which they do not overlap.
func insert(y, x []span) []span {
	for _, s := range x {
		i, _ := slices.BinarySearchFunc(y, s, func(a, b span) int { return a.from - b.from })
		y = slices.Insert(y, i, s)
	}
	return y
}

// merge returns the union of two span lists.
func merge(x, y []span) []span {
	all := append(slices.Clone(x), y...)
	slices.SortFunc(all, func(a, b span) int { return a.from - b.from })
	out := all[:0]
	for _, s := range all {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}
