package compile

import (
	"go/types"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// alloc is a local variable whose address is used in SSA: a struct, an array,
// or one whose address is passed to a function. Its scalars are registers,
// unless it is an array that is indexed by a variable: then it is on the stack.
type alloc struct {
	regs    []reg
	known   []operand     // per scalar: its value, if it is set only once
	slot    *slot         // on the stack
	table   string        // of a table: its bytes, which nothing changes
	texts   []tableText   // the strings in a table
	count   int64         // of a table that is a slice: how many elements it has
	literal bool          // a table that is an array of a function: stores to it are in table already
	results map[int]value // the []libpie.Result of a RejectGo call
	whole   bool          // its value is kept as it is: see keptWhole
	is      *value        // that value, once it is set
}

// place is a part of a local variable: what a pointer to it has become.
type place struct {
	alloc *alloc
	part  int     // the first scalar, of an alloc in registers
	off   int64   // bytes, of an alloc on the stack or a table
	index operand // bytes to be added, of an alloc on the stack or a table
}

// allocate lowers the declaration of a local variable, which is zero.
func (l *lowerer) allocate(i *ssa.Alloc) value {
	t := i.Type().Underlying().(*types.Pointer).Elem()
	a := &alloc{}
	v := value{place: &place{alloc: a}}
	if array, ok := t.Underlying().(*types.Array); ok && isLib(array.Elem(), "Result") {
		a.results = map[int]value{}
		return v
	}
	if keptWhole(i) {
		a.whole = true
		return v
	}
	if !holdsMem(t) && !l.m.holdable(t) {
		l.fail("", "a guard cannot take the address of a %s", typeName(t))
		return value{}
	}
	if l.constantArray(i, t, a) {
		return v
	}
	if use := usesOf(i); use.indexed || use.passed && holdsArray(t) || l.m.width(t) > maxParts {
		l.allocateStack(a, t)
		return v
	}
	all, ok := l.m.leaves(t)
	if !ok {
		l.fail("", "a guard cannot take the address of a %s", typeName(t))
		return value{}
	}
	a.regs = make([]reg, len(all))
	a.known = make([]operand, len(all))
	for k := range all {
		a.regs[k] = l.newReg()
		l.bound(operand{r: a.regs[k]}, widest(all[k]))
	}
	if !setAtOnce(i) {
		for k := range all {
			l.emit(insn{op: opMov, dst: a.regs[k]})
		}
	}
	return v
}

// allocateStack clears the variable's bytes.
func (l *lowerer) allocateStack(a *alloc, t types.Type) {
	size := (l.m.sizes.Sizeof(t) + 7) &^ 7
	if l.m.sizes.Sizeof(t) < 0 {
		l.fail("", "a %s is too large for the stack of a guard", typeName(t))
		return
	}
	if holdsMem(t) {
		l.fail("keep addresses and lengths in arrays of their own", "a %s cannot be indexed by a variable", typeName(t))
		return
	}
	if size > bpf.StackSize {
		l.fail("", "a %s has %d bytes; the local arrays of a guard have at most %d", typeName(t), size, bpf.StackSize)
		return
	}
	a.slot = l.newSlot(size)
	for off := int64(0); off < size; off += 8 {
		l.emit(insn{op: opStackStore, slot: a.slot, off: int32(off), size: 8})
	}
}

func (l *lowerer) newSlot(size int64) *slot {
	s := &slot{size: size}
	l.slots = append(l.slots, s)
	return s
}

// use is how a variable's address is used.
type use struct {
	indexed bool // by a variable
	passed  bool // to a function, or to a pointer that function literals use
}

// usesOf follows the addresses derived from v.
func usesOf(v ssa.Value) use { return followUses(v, map[ssa.Value]bool{}) }

func followUses(v ssa.Value, seen map[ssa.Value]bool) use {
	var u use
	if seen[v] { // a phi of a loop
		return u
	}
	seen[v] = true
	for _, r := range *v.Referrers() {
		var sub use
		switch r := r.(type) {
		case *ssa.FieldAddr, *ssa.ChangeType, *ssa.Phi:
			sub = followUses(r.(ssa.Value), seen)
		case *ssa.Slice:
			sub = followUses(r, seen)
			if _, isConst := r.Low.(*ssa.Const); r.Low != nil && !isConst {
				u.indexed = true
			}
		case *ssa.IndexAddr:
			sub = followUses(r, seen)
			if _, isConst := r.Index.(*ssa.Const); !isConst {
				u.indexed = true
			}
		case *ssa.Call, *ssa.MakeClosure:
			u.passed = true
		case *ssa.Store: // to a pointer that is kept whole
			u.passed = u.passed || r.Val == v
		}
		u.indexed, u.passed = u.indexed || sub.indexed, u.passed || sub.passed
	}
	return u
}

// setAtOnce reports whether i is a variable that is set as a whole by the
// instruction behind its declaration, as parameters are, and never again.
func setAtOnce(i *ssa.Alloc) bool {
	if usesOf(i).passed {
		return false
	}
	instrs := i.Block().Instrs
	for k, instr := range instrs {
		if instr == i && k+1 < len(instrs) {
			first, ok := instrs[k+1].(*ssa.Store)
			return ok && first.Addr == i && onlyStore(i, first)
		}
	}
	return false
}

// onlyStore reports whether nothing else is stored to v or its parts, by whatever
// name. Where that cannot be told, it is false.
func onlyStore(v ssa.Value, first *ssa.Store) bool {
	for _, r := range *v.Referrers() {
		switch r := r.(type) {
		case *ssa.Store:
			if r != first {
				return false
			}
		case *ssa.FieldAddr, *ssa.IndexAddr, *ssa.ChangeType:
			if !onlyStore(r.(ssa.Value), first) {
				return false
			}
		case *ssa.UnOp, *ssa.BinOp, *ssa.DebugRef: // read, compared
		default:
			return false
		}
	}
	return true
}

func holdsArray(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Array:
		return true
	case *types.Struct:
		for i := range u.NumFields() {
			if holdsArray(u.Field(i).Type()) {
				return true
			}
		}
	}
	return false
}

