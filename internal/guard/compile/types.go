package compile

import (
	"go/ast"
	"go/constant"
	"go/types"
	"math"
	"slices"
)

// Limits of a type.
const (
	maxFields = 4096 // nested ones counted, the elements of an array once
	maxLeaves = 512  // scalars of what is copied to the stack
	maxParts  = 64   // scalars of a value that is copied to registers
)

// leaf is one scalar of a type: where it is and how it is read.
type leaf struct {
	off    int64
	size   uint8 // 1, 2, 4 or 8 bytes
	signed bool
	isBool bool
}

// bits returns the leaf's width.
func (l leaf) bits() int { return int(l.size) * 8 }

// scalar returns how a value of type t, if it is one word, is held; ok is false
// for other types.
func scalar(t types.Type) (l leaf, ok bool) {
	switch u := t.Underlying().(type) {
	case *types.Pointer:
		return leaf{size: 8}, true
	case *types.Basic:
		switch u.Kind() {
		case types.Bool, types.UntypedBool:
			return leaf{size: 1, isBool: true}, true
		case types.Int8:
			return leaf{size: 1, signed: true}, true
		case types.Uint8:
			return leaf{size: 1}, true
		case types.Int16:
			return leaf{size: 2, signed: true}, true
		case types.Uint16:
			return leaf{size: 2}, true
		case types.Int32, types.UntypedRune:
			return leaf{size: 4, signed: true}, true
		case types.Uint32:
			return leaf{size: 4}, true
		case types.Int, types.Int64, types.UntypedInt:
			return leaf{size: 8, signed: true}, true
		case types.Uint, types.Uint64, types.Uintptr, types.UntypedNil:
			return leaf{size: 8}, true
		}
	}
	return leaf{}, false
}

// isLib reports whether t is the type of that name in libpie.
func isLib(t types.Type, name string) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Name() == name && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == libpiePath
}

// isCall reports whether t is *libpie.Call.
func isCall(t types.Type) bool {
	p, ok := types.Unalias(t).(*types.Pointer)
	return ok && isLib(p.Elem(), "Call")
}

// leaves returns the scalars of t in the order of their offsets; ok is false if
// t has parts a guard cannot hold. A libpie.Mem is its address and length, a string
// what text.go says.
// Offsets are those in memory; for types that hold a Mem they mean nothing.
func (m *module) leaves(t types.Type) (all []leaf, ok bool) {
	if m.width(t) > maxLeaves {
		return nil, false
	}
	if isLib(t, "Mem") {
		return []leaf{{size: 8}, {off: 8, size: 8, signed: true}}, true
	}
	if isLib(t, "Verdict") || isLib(t, "Result") {
		return nil, false
	}
	if isText(t) {
		return []leaf{{size: 8}, {off: 8, size: 8, signed: true}}, true
	}
	if l, ok := scalar(t); ok {
		return []leaf{l}, true
	}
	switch u := t.Underlying().(type) {
	case *types.Struct:
		fields := structFields(u)
		offsets := m.sizes.Offsetsof(fields)
		for i, f := range fields {
			sub, ok := m.leaves(f.Type())
			if !ok {
				return nil, false
			}
			all = appendAt(all, sub, offsets[i])
		}
		return all, true
	case *types.Array:
		sub, ok := m.leaves(u.Elem())
		if len(sub) == 0 { // however many of them: an array of empty structs has any length
			return nil, ok
		}
		size := m.sizes.Sizeof(u.Elem())
		for i := range u.Len() {
			all = appendAt(all, sub, i*size)
		}
		return all, true
	}
	return nil, false
}

func appendAt(all, sub []leaf, off int64) []leaf {
	for _, l := range sub {
		l.off += off
		all = append(all, l)
	}
	return all
}

func structFields(s *types.Struct) []*types.Var {
	fields := make([]*types.Var, s.NumFields())
	for i := range fields {
		fields[i] = s.Field(i)
	}
	return fields
}

// readable reports whether values of type t can be in the target's memory.
func (m *module) readable(t types.Type) bool { return consists(t, false) }

// holdable reports whether a variable or a table of the guard can hold values of
// type t: what the target's memory can hold, and strings.
func (m *module) holdable(t types.Type) bool { return consists(t, true) }

// consists reports whether t is made of scalars, and strings where those count.
func consists(t types.Type, texts bool) bool {
	if isLib(t, "Mem") || isLib(t, "Verdict") || isLib(t, "Result") || isLib(t, "Call") {
		return false
	}
	if _, ok := scalar(t); ok || texts && isText(t) {
		return true
	}
	switch u := t.Underlying().(type) {
	case *types.Struct:
		for _, f := range structFields(u) {
			if !consists(f.Type(), texts) {
				return false
			}
		}
		return true
	case *types.Array:
		return consists(u.Elem(), texts)
	}
	return false
}

