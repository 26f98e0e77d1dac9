package compile

import (
	"go/constant"
	"go/types"
	"slices"

	"golang.org/x/tools/go/ssa"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A slice in a guard is an array that is written where it stands, or a part of it: a
// literal, the arguments of a variadic function, a[i:j]. Which array is known when the
// guard is compiled, and it is that array for whoever indexes it.

// slice lowers x[:], which is also how a literal of a slice is made; and the results
// that a RejectGo call is given.
func (l *lowerer) slice(in *instance, i *ssa.Slice) value {
	x := l.eval(in, i.X)
	if s, ok := l.constText(x); ok && isText(i.X.Type()) {
		return l.cutText(in, i, s)
	}
	if p, ok := i.X.Type().Underlying().(*types.Pointer); ok {
		x.count = operand{c: p.Elem().Underlying().(*types.Array).Len()}
		x.room = x.count
	}
	switch {
	case isText(i.X.Type()):
		l.fail("begin and end of a piece of a constant string are constants, too; of memory Mem.Slice cuts a piece", "a guard cannot cut this string")
		return value{}
	case x.place == nil:
		l.fail("Mem has Slice", "a guard cannot cut memory of the target")
		return value{}
	case x.place.alloc.results == nil:
		return l.cut(in, i, x)
	}
	var v value
	for k := range len(x.place.alloc.results) {
		v.tuple = append(v.tuple, x.place.alloc.results[k])
	}
	return v
}

// noElements is a slice without elements; of libpie.Result, a RejectGo without results.
func (l *lowerer) noElements(elem types.Type) value {
	if !l.m.holdable(elem) || holdsPointer(elem) {
		return value{}
	}
	return value{place: &place{alloc: &alloc{table: string(make([]byte, max(1, min(l.m.sizes.Sizeof(elem), maxText))))}}}
}

// sliceElement lowers &x[i] of a slice.
func (l *lowerer) sliceElement(in *instance, i *ssa.IndexAddr) value {
	s, ok := i.X.Type().Underlying().(*types.Slice)
	x, index := l.eval(in, i.X), l.scalar(in, i.Index)
	if !ok || x.place == nil {
		l.fail("use an array with a fixed length, or c.Bytes", "a guard cannot use slices here")
	}
	l.faultIf(bpf.JmpGE, index, x.count)
	if l.err != nil {
		return value{}
	}
	return value{place: l.elementPlace(x.place, s.Elem(), index)}
}

func isByteSlice(t types.Type) bool {
	s, ok := t.Underlying().(*types.Slice)
	return ok && types.Identical(s.Elem().Underlying(), types.Typ[types.Byte])
}

// bytesOf is []byte(s).
func (l *lowerer) bytesOf(s string) value {
	if s == "" {
		return l.noElements(types.Typ[types.Byte])
	}
	n := operand{c: int64(len(s))}
	return value{place: &place{alloc: &alloc{table: s}}, count: n, room: n}
}

// constantArray makes a a table if the array that i declares is given constants where it
// stands, and never changed: as a literal is over which a loop goes.
func (l *lowerer) constantArray(i *ssa.Alloc, t types.Type, a *alloc) bool {
	known, ok := l.m.literals[i]
	if !ok {
		known = l.m.literalOf(i, t)
		l.m.literals[i] = known
	}
	if known == nil {
		return false
	}
	*a = *known
	return true
}

// literalOf returns the table that an array is, nil if it is none.
func (m *module) literalOf(i *ssa.Alloc, t types.Type) *alloc {
	if _, ok := t.Underlying().(*types.Array); !ok || holdsMem(t) || holdsPointer(t) {
		return nil
	}
	size, use := m.sizes.Sizeof(t), usesOf(i)
	copied := slices.ContainsFunc(*i.Referrers(), func(r ssa.Instruction) bool {
		load, ok := r.(*ssa.UnOp)
		return ok && indexedByValue(load)
	})
	if size <= 0 || size > maxText || !use.indexed && !use.passed && !copied {
		return nil
	}
	w := literalWriter{m: m, block: m.orderOf(i.Block()), bytes: make([]byte, size), stored: map[int64]bool{}, read: map[ssa.Value]bool{}}
	w.firstRead = len(w.block)
	if !w.follow(i, 0) || w.lastStore == 0 || w.firstRead < w.lastStore {
		return nil
	}
	return &alloc{table: string(w.bytes), texts: w.texts, literal: true}
}

// orderOf numbers the instructions of a block, once: a block may have many literals.
func (m *module) orderOf(b *ssa.BasicBlock) map[ssa.Instruction]int {
	order := m.orders[b]
	if order == nil {
		order = make(map[ssa.Instruction]int, len(b.Instrs))
		for k, instr := range b.Instrs {
			order[instr] = k
		}
		m.orders[b] = order
	}
	return order
}

// literalWriter follows what is done with an array, and writes the constants that it is
// given.
type literalWriter struct {
	m         *module
	block     map[ssa.Instruction]int // the instructions of the array's block
	bytes     []byte
	texts     []tableText
	stored    map[int64]bool // offsets
	lastStore int            // in the block
	firstRead int
	read      map[ssa.Value]bool // addresses that are only read
}

// follow follows v, the address of what is at an offset of the array. It is false when
// that is changed by other than constants in the array's block.
func (w *literalWriter) follow(v ssa.Value, off int64) bool {
	for _, r := range *v.Referrers() {
		ok := false
		switch r := r.(type) {
		case *ssa.Store:
			ok = r.Addr == v && w.store(r, off)
		case *ssa.FieldAddr:
			st := v.Type().Underlying().(*types.Pointer).Elem().Underlying().(*types.Struct)
			ok = w.follow(r, off+w.m.sizes.Offsetsof(structFields(st))[r.Field])
		case *ssa.IndexAddr:
			c, isConst := r.Index.(*ssa.Const)
			array, isArray := v.Type().Underlying().(*types.Pointer).Elem().Underlying().(*types.Array)
			if isConst && isArray && r.X == v {
				ok = w.follow(r, off+c.Int64()*w.m.sizes.Sizeof(array.Elem()))
			} else {
				ok = w.reads(v, r)
			}
		default:
			ok = w.reads(v, r)
		}
		if !ok {
			return false
		}
	}
	return true
}

// store writes a constant.
func (w *literalWriter) store(s *ssa.Store, off int64) bool {
	c, ok := s.Val.(*ssa.Const)
	at, here := w.block[s]
	if !ok || !here || w.stored[off] { // which of two comes first, referrers do not tell
		return false
	}
	w.stored[off] = true
	w.lastStore = max(w.lastStore, at)
	l, isScalar := scalar(c.Type())
	switch {
	case c.Value == nil:
		return false
	case isScalar:
		putConstant(w.bytes[off:], l, c.Value)
		return true
	case isText(c.Type()):
		w.texts = append(w.texts, tableText{off, constant.StringVal(c.Value)})
		return true
	}
	return false
}

// reads notes that r reads what v is the address of.
func (w *literalWriter) reads(v ssa.Value, r ssa.Instruction) bool {
	if _, ok := r.(*ssa.DebugRef); ok {
		return true
	}
	if at, here := w.block[r]; here {
		w.firstRead = min(w.firstRead, at)
	}
	return w.onlyReadBy(v, r)
}

// onlyRead reports whether nothing is stored through v.
func (w *literalWriter) onlyRead(v ssa.Value) bool {
	if w.read[v] {
		return true
	}
	w.read[v] = true
	for _, r := range *v.Referrers() {
		if !w.onlyReadBy(v, r) {
			return false
		}
	}
	return true
}

// onlyReadBy reports whether r, which uses the address or slice v, only reads.
func (w *literalWriter) onlyReadBy(v ssa.Value, r ssa.Instruction) bool {
	switch r := r.(type) {
	case *ssa.UnOp, *ssa.DebugRef:
		return true
	case *ssa.FieldAddr, *ssa.IndexAddr, *ssa.Slice, *ssa.ChangeType:
		return w.onlyRead(r.(ssa.Value))
	case *ssa.Call:
		if b, ok := r.Call.Value.(*ssa.Builtin); ok {
			return b.Name() == "len" || b.Name() == "cap" || b.Name() == "copy" && r.Call.Args[0] != v
		}
		fn := r.Call.StaticCallee()
		if fn == nil || len(fn.Blocks) == 0 || r.Call.IsInvoke() {
			return false
		}
		for k, a := range r.Call.Args {
			if a == v && !w.onlyRead(fn.Params[k]) {
				return false
			}
		}
		return true
	}
	return false
}