func holdsMem(t types.Type) bool {
	if isLib(t, "Mem") {
		return true
	}
	switch u := t.Underlying().(type) {
	case *types.Array:
		return holdsMem(u.Elem())
	case *types.Struct:
		for i := range u.NumFields() {
			if holdsMem(u.Field(i).Type()) {
				return true
			}
		}
	}
	return false
}

// fieldPlace is the place of field k of the struct at p.
func (l *lowerer) fieldPlace(p *place, st *types.Struct, k int) *place {
	q := *p
	for n := range k {
		q.part += l.m.width(st.Field(n).Type())
	}
	q.off += l.m.sizes.Offsetsof(structFields(st))[k]
	return &q
}

// indexPlace is the place of an element, whose index has been checked.
func (l *lowerer) indexPlace(p *place, array *types.Array, index operand) *place {
	q := *p
	size := l.m.sizes.Sizeof(array.Elem())
	if p.alloc.results != nil {
		q.part = int(index.c)
		return &q
	}
	if index.isConst() {
		q.part += int(index.c) * l.m.width(array.Elem())
		q.off += index.c * size
		return &q
	}
	if p.alloc.slot == nil && p.alloc.table == "" {
		l.fail("declare a variable for the array and index that", "a guard cannot index this array by a variable")
		return &q
	}
	q.index = l.alu(bpf.AluADD, p.index, l.alu(bpf.AluMUL, index, operand{c: size}))
	return &q
}

// loadPlace reads a local variable, or a part of it.
func (l *lowerer) loadPlace(p *place, i *ssa.UnOp) value {
	if p.alloc.results != nil {
		return value{}
	}
	if p.alloc.whole {
		return l.loadWhole(p.alloc)
	}
	if _, ok := i.Type().Underlying().(*types.Slice); ok {
		n := operand{c: p.alloc.count}
		return value{place: p, count: n, room: n}
	}
	if p.alloc.table != "" && indexedByValue(i) {
		return value{place: p}
	}
	if p.alloc.slot != nil && indexedByValue(i) {
		return l.snapshotLocal(p, i.Type())
	}
	if p.alloc.slot == nil && indexedByValue(i) {
		return l.spread(p, i.Type())
	}
	return l.loadAt(p, i.Type())
}

