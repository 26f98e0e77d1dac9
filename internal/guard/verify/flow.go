package verify

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A function is the guard itself (the first) or the target of local calls.
type function struct {
	entry int
	pcs   []int // its instructions, ascending
	calls []int // entries of the functions it calls, ascending
}

// A flow is the shape of a guard: which function each instruction belongs to.
type flow struct {
	unit      *bpf.Unit
	owner     []int // index into functions by instruction; −1 for second slots
	functions []*function
	byEntry   map[int]int // function by entry
}

// noOwner marks an instruction that no function has reached yet.
const noOwner = -1

// newFlow splits a structurally sound unit into functions. It refuses code that
// nothing reaches, that two functions share, or that runs off the end, and
// calls that recurse or nest too deep.
func newFlow(u *bpf.Unit) (*flow, *Error) {
	f := &flow{unit: u, owner: slices.Repeat([]int{noOwner}, len(u.Insns)), byEntry: map[int]int{}}
	if err := f.trace(0, 0, u.OnFault, u.OnFuel); err != nil {
		return nil, err
	}
	for k := 0; k < len(f.functions); k++ {
		for _, entry := range f.functions[k].calls {
			if _, ok := f.byEntry[entry]; ok {
				continue
			}
			if err := f.trace(entry, entry); err != nil {
				return nil, err
			}
		}
	}
	for pc := 0; pc < len(u.Insns); pc = u.Insns[pc].Next(pc) {
		if f.owner[pc] == noOwner {
			return nil, refuse(pc, ReasonUnreachable, "nothing leads to this instruction; remove it")
		}
	}
	return f, f.checkCalls()
}

// trace adds the function at entry with all that its roots lead to.
func (f *flow) trace(entry int, roots ...int) *Error {
	fn := &function{entry: entry}
	id := len(f.functions)
	f.functions = append(f.functions, fn)
	f.byEntry[entry] = id
	for work := roots; len(work) > 0; {
		pc := work[len(work)-1]
		work = work[:len(work)-1]
		if f.owner[pc] == id {
			continue
		}
		if f.owner[pc] != noOwner {
			return refuse(pc, ReasonSharedCode, "belongs to two functions; a function is left by exit only")
		}
		f.owner[pc] = id
		fn.pcs = append(fn.pcs, pc)
		i := f.unit.Insns[pc]
		if t, ok := i.Target(pc); ok && i.IsLocalCall() {
			fn.calls = append(fn.calls, t)
		}
		for _, next := range f.successors(pc) {
			if next >= len(f.unit.Insns) {
				return refuse(pc, ReasonFallsOff, "runs past the end of the guard; end with exit")
			}
			work = append(work, next)
		}
	}
	slices.Sort(fn.pcs)
	slices.Sort(fn.calls)
	fn.calls = slices.Compact(fn.calls)
	return nil
}

// successors returns where control goes inside the function after pc, the way
// straight on first.
func (f *flow) successors(pc int) []int {
	i := f.unit.Insns[pc]
	switch {
	case i.Op == bpf.OpEXIT:
		return nil
	case i.Op == bpf.OpJA, i.Op == bpf.OpJA32:
		t, _ := i.Target(pc)
		return []int{t}
	case i.IsConditional():
		t, _ := i.Target(pc)
		return []int{pc + 1, t}
	}
	return []int{i.Next(pc)}
}

// checkCalls refuses recursion and chains of more than bpf.MaxDepth functions.
func (f *flow) checkCalls() *Error {
	depth := make([]int, len(f.functions)) // 0 unseen, −1 on the way down, else how deep below
	var visit func(id int) *Error
	visit = func(id int) *Error {
		depth[id] = -1
		below := 0
		for _, entry := range f.functions[id].calls {
			callee := f.byEntry[entry]
			if depth[callee] == -1 {
				return refuse(entry, ReasonRecursion, "a function calls itself, directly or through others")
			}
			if depth[callee] == 0 {
				if err := visit(callee); err != nil {
					return err
				}
			}
			below = max(below, depth[callee])
		}
		if depth[id] = below + 1; depth[id] > bpf.MaxDepth {
			return refuse(f.functions[id].entry, ReasonCallDepth, "calls nest more than %d functions deep", bpf.MaxDepth)
		}
		return nil
	}
	return visit(0)
}
