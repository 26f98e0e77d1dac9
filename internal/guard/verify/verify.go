package verify

import (
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Verify proves that u keeps the contract of package bpf, or says which
// instruction does not. Errors are *Error. Any input, also a hostile one, takes
// bounded time and memory; u is copied.
func Verify(u *bpf.Unit) (*Program, error) {
	u = cloneUnit(u)
	p, err := verify(u)
	if err != nil {
		return nil, err.place(u)
	}
	return p, nil
}

func verify(u *bpf.Unit) (*Program, *Error) {
	if err := checkStructure(u); err != nil {
		return nil, err
	}
	f, err := newFlow(u)
	if err != nil {
		return nil, err
	}
	a, err := newAnalysis(u, f)
	if err != nil {
		return nil, err
	}
	if err := a.run(); err != nil {
		return nil, err
	}
	if err := a.checkStack(); err != nil {
		return nil, err
	}
	r, err := newResult(a)
	if err != nil {
		return nil, err
	}
	return r.program(), nil
}

// checkStack refuses chains of calls whose stacks together are too large.
func (a *analysis) checkStack() *Error {
	for _, ctx := range a.contexts {
		if n := a.stackOf(ctx); n > bpf.StackSize {
			return refuse(ctx.call, ReasonStackDepth, "with this call the functions use %d bytes of stack; there are %d", n, bpf.StackSize)
		}
	}
	return nil
}

// stackOf is the stack of all functions active in a context.
func (a *analysis) stackOf(ctx *context) int {
	n := 0
	for c := ctx; c != nil; c = c.parent {
		n += a.depths[c.fn]
	}
	return n
}

// program gathers what others ask about.
func (r *result) program() *Program {
	prices, total := r.settle()
	prices.chargeLoops()
	r.unit.Fuel = r.fuel(prices, total)
	p := &Program{unit: r.unit, facts: make([]fact, len(r.unit.Insns))}
	for pc := range p.facts {
		if r.flow.owner[pc] != noOwner {
			p.facts[pc] = r.fact(pc)
		}
	}
	for _, ctx := range r.contexts {
		p.stack = max(p.stack, r.stackOf(ctx))
	}
	slices.Sort(r.verdicts)
	p.verdicts = slices.Compact(r.verdicts)
	p.cost = r.cost(prices, total)
	p.limits = prices.limits()
	return p
}

func (r *result) fact(pc int) fact {
	x := &r.seen[pc]
	f := fact{
		reachable: x.visited,
		faults:    x.faults,
		fuel:      r.charges[pc],
		same:      r.same(pc),
		falls:     x.through,
		jumps:     x.jumped,
		access:    x.access,
		reads:     x.reads,
		live:      r.live[pc],
		stack:     r.depths[r.flow.owner[pc]],
	}
	if i := r.unit.Insns[pc]; i.IsHelperCall() && bpf.Helper(i.Imm) == bpf.HelperInvoke && x.regs[bpf.R1].kind == kindSymbol {
		f.calls = r.unit.Symbols[x.regs[bpf.R1].base].Name
	}
	if x.elsewhere {
		f.access.Known, f.access.Offset = false, 0
	}
	for reg, v := range x.regs {
		if c, ok := v.num.Const(); ok && v.kind == kindScalar {
			f.known |= 1 << reg
			f.values[reg] = c
		}
	}
	return f
}

// same reports whether a MOV gives exactly its operand, a number.
func (r *result) same(pc int) bool {
	i, x := r.unit.Insns[pc], &r.seen[pc]
	if !i.IsALU() || i.Operation() != bpf.AluMOV || i.Op&bpf.SrcX == 0 || !x.visited {
		return false
	}
	src := x.regs[i.Src]
	return src.kind == kindScalar && unchanged(i, src.num)
}

// chargeLoops chooses the back-edges of each loop that pay, so that no way round
// the loop is free: those of its own, and those of inner loops only where a way
// round leads through them without the inner head. An edge that pays for several
// loops pays the sum, so that what is paid bounds the rounds of each.
func (p *pricing) chargeLoops() {
	for _, l := range p.order.loops {
		if !p.fueled[l] {
			continue
		}
		weight := p.weigh(l)
		paid := map[int]bool{}
		for _, inner := range []bool{false, true} {
			for _, pc := range l.pcs {
				if own, ok := p.waysBack(pc, l); ok && (own || inner) {
					paid[pc] = true
				}
			}
			if !p.freeRound(l, paid) {
				break
			}
		}
		for pc := range paid {
			p.charges[pc] = uint32(min(uint64(p.charges[pc])+uint64(weight), math.MaxInt32))
		}
	}
}

// waysBack reports whether pc is a back-edge within l, and whether it is of l itself
// and not of a loop inside.
func (r *result) waysBack(pc int, l *loop) (own, ok bool) {
	i := r.unit.Insns[pc]
	t, _ := i.Target(pc)
	if !r.seen[pc].jumped || !i.IsBackEdge(pc) || !l.contains(r.order.of[t]) {
		return false, false
	}
	return r.order.of[pc] == l || r.order.of[t] == l, true
}

// freeRound reports whether control can go round l without paying at any of the
// instructions that do.
func (r *result) freeRound(l *loop, paid map[int]bool) bool {
	seen := map[int]bool{}
	for work := []int{l.head}; len(work) > 0; {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		for _, next := range r.edges(pc) {
			t, jumps := r.unit.Insns[pc].Target(pc)
			if jumps && t == next && paid[pc] || !l.contains(r.order.of[next]) {
				continue
			}
			if next == l.head {
				return true
			}
			if !seen[next] {
				seen[next] = true
				work = append(work, next)
			}
		}
	}
	return false
}

// nsCap is the time that a guard without a fuel of its own may take at worst.
// minFuel is left also to one that takes as long without any loop.
const (
	nsCap   = 100_000.0
	minFuel = 64
)

// fuel is what the unit asks for, or the most that ends the dearest run in nsCap.
func (r *result) fuel(p *pricing, total price) uint32 {
	if r.unit.Fuel != 0 {
		return r.unit.Fuel
	}
	each := max(p.unit.ns, nsUnit)
	return uint32(min(max((nsCap-total.ns)/each, minFuel), bpf.FuelDefault))
}

// cost is the worst case: the dearest way through, and all the fuel in the
// dearest rounds.
func (r *result) cost(p *pricing, total price) Cost {
	fuel := float64(r.unit.Fuel)
	units := total.units
	for _, l := range r.order.loops {
		if r.fueled[l] {
			units = fuel
		}
	}
	c := Cost{FuelCap: units >= fuel}
	each := p.unit.max(price{ns: nsUnit})
	units = min(units, fuel)
	c.Ns = total.ns + units*each.ns
	c.Steps = total.steps + units*each.steps
	for pc := range r.seen {
		i := r.unit.Insns[pc]
		if r.flow.owner[pc] == noOwner {
			continue
		}
		c.Insns++
		if i.IsLoad() && r.seen[pc].visited {
			c.Loads[r.seen[pc].access.Region]++
		}
		if i.IsHelperCall() {
			c.Helpers++
		}
		if r.seen[pc].visited && writesTarget(i, r.seen[pc].access) {
			c.Writes++
		}
	}
	return c
}