func (l *lowerer) loadAt(p *place, t types.Type) value {
	all, ok := l.m.leaves(t)
	if !ok || len(all) > maxParts {
		l.fail("use a pointer to it, or its elements", "a %s is too large to be copied", typeName(t))
		return value{}
	}
	var v value
	for k, leaf := range all {
		if p.alloc.table != "" {
			v.parts = append(v.parts, l.fromTable(p, leaf))
			continue
		}
		if p.alloc.slot != nil {
			v.parts = append(v.parts, l.getStack(p, leaf))
			continue
		}
		if known := p.alloc.known[p.part+k]; known != (operand{}) {
			v.parts = append(v.parts, known)
			continue
		}
		v.parts = append(v.parts, l.bound(l.mov(operand{r: p.alloc.regs[p.part+k]}), widest(leaf)))
	}
	return v
}

// store lowers *addr = val.
func (l *lowerer) store(in *instance, i *ssa.Store) {
	addr, val := l.eval(in, i.Addr), l.eval(in, i.Val)
	if l.err != nil {
		return
	}
	p := addr.place
	if addr.object != nil {
		l.fail("call its methods", "a %s is not assigned to", typeName(i.Val.Type()))
		return
	}
	if p == nil {
		l.fail("c.Put8, Put16, Put32 and Put64 write to an address, &p.f is one by libpie.AddrOf; they need //pie:cap write", "a guard does not assign to the program's memory")
		return
	}
	if p.alloc.literal {
		return
	}
	if p.alloc.whole {
		p.alloc.is = &val
		return
	}
	if p.alloc.table != "" {
		l.fail("copy it into a local variable; what is kept between calls is a libpie.Counter, Map, PerThread or Limiter", "a table of constants is read only")
		return
	}
	if p.alloc.results != nil {
		p.alloc.results[p.part] = val
		return
	}
	all, ok := l.m.leaves(i.Val.Type())
	if val = l.asParts(val, i.Val.Type()); !ok || len(val.parts) != len(all) {
		l.fail("use the variable itself", "a %s cannot be kept here", typeName(i.Val.Type()))
		return
	}
	declared, _ := i.Addr.(*ssa.Alloc)
	once := declared != nil && p.alloc.slot == nil && setAtOnce(declared)
	for k, leaf := range all {
		switch {
		case p.alloc.slot != nil:
			l.putStack(p, leaf, val.parts[k])
		case once:
			if p.alloc.known[k] = val.parts[k]; val.parts[k] == (operand{}) {
				l.emit(insn{op: opMov, dst: p.alloc.regs[k]}) // a known 0 looks like an unknown value
			}
		default:
			l.emit(insn{op: opMov, dst: p.alloc.regs[p.part+k], a: val.parts[k]})
		}
	}
}

// stackAddr returns what an access to p on the stack starts from.
func (l *lowerer) stackAddr(p *place) operand {
	if p.index.isConst() {
		return constant0
	}
	return l.emitTo(insn{op: opStackAddr, a: p.index})
}

// getStack reads one scalar of p.
func (l *lowerer) getStack(p *place, t leaf) operand {
	r := l.emitTo(insn{op: opStackLoad, slot: p.alloc.slot, off: int32(p.off + t.off), a: l.stackAddr(p), size: t.size, signed: t.signed})
	return l.bound(r, widest(t))
}

// putStack writes one scalar of p.
func (l *lowerer) putStack(p *place, t leaf, v operand) {
	l.emit(insn{op: opStackStore, slot: p.alloc.slot, off: int32(p.off + t.off), a: l.stackAddr(p), b: v, size: t.size})
}

// asParts returns v with its parts in hand: what only has a place is loaded.
func (l *lowerer) asParts(v value, t types.Type) value {
	if v.place != nil {
		if _, pointer := t.Underlying().(*types.Pointer); pointer {
			return value{} // the address of a local variable is nowhere to be kept
		}
		return l.loadAt(v.place, t)
	}
	return l.plain(v)
}
