package compile

import (
	"go/ast"
	"go/types"
)

// A generic function, or method of a generic type, is compiled once for each combination
// of types it is used with, by the SSA builder. So that a small file cannot make many of
// a large function, type arguments are single words, which cannot be made of others, and
// the product of combinations and code is bounded.

// maxTypeParams is how many type parameters a function or type may have.
const maxTypeParams = 2

// screenTypeParams refuses what no bound would hold for.
func (m *module) screenTypeParams(params *ast.FieldList, of string) {
	if params.NumFields() > maxTypeParams {
		m.refuse(params.Pos(), "write the "+of+" for the types you need", "a %s has more than %d type parameters", of, maxTypeParams)
	}
}

// isConstraint reports whether an interface is a set of types, as type parameters have it.
func isConstraint(i *ast.InterfaceType) bool {
	for _, f := range i.Methods.List {
		if len(f.Names) > 0 {
			return false
		}
	}
	return len(i.Methods.List) > 0
}

// checkInstances checks the types that the prepatch's generic functions and types are
// used with.
func (m *module) checkInstances(info *types.Info) {
	combinations := map[[maxTypeParams]types.Type]bool{}
	for id, instance := range info.Instances {
		if used := info.Uses[id]; used == nil || used.Pkg() != m.pkg {
			continue
		}
		var args [maxTypeParams]types.Type
		for i := range min(instance.TypeArgs.Len(), maxTypeParams) {
			args[i] = instance.TypeArgs.At(i)
			_, isParam := args[i].(*types.TypeParam)
			if _, isWord := scalar(args[i]); !isParam && (!isWord || parameterized(args[i])) {
				m.refuse(id.Pos(), "use it with integers, bools, addresses and pointers to structs", "%s cannot be used with %s: a type argument is one word", id.Name, typeName(args[i]))
				return
			}
		}
		combinations[args] = true
	}
	if len(combinations)*m.genericNodes() > maxNodes {
		m.refuse(m.files[0].Package, "a guard is a short check", "the prepatch is too large: its generic functions and methods with each of %d combinations of types", len(combinations))
	}
}

// genericNodes is how large the generic functions and methods are together.
func (m *module) genericNodes() (n int) {
	for _, f := range m.files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && (fn.Type.TypeParams != nil || fn.Recv != nil && ofGeneric(fn.Recv)) {
				ast.Inspect(fn, func(ast.Node) bool { n++; return true })
			}
		}
	}
	return n
}

// ofGeneric reports whether a receiver is of a generic type.
func ofGeneric(recv *ast.FieldList) bool {
	generic := false
	ast.Inspect(recv, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.IndexExpr, *ast.IndexListExpr:
			generic = true
		}
		return true
	})
	return generic
}

// parameterized reports whether type parameters are in t, whose layout is not known then.
func parameterized(t types.Type) bool { return mentions(t, map[types.Type]bool{}) }

func mentions(t types.Type, seen map[types.Type]bool) bool {
	if t == nil || seen[t] {
		return false
	}
	seen[t] = true
	switch t := types.Unalias(t).(type) {
	case *types.TypeParam:
		return true
	case *types.Named:
		return mentions(t.Underlying(), seen)
	case *types.Pointer:
		return mentions(t.Elem(), seen)
	case *types.Array:
		return mentions(t.Elem(), seen)
	case *types.Struct:
		for f := range t.Fields() {
			if mentions(f.Type(), seen) {
				return true
			}
		}
	}
	return false
}
