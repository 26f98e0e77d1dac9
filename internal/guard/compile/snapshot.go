package compile

import (
	"go/types"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// An array that is copied as a value and then indexed by a variable, as range
// over an array does, is copied to the stack: registers have no index.

// onStack makes room on the stack for a value of type t.
func (l *lowerer) onStack(t types.Type) *place {
	size := (l.m.sizes.Sizeof(t) + 7) &^ 7
	if l.m.sizes.Sizeof(t) < 0 || size > bpf.StackSize || holdsMem(t) {
		l.fail("range over the indices, for i := range len(a), and index the variable itself", "a copy of a %s does not fit the guard's stack", typeName(t))
		return nil
	}
	return &place{alloc: &alloc{slot: l.newSlot(size)}}
}

// snapshot copies an array from the target.
func (l *lowerer) snapshot(x value, i *ssa.UnOp, all []leaf) value {
	p := l.onStack(i.Type())
	if p == nil {
		return value{}
	}
	base := l.checked(x, l.m.sizes.Sizeof(i.Type()))
	for _, t := range all {
		l.putStack(p, t, l.loadLeaf(base, x.off+t.off, t))
	}
	return value{place: p}
}

// snapshotLocal copies an array from the stack.
func (l *lowerer) snapshotLocal(from *place, t types.Type) value {
	p := l.onStack(t)
	if p == nil {
		return value{}
	}
	all, _ := l.m.leaves(t)
	for _, leaf := range all {
		l.putStack(p, leaf, l.getStack(from, leaf))
	}
	return value{place: p}
}

// spread copies an array from registers.
func (l *lowerer) spread(from *place, t types.Type) value {
	v := l.loadAt(from, t)
	if l.err != nil {
		return value{}
	}
	return value{place: l.keep(v, t)}
}

// keep puts a value on the stack; nil when it does not fit there.
func (l *lowerer) keep(v value, t types.Type) *place {
	all, _ := l.m.leaves(t)
	if len(v.parts) != len(all) {
		l.fail("declare a variable for the array and index that", "a guard cannot index this array by a variable")
		return nil
	}
	p := l.onStack(t)
	if p == nil {
		return nil
	}
	for k, leaf := range all {
		l.putStack(p, leaf, v.parts[k])
	}
	return p
}
