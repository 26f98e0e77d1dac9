package verify

import (
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A Limit is how far a guard certainly gets before its fuel ends: in a loop that pays
// fuel and has none inside that does, or in a search of memory that no such loop
// makes.
type Limit struct {
	Insn   int     // where the loop begins, or what calls the helper
	Pos    bpf.Pos // of it, as far as the unit knows
	Rounds uint64  // of the loop, over the whole call; 0 for a search
	Bytes  uint64  // the memory that these rounds walk over, or that is searched; 0 where a round's reads do not tell
	Shared bool    // less is left of it when other loops and searches have used fuel
}

// limits finds the limits of a unit whose fuel is settled.
func (p *pricing) limits() []Limit {
	var list []Limit
	for _, l := range p.order.loops {
		n := p.roundsPaid(l)
		if ends := l.parent == nil && p.bound[l] > 0 && p.bound[l] <= n; n > 0 && !ends {
			list = append(list, Limit{Insn: l.head, Pos: p.placeOf(l), Rounds: n, Bytes: p.pace(l) * n})
		}
	}
	list = append(list, p.searches()...)
	users := 0
	for _, l := range p.order.loops {
		if p.fueled[l] {
			users++
		}
	}
	for _, pc := range p.reachable {
		if p.analysis.unit.Insns[pc].IsHelperCall() && p.insn(pc).units > 0 {
			users++
		}
	}
	for i := range list {
		list[i].Shared = users > 1
	}
	return list
}

// roundsPaid is how many rounds of l all the fuel pays for, whichever way they take;
// 0 when l does not pay, or something in it may take as much as it likes.
func (p *pricing) roundsPaid(l *loop) uint64 {
	if !p.fueled[l] || slices.ContainsFunc(p.order.loops, func(m *loop) bool { return m != l && l.contains(m) && p.fueled[m] }) {
		return 0
	}
	var within, back uint64 // a round takes one way back to the head
	for _, pc := range l.pcs {
		if t, ok := p.analysis.unit.Insns[pc].Target(pc); ok && t == l.head {
			back = max(back, uint64(p.charges[pc]))
		} else {
			within += uint64(p.charges[pc])
		}
	}
	return uint64(p.analysis.unit.Fuel) / max(within+back+uint64(min(p.bodies[l].units, math.MaxInt32)), 1)
}

// searches are the helper calls that no loop makes that pays, and that may search
// more than all the fuel is enough for. A search for several bytes pays for each
// place where it compares, which depends on what is there.
func (p *pricing) searches() []Limit {
	var list []Limit
	fuel := uint64(p.analysis.unit.Fuel)
	for _, pc := range p.reachable {
		i := p.analysis.unit.Insns[pc]
		if !i.IsHelperCall() || bpf.Helper(i.Imm) == bpf.HelperFind || p.insn(pc).units <= float64(fuel) {
			continue
		}
		if p.insidePaying(pc) {
			continue
		}
		list = append(list, Limit{Insn: pc, Pos: p.posOf(pc), Bytes: fuel * bpf.FuelBytes})
	}
	return list
}

func (p *pricing) insidePaying(pc int) bool {
	for l := p.order.of[pc]; l != nil; l = l.parent {
		if p.fueled[l] {
			return true
		}
	}
	return false
}

func (p *pricing) posOf(pc int) bpf.Pos {
	if pc < len(p.analysis.unit.Pos) {
		return p.analysis.unit.Pos[pc]
	}
	return bpf.Pos{}
}

// placeOf is the first line of a loop: compilers put what a loop begins with anywhere.
func (p *pricing) placeOf(l *loop) bpf.Pos {
	first := p.posOf(l.head)
	for _, pc := range l.pcs {
		at := p.posOf(pc)
		if at.Line > 0 && (first.Line == 0 || at.File == first.File && at.Line < first.Line) {
			first = at
		}
	}
	return first
}

// A stride is how far a place moves from one round of a loop to the next, when it is
// looked at in both.
type stride struct {
	known bool
	by    int64
}

type strides [numPlaces]stride

// pace is how many bytes further on each round of l reads the target's memory than the
// round before, when all its reads that move do so alike; else 0.
func (r *result) pace(l *loop) uint64 {
	_, back := r.round(l)
	if back == nil {
		return 0
	}
	var start strides
	for k, c := range back {
		if c.known && int(c.origin) == k && c.lo == c.hi {
			start[k] = stride{true, c.lo}
		}
	}
	at := map[int]*strides{l.head: &start}
	var pace uint64
	for _, pc := range l.pcs {
		in := at[pc]
		if in == nil {
			continue
		}
		if pc != l.head && r.order.isHead(pc) {
			*in = strides{} // what an inner loop changes is not known
		}
		if reg, reads := r.readsTarget(pc); reads {
			by := uint64(max(in[reg].by, -in[reg].by))
			if !in[reg].known || by != 0 && pace != 0 && by != pace {
				return 0
			}
			pace = max(pace, by)
		}
		out := *in
		r.move(pc, &out)
		for _, next := range r.edges(pc) {
			if next != l.head && l.contains(r.order.of[next]) {
				meet(at, next, &out)
			}
		}
	}
	return pace
}

func meet(at map[int]*strides, pc int, s *strides) {
	old := at[pc]
	if old == nil {
		c := *s
		at[pc] = &c
		return
	}
	for k := range old {
		if old[k] != s[k] {
			old[k] = stride{}
		}
	}
}

// readsTarget returns the register with the address that pc reads the target at.
func (r *result) readsTarget(pc int) (reg uint8, ok bool) {
	switch i := r.unit.Insns[pc]; {
	case i.IsLoad():
		return i.Src, r.seen[pc].access.Region == RegionTarget
	case i.IsHelperCall():
		return bpf.R1, r.seen[pc].reads[0] == RegionTarget
	}
	return 0, false
}

// move follows one instruction: after it, places have the strides of what is put there.
func (r *result) move(pc int, s *strides) {
	i := r.unit.Insns[pc]
	switch i.Class() {
	case bpf.ClassALU, bpf.ClassALU64:
		s[i.Dst] = r.moveALU(pc, i, s)
	case bpf.ClassLD:
		s[i.Dst] = stride{known: true}
	case bpf.ClassLDX:
		from := stride{known: r.seen[pc].access.Region == RegionFrame}
		if p, ok := r.ownWord(pc); ok {
			from = s[p]
		}
		s[i.Dst] = from
	case bpf.ClassST, bpf.ClassSTX:
		r.moveStore(pc, i, s)
	default:
		if i.Op == bpf.OpCALL {
			clear(s[bpf.R0 : bpf.R5+1])
			clear(s[slotPlace:])
		}
	}
}

func (r *result) moveStore(pc int, i bpf.Insn, s *strides) {
	if i.IsAtomic() {
		if _, defs := effects(i); defs != 0 {
			s[i.Src], s[bpf.R0] = stride{}, stride{}
		}
	}
	switch p, ok := r.ownWord(pc); {
	case ok && i.Class() == bpf.ClassSTX && !i.IsAtomic():
		s[p] = s[i.Src]
	case ok:
		s[p] = stride{}
	case r.seen[pc].access.Region == RegionStack:
		clear(s[slotPlace:])
	}
}

func (r *result) moveALU(pc int, i bpf.Insn, s *strides) stride {
	regs := &r.seen[pc].regs
	dst, src, num := s[i.Dst], stride{known: true}, constant(uint64(int64(i.Imm)))
	if i.Op&bpf.SrcX != 0 {
		src, num = s[i.Src], regs[i.Src]
	}
	op := i.Operation()
	if op == bpf.AluMOV && (src.by == 0 || num.kind == kindScalar && unchanged(i, num.num)) {
		return src
	}
	if !dst.known || !src.known {
		return stride{}
	}
	wide := max(dst.by, -dst.by, src.by, -src.by) < maxChange
	shift, fixed := num.num.Const()
	switch {
	case dst.by == 0 && src.by == 0:
		return stride{known: true}
	case op == bpf.AluADD && wide && exactSum(i, regs[i.Dst], num, 1):
		return stride{true, dst.by + src.by}
	case op == bpf.AluSUB && wide && exactSum(i, regs[i.Dst], num, -1):
		return stride{true, dst.by - src.by}
	case op == bpf.AluLSH && wide && i.Class() == bpf.ClassALU64 && fixed && shift < 16:
		return stride{true, dst.by << shift}
	}
	return stride{}
}
