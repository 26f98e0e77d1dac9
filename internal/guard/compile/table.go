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
	case *types.Array, *types.Struct:
		return true
	}
	return false
}

// declareTable adds a table with the values that it is declared with.
func (m *module) declareTable(info *types.Info, name *ast.Ident, init ast.Expr) {
	obj := info.Defs[name]
	t := objType(obj)
	switch size := m.sizes.Sizeof(t); {
	case !m.readable(t) || holdsPointer(t):
		m.refuse(name.Pos(), "use integers, bools, and arrays and structs of these; "+eachText, "a %s cannot be a table of constants", typeName(t))
	case init == nil || size == 0:
		m.refuse(name.Pos(), "write its values; what is kept between calls is a libpie.Counter, Map, PerThread or Limiter", "%s has no values: a package-level variable of a prepatch is a table of constants, or state", name.Name)
	case size > maxText:
		m.refuse(name.Pos(), "", "the table has more than %d KiB", maxText>>10)
	default:
		bytes := make([]byte, size)
		if m.fill(info, init, bytes) {
			m.tables[obj] = &alloc{table: string(bytes)}
		}
	}
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

// fill writes the constant e, or those of a literal, as they lie in memory.
func (m *module) fill(info *types.Info, e ast.Expr, into []byte) bool {
	e = ast.Unparen(e)
	tv := info.Types[e]
	if tv.Type == nil {
		m.refuse(e.Pos(), "write the number", "a table is made of constants")
		return false
	}
	if l, ok := scalar(tv.Type); ok && tv.Value != nil {
		putConstant(into, l, tv.Value)
		return true
	}
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		m.refuse(e.Pos(), "write the number", "a table is made of constants")
		return false
	}
	switch t := tv.Type.Underlying().(type) {
	case *types.Array:
		return m.fillArray(info, lit, m.sizes.Sizeof(t.Elem()), into)
	case *types.Struct:
		return m.fillStruct(info, lit, t, into)
	}
	m.refuse(e.Pos(), "use arrays and structs", "a %s cannot stand in a table", typeName(tv.Type))
	return false
}

func (m *module) fillArray(info *types.Info, lit *ast.CompositeLit, size int64, into []byte) bool {
	at := int64(0)
	for _, x := range lit.Elts {
		if kv, ok := x.(*ast.KeyValueExpr); ok {
			at, _ = constant.Int64Val(constant.ToInt(info.Types[kv.Key].Value)) // go/types has checked that it is one, and in range
			x = kv.Value
		}
		if !m.fill(info, x, into[at*size:(at+1)*size]) {
			return false
		}
		at++
	}
	return true
}

func (m *module) fillStruct(info *types.Info, lit *ast.CompositeLit, t *types.Struct, into []byte) bool {
	fields := structFields(t)
	offsets := m.sizes.Offsetsof(fields)
	for k, x := range lit.Elts {
		if kv, ok := x.(*ast.KeyValueExpr); ok {
			for n, f := range fields {
				if f.Name() == kv.Key.(*ast.Ident).Name {
					k = n
				}
			}
			x = kv.Value
		}
		if !m.fill(info, x, into[offsets[k]:offsets[k]+m.sizes.Sizeof(fields[k].Type())]) {
			return false
		}
	}
	return true
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
	at := p.off + t.off
	if p.index.isConst() {
		if at += p.index.c; at < 0 || at+int64(t.size) > int64(len(p.alloc.table)) {
			return constant0 // the check of the index has ended the guard
		}
		return operand{c: constantAt(p.alloc.table[at:], t)}
	}
	table := l.emitTo(insn{op: opRodata, off: l.text(p.alloc.table)})
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
