package compile

import (
	"encoding/binary"
	"go/ast"
	"go/constant"
	"go/types"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A table is a package-level array or struct of constants. Nothing can change it: it
// stands in the guard's read-only memory, beside its strings, and what is read of it at a
// known place is a constant. To the lowerer it is a local variable that has no register
// and no stack.

// isTable reports whether a package-level variable of type t is a table, not state.
func isTable(t types.Type) bool {
	if named, ok := types.Unalias(t).(*types.Named); ok && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == libpiePath {
		return false
	}
	switch t.Underlying().(type) {
	case *types.Array, *types.Struct, *types.Slice:
		return true
	}
	return false
}

// declareTable adds a table with the values that it is declared with. A slice is one
// like an array: nothing can make it longer, or another.
func (m *module) declareTable(info *types.Info, name *ast.Ident, init ast.Expr) {
	obj := info.Defs[name]
	t, count := objType(obj), int64(0)
	if s, ok := t.Underlying().(*types.Slice); ok {
		count = elements(info, init)
		t = types.NewArray(s.Elem(), count)
	}
	switch size := m.sizes.Sizeof(t); {
	case !m.holdable(t) || holdsPointer(t):
		m.refuse(name.Pos(), "use integers, bools, strings, and arrays and structs of these", "a %s cannot be a table of constants", typeName(objType(obj)))
	case init == nil || size == 0:
		m.refuse(name.Pos(), "write its values; what is kept between calls is a libpie.Counter, Map, PerThread or Limiter", "%s has no values: a package-level variable of a prepatch is a table of constants, or state", name.Name)
	case size < 0 || size > maxText:
		m.refuse(name.Pos(), "", "the table has more than %d KiB", maxText>>10)
	default:
		w := tableWriter{m: m, info: info, bytes: make([]byte, size)}
		if w.literal(init, t, 0) {
			m.tables[obj] = &alloc{table: string(w.bytes), texts: w.texts, count: count}
		}
	}
}

// elements is how many elements a literal of a slice has, at most maxText+1.
func elements(info *types.Info, init ast.Expr) (n int64) {
	lit, ok := ast.Unparen(init).(*ast.CompositeLit)
	if !ok {
		return 0
	}
	at := int64(0)
	for _, x := range lit.Elts {
		if kv, ok := x.(*ast.KeyValueExpr); ok {
			at, _ = constant.Int64Val(constant.ToInt(info.Types[kv.Key].Value))
		}
		at = min(at, maxText) + 1
		n = max(n, at)
	}
	return n
}

// holdsPointer reports whether a value of type t has pointers in it.
func holdsPointer(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Pointer:
		return true
	case *types.Array:
		return holdsPointer(u.Elem())
	case *types.Struct:
		for i := range u.NumFields() {
			if holdsPointer(u.Field(i).Type()) {
				return true
			}
		}
	}
	return false
}

// A tableText is a string in a table: where its two words are.
type tableText struct {
	at int64
	s  string
}

// tableWriter writes the values of a literal as they lie in memory.
type tableWriter struct {
	m     *module
	info  *types.Info
	bytes []byte
	texts []tableText
}

// value writes the constant e, or those of a literal, to the bytes from at on.
func (w *tableWriter) value(e ast.Expr, at int64) bool {
	tv := w.info.Types[ast.Unparen(e)]
	switch l, ok := scalarOf(tv.Type); {
	case tv.Type == nil:
	case ok && tv.Value != nil:
		putConstant(w.bytes[at:], l, tv.Value)
		return true
	case isText(tv.Type) && tv.Value != nil:
		w.texts = append(w.texts, tableText{at, constant.StringVal(tv.Value)})
		return true
	default:
		return w.literal(e, tv.Type, at)
	}
	w.m.refuse(e.Pos(), "write the number", "a table is made of constants")
	return false
}

// literal writes the values of a literal of an array or struct of type t.
func (w *tableWriter) literal(e ast.Expr, t types.Type, at int64) bool {
	lit, ok := ast.Unparen(e).(*ast.CompositeLit)
	if !ok {
		w.m.refuse(e.Pos(), "write the number", "a table is made of constants")
		return false
	}
	switch t := t.Underlying().(type) {
	case *types.Array:
		return w.array(lit, w.m.sizes.Sizeof(t.Elem()), at)
	case *types.Struct:
		return w.structure(lit, t, at)
	}
	w.m.refuse(e.Pos(), "use arrays and structs", "a %s cannot stand in a table", typeName(t))
	return false
}

func (w *tableWriter) array(lit *ast.CompositeLit, size, at int64) bool {
	index := int64(0)
	for _, x := range lit.Elts {
		if kv, ok := x.(*ast.KeyValueExpr); ok {
			index, _ = constant.Int64Val(constant.ToInt(w.info.Types[kv.Key].Value)) // go/types has checked that it is one, and in range
			x = kv.Value
		}
		if !w.value(x, at+index*size) {
			return false
		}
		index++
	}
	return true
}

func (w *tableWriter) structure(lit *ast.CompositeLit, t *types.Struct, at int64) bool {
	fields := structFields(t)
	offsets := w.m.sizes.Offsetsof(fields)
	for k, x := range lit.Elts {
		if kv, ok := x.(*ast.KeyValueExpr); ok {
			for n, f := range fields {
				if f.Name() == kv.Key.(*ast.Ident).Name {
					k = n
				}
			}
			x = kv.Value
		}
		if !w.value(x, at+offsets[k]) {
			return false
		}
	}
	return true
}

// scalarOf is scalar for a type that may be missing.
func scalarOf(t types.Type) (leaf, bool) {
	if t == nil {
		return leaf{}, false
	}
	return scalar(t)
}

// putConstant writes a constant of the type of l.
func putConstant(into []byte, l leaf, v constant.Value) {
	var word uint64
	if v.Kind() == constant.Bool {
		if constant.BoolVal(v) {
			word = 1
		}
	} else if n, ok := constant.Int64Val(constant.ToInt(v)); ok {
		word = uint64(n)
	} else {
		word, _ = constant.Uint64Val(constant.ToInt(v))
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], word)
	copy(into[:l.size], b[:])
}

// fromTable reads one scalar of p, a place in a table whose index has been checked.
func (l *lowerer) fromTable(p *place, t leaf) operand {
	at, bytes := p.off+t.off, l.tableBytes(p.alloc)
	if p.index.isConst() {
		if at += p.index.c; at < 0 || at+int64(t.size) > int64(len(bytes)) {
			return constant0 // the check of the index has ended the guard
		}
		return operand{c: constantAt(bytes[at:], t)}
	}
	table := l.emitTo(insn{op: opRodata, off: l.text(bytes)})
	return l.loadLeaf(l.alu(bpf.AluADD, table, p.index), at, t)
}

// constantAt is the scalar that bytes begin with, extended as a load would.
func constantAt(bytes string, t leaf) int64 {
	var b [8]byte
	copy(b[:], bytes[:t.size])
	word := int64(binary.LittleEndian.Uint64(b[:]))
	if shift := 64 - 8*uint(t.size); t.signed {
		word = word << shift >> shift
	}
	return word
}