// width is how many scalars a value of type t has.
func (m *module) width(t types.Type) int {
	if isLib(t, "Mem") || isText(t) {
		return 2
	}
	n := 0
	switch u := t.Underlying().(type) {
	case *types.Struct:
		for _, f := range structFields(u) {
			n = min(n+m.width(f.Type()), 1<<30)
		}
		return n
	case *types.Array:
		return int(min(min(u.Len(), 1<<30)*int64(m.width(u.Elem())), 1<<30))
	}
	return 1
}

// compared says of each scalar of t whether == looks at it: not at those of fields
// that are called _.
func (m *module) compared(t types.Type) (all []bool) {
	switch u := t.Underlying().(type) {
	case *types.Struct:
		for _, f := range structFields(u) {
			if f.Name() == "_" {
				all = append(all, make([]bool, m.width(f.Type()))...)
			} else {
				all = append(all, m.compared(f.Type())...)
			}
		}
		return all
	case *types.Array:
		if elem := m.compared(u.Elem()); len(elem) > 0 { // an array of empty structs has any length
			return slices.Repeat(elem, int(u.Len()))
		}
		return nil
	}
	return slices.Repeat([]bool{true}, m.width(t))
}

// checkTypes refuses variables and fields whose type a guard cannot hold, and
// types with so many fields that computing their layout would take long.
func (m *module) checkTypes(info *types.Info) {
	c := counter{}
	for id, obj := range info.Defs {
		switch obj := obj.(type) {
		case *types.Var:
			if _, isParam := obj.Type().(*types.TypeParam); isParam {
				continue // of one word: checkInstances
			}
			if isFunction(obj.Type()) && !obj.IsField() && obj.Parent() != m.pkg.Scope() {
				continue // known when the guard is compiled: closure.go
			}
			if instead, why := unheld(obj.Type()); why != "" {
				m.refuse(id.Pos(), instead, "%s has type %s: %s", obj.Name(), typeName(obj.Type()), why)
			}
		case *types.TypeName:
			if types.IsInterface(obj.Type()) {
				continue // a constraint
			}
			m.checkSize(id, c.count(obj.Type()), obj.Type())
		}
	}
	for e, tv := range info.Types {
		m.checkSize(e, c.count(tv.Type), tv.Type)
		if tv.Value != nil && tv.Value.Kind() == constant.String {
			m.longTexts = m.longTexts || len(constant.StringVal(tv.Value)) > maxInlineText
		}
	}
}

// largest is how many bytes a type may have.
const largest = 1 << 31

func (m *module) checkSize(at ast.Node, fields int64, t types.Type) {
	switch {
	case parameterized(t): // canRead and the guard's stack have the last word
	case fields > maxFields:
		m.refuse(at.Pos(), "declare only the part of the target's struct that the guard reads", "the type has more than %d fields", maxFields)
	case t != nil && fields > 1 && (m.sizes.Sizeof(t) < 0 || m.sizes.Sizeof(t) > largest):
		m.refuse(at.Pos(), "declare only the part of the target's struct that the guard reads", "the type is larger than %d bytes", largest)
	}
}

// unheld says why no variable can have type t, and what to use.
func unheld(t types.Type) (instead, why string) {
	switch u := t.Underlying().(type) {
	case *types.Basic:
		if isFloat(u) {
			return "read the bits as an integer of the same size, and compare those", "a guard has no floating-point arithmetic"
		}
	case *types.Interface:
		return "use the concrete type; an error that the function is given is a libpie.GoError, any other interface a libpie.GoInterface", "a guard cannot hold an interface value"
	case *types.Signature:
		return "a local variable or a parameter can", "it cannot hold a function"
	case *types.Pointer:
		if b, ok := u.Elem().Underlying().(*types.Basic); ok && b.Kind() == types.String {
			return "libpie.GoString is a string of a Go program", "a string of the target cannot be read as a Go string"
		}
	}
	return "", ""
}

// typeName is t without package paths.
func typeName(t types.Type) string {
	return types.TypeString(t, func(p *types.Package) string {
		if p.Path() == libpiePath {
			return "libpie"
		}
		return ""
	})
}

// counter counts fields, each type once; it saturates.
type counter map[types.Type]int64

func (c counter) count(t types.Type) int64 {
	if t == nil {
		return 0
	}
	if n, ok := c[t]; ok {
		return n
	}
	c[t] = 1 // a pointer cycle comes back here
	n := int64(1)
	switch u := t.Underlying().(type) {
	case *types.Struct:
		for i := range u.NumFields() {
			n = min(n+c.count(u.Field(i).Type()), math.MaxInt32)
		}
	case *types.Array:
		n += c.count(u.Elem())
	case *types.Pointer:
		c.count(u.Elem())
	}
	c[t] = n
	return n
}
