package verify

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A result is the analysis after the fixpoint: what is possible, and the loops
// that are left when branches never taken are cut.
type result struct {
	*analysis
	order     *order
	reachable []int
	next      [][]int         // by instruction: see edges
	headSlots map[int][]value // by head: what the stack's words have in common
	bound     map[*loop]uint64
	fueled    map[*loop]bool
	charges   []uint32 // what back-edges pay
	effort    int      // instructions looked at for bounds
}

// newResult looks at what the analysis found. It refuses loops without a way
// out and reads that can only fault.
func newResult(a *analysis) (*result, *Error) {
	r := &result{analysis: a, headSlots: map[int][]value{}, charges: make([]uint32, len(a.unit.Insns)),
		bound: map[*loop]uint64{}, fueled: map[*loop]bool{}}
	for pc := range a.seen {
		x := &a.seen[pc]
		if !x.visited {
			continue
		}
		r.reachable = append(r.reachable, pc)
		// The read before OnFault is how a compiler spells a fault it means: a Go
		// panic, counted like any other.
		if x.faults && !x.passes && a.unit.Insns[pc].Next(pc) != a.unit.OnFault {
			return nil, refuse(pc, ReasonAlwaysFaults, "reads or writes an address that is never mapped (%v); check for it first", r.base(pc))
		}
	}
	r.next = make([][]int, len(a.seen))
	for _, pc := range r.reachable {
		r.next[pc] = r.taken(pc)
	}
	if err := r.checkExits(); err != nil {
		return nil, err
	}
	roots := []int{a.unit.OnFault, a.unit.OnFuel}
	for _, fn := range a.flow.functions {
		roots = append(roots, fn.entry)
	}
	var err *Error
	if r.order, err = newOrder(len(a.unit.Insns), r.reachable, roots, r.edges); err != nil {
		return nil, err
	}
	for _, l := range r.order.loops {
		r.headSlots[l.head] = r.slotsAt(l.head)
		r.bound[l] = r.trips(l)
	}
	return r, nil
}

// base is the address that a load or store goes to, without its offset.
func (r *result) base(pc int) any {
	i := r.unit.Insns[pc]
	if i.IsStore() {
		return r.seen[pc].regs[i.Dst].asNumber().num
	}
	return r.seen[pc].regs[i.Src].asNumber().num
}

// edges are the successors that some path takes.
func (r *result) edges(pc int) []int { return r.next[pc] }

func (r *result) taken(pc int) []int {
	x := &r.seen[pc]
	var list []int
	i := r.unit.Insns[pc]
	if x.through {
		list = append(list, i.Next(pc))
	}
	if t, ok := i.Target(pc); ok && x.jumped && !slices.Contains(list, t) {
		list = append(list, t)
	}
	return slices.DeleteFunc(list, func(pc int) bool { return !r.seen[pc].visited })
}

// checkExits refuses instructions from which no path leads to an exit, or to a
// read that always faults: that one goes on at OnFault.
func (r *result) checkExits() *Error {
	preds := make([][]int, len(r.seen))
	ends := make([]bool, len(r.seen))
	var work []int
	for _, pc := range r.reachable {
		if x := &r.seen[pc]; r.unit.Insns[pc].Op == bpf.OpEXIT || x.faults && !x.passes {
			ends[pc] = true
			work = append(work, pc)
		}
		for _, next := range r.edges(pc) {
			preds[next] = append(preds[next], pc)
		}
	}
	for len(work) > 0 {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		for _, p := range preds[pc] {
			if !ends[p] {
				ends[p] = true
				work = append(work, p)
			}
		}
	}
	for _, pc := range r.reachable {
		if !ends[pc] {
			return refuse(pc, ReasonEndless, "from here no path leads to the end of the guard; give the loop a way out")
		}
	}
	return nil
}

// slotsAt joins what the words of the function's own stack hold at a place.
func (r *result) slotsAt(pc int) []value {
	slots := make([]value, bpf.StackSize/8)
	first := true
	for _, ctx := range r.contexts {
		p := ctx.points[pc]
		if p == nil || ctx.fn != r.flow.owner[pc] {
			continue
		}
		for _, s := range p.states {
			for k := range slots {
				sl := s.slot(int32(s.depth()), k)
				v := sl.val
				if sl.size != 8 {
					v = value{}
				}
				if first {
					slots[k] = v
				} else {
					slots[k] = slots[k].join(v)
				}
			}
			first = false
		}
	}
	return slots
}
