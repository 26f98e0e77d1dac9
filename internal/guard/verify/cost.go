package verify

import (
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Estimated times in ns on a current x86-64, with faults handled by table and
// every load in the L1 cache. They are near what the machine code's benchmarks
// measure, and need to be right within a factor of two or three: they choose which
// loops pay fuel, and are printed as the worst case.
const (
	nsInsn   = 0.15
	nsLoad   = 1.0
	nsDivide = 6.0
	nsAtomic = 6.0
	nsHelper = 12.0
	nsTid    = 120.0
	nsNow    = 15.0
	nsUnit   = 2.0 // a unit of fuel: FuelBytes bytes in a helper
	nsInvoke = 400 // without what the function takes
)

// Loops of at most this much time need not pay fuel: outside of other loops
// that pay, and inside, where it multiplies.
const (
	nsFree       = 20_000.0
	nsFreeInside = 5.0
)

// A price is the worst case of a piece of code without the rounds that fuel
// pays for: time, instructions, and units of fuel that its helpers use.
type price struct {
	ns    float64
	steps float64
	units float64
}

func (p price) plus(q price) price {
	return price{p.ns + q.ns, p.steps + q.steps, p.units + q.units}
}

func (p price) times(n float64) price { return price{p.ns * n, p.steps * n, p.units * n} }

func (p price) max(q price) price {
	return price{max(p.ns, q.ns), max(p.steps, q.steps), max(p.units, q.units)}
}

// A pricing computes prices for one choice of the loops that pay.
type pricing struct {
	*result
	bodies    map[*loop]price // one round
	functions map[int]price   // by entry; present when done
	unit      price           // the most that one unit of fuel pays for
}

// settle chooses the loops that pay fuel, and returns the final prices. A loop
// pays when it has no bound, or its bound is too dear.
func (r *result) settle() (*pricing, price) {
	for _, l := range r.order.loops {
		r.fueled[l] = r.bound[l] == 0
	}
	const rounds = 8
	for n := 1; ; n++ {
		p := &pricing{result: r, bodies: map[*loop]price{}, functions: map[int]price{}}
		total := p.program()
		if !p.chargeDear(n == rounds || total.ns > nsCap) {
			return p, total
		}
	}
}

// chargeDear makes loops pay that cost too much, or all of them.
func (p *pricing) chargeDear(all bool) (changed bool) {
	for _, l := range p.order.loops {
		limit := nsFree
		for m := l.parent; m != nil; m = m.parent {
			if p.fueled[m] {
				limit = nsFreeInside
			}
		}
		if !p.fueled[l] && (all || p.around(l).ns > limit) {
			p.fueled[l] = true
			changed = true
		}
	}
	return changed
}

// around is the price of a loop each time it is entered.
func (p *pricing) around(l *loop) price {
	if p.fueled[l] {
		return p.bodies[l]
	}
	return p.bodies[l].times(float64(p.bound[l]))
}

// program prices the guard and what runs after a fault or without fuel.
func (p *pricing) program() price {
	u := p.analysis.unit
	dist := p.paths(p.flow.functions[0].pcs, nil)
	var body, landing price
	for _, pc := range p.flow.functions[0].pcs {
		body = body.max(dist[pc])
	}
	for _, entry := range []int{u.OnFault, u.OnFuel} {
		landing = landing.max(p.landing(entry))
	}
	return body.plus(landing)
}

// landing prices a landing block, which has no loops: at most each instruction
// that it can reach once.
func (p *pricing) landing(entry int) price {
	var sum price
	seen := map[int]bool{}
	for work := []int{entry}; len(work) > 0; {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		if seen[pc] || !p.seen[pc].visited {
			continue
		}
		seen[pc] = true
		sum = sum.plus(p.insn(pc))
		work = append(work, p.edges(pc)...)
	}
	return sum
}

// paths returns the dearest way to and with each instruction of a region: a
// function, or the body of loop l from its head. Inner loops count as one.
func (p *pricing) paths(pcs []int, l *loop) map[int]price {
	dist := make(map[int]price, len(pcs))
	into := make(map[*loop]price) // what the ways into an inner loop cost
	for _, pc := range p.ranked(pcs, l) {
		inner := p.innerLoop(pc, l)
		here := dist[pc].plus(p.insn(pc))
		if inner != nil {
			if _, done := p.bodies[inner]; !done {
				p.bodies[inner] = p.body(inner)
			}
			here = into[inner].plus(p.around(inner))
		}
		dist[pc] = here
		for _, next := range p.edges(pc) {
			to := p.innerLoop(next, l)
			switch {
			case l != nil && (next == l.head || !l.contains(p.order.of[next])), to != nil && to == inner:
			case to != nil:
				into[to] = into[to].max(here)
			default:
				dist[next] = dist[next].max(here)
			}
		}
	}
	return dist
}

// body prices one round of a loop.
func (p *pricing) body(l *loop) price {
	var round price
	for _, d := range p.paths(l.pcs, l) {
		round = round.max(d)
	}
	return round
}

// weigh returns how many units of fuel a way back of l pays: as many as its rounds
// are long. What is left by rounding makes a unit dearer, for all loops.
func (p *pricing) weigh(l *loop) uint32 {
	paid := p.bodies[l].times(p.roundsPerUnit(l))
	weight := min(max(math.Round(paid.ns/nsUnit), 1), math.MaxInt32)
	p.unit = p.unit.max(paid.times(1 / weight))
	return uint32(weight)
}

// roundsPerUnit is how many rounds fit between two payments: one when all ways
// back to the head pay. Otherwise a way between two payments leads from inside
// the loop past the head once more, which is less than two rounds.
func (p *pricing) roundsPerUnit(l *loop) float64 {
	for _, pc := range l.pcs {
		i := p.analysis.unit.Insns[pc]
		if slices.Contains(p.edges(pc), l.head) && (!i.IsBackEdge(pc) || i.Next(pc) == l.head && p.seen[pc].through) {
			return 2
		}
	}
	return 1
}

// innerLoop is the outermost loop inside l (nil: the function) that holds pc.
func (p *pricing) innerLoop(pc int, l *loop) *loop {
	m := p.order.of[pc]
	if m == l {
		return nil
	}
	for m != nil && m.parent != l {
		m = m.parent
	}
	return m
}

// ranked is the reachable instructions by rank. Those of a loop are that already.
func (p *pricing) ranked(pcs []int, l *loop) []int {
	if l != nil {
		return pcs
	}
	pcs = slices.DeleteFunc(slices.Clone(pcs), func(pc int) bool { return !p.seen[pc].visited })
	slices.SortFunc(pcs, func(i, j int) int { return p.order.rank[i] - p.order.rank[j] })
	return pcs
}

// insn prices one instruction, a local call with its function.
func (p *pricing) insn(pc int) price {
	i := p.analysis.unit.Insns[pc]
	one := price{ns: nsInsn, steps: 1}
	switch {
	case i.IsLocalCall():
		entry, _ := i.Target(pc)
		return one.plus(p.function(entry))
	case i.IsHelperCall():
		return p.helper(pc, bpf.Helper(i.Imm))
	case i.IsAtomic():
		one.ns = nsAtomic
	case i.IsLoad() && p.seen[pc].access.Region != RegionFrame:
		one.ns = nsLoad
	case i.IsALU() && (i.Operation() == bpf.AluDIV || i.Operation() == bpf.AluMOD):
		one.ns = nsDivide
	}
	return one
}

func (p *pricing) function(entry int) price {
	if d, ok := p.functions[entry]; ok {
		return d
	}
	var most price
	pcs := p.flow.functions[p.flow.byEntry[entry]].pcs
	dist := p.paths(pcs, nil)
	for _, pc := range pcs {
		most = most.max(dist[pc])
	}
	p.functions[entry] = most
	return most
}

// helper prices a call and the fuel it can use at most.
func (p *pricing) helper(pc int, h bpf.Helper) price {
	out := price{ns: nsHelper, steps: 1}
	blocks := func(reg int) float64 {
		n := min(p.seen[pc].regs[reg].asNumber().num.R.UMax, bpf.MaxLength)
		return math.Ceil(float64(n) / bpf.FuelBytes)
	}
	switch h {
	case bpf.HelperTid:
		out.ns = nsTid
	case bpf.HelperNow:
		out.ns = nsNow
	case bpf.HelperStackUsed, bpf.HelperThread:
		out.ns = nsLoad
	case bpf.HelperInvoke:
		out.ns = nsInvoke
	case bpf.HelperFind:
		n := float64(min(p.seen[pc].regs[bpf.R2].asNumber().num.R.UMax, bpf.MaxLength))
		out.units = blocks(bpf.R2) + n*blocks(bpf.R4)
	default:
		out.units = blocks(bpf.R2)
	}
	return out
}
