package compile

import "go/ast"

// maxTypeDepth is how many structs may be inside one another.
const maxTypeDepth = 32

// screenTypes refuses types that nesting makes huge, as
//
//	type a struct{ x, y int }; type b struct{ x, y a }; …
//
// for which go/types takes time in proportion to what they would be written
// out. Like constants, types are known by name alone here.
func (m *module) screenTypes() {
	s := typeSizes{exprs: map[string][]ast.Expr{}, known: map[string]extent{}, active: map[string]bool{}}
	for _, f := range m.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				s.exprs[spec.Name.Name] = append(s.exprs[spec.Name.Name], spec.Type)
			}
			return true
		})
	}
	const instead = "declare only the part of the target's struct that the guard reads"
	for _, f := range m.files {
		ast.Inspect(f, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return len(m.errs) < maxErrors
			}
			switch e.(type) {
			case *ast.StructType, *ast.ArrayType, *ast.IndexExpr, *ast.IndexListExpr:
				switch x := s.of(e); {
				case x.fields > maxFields:
					m.refuse(e.Pos(), instead, "the type has more than %d fields", maxFields)
				case x.depth > maxTypeDepth:
					m.refuse(e.Pos(), instead, "the type is nested more than %d deep", maxTypeDepth)
				}
			}
			return len(m.errs) < maxErrors
		})
	}
}

// extent is how much there is to a type, written out.
type extent struct{ fields, depth int }

// typeSizes knows the extent of each type.
type typeSizes struct {
	exprs  map[string][]ast.Expr
	known  map[string]extent
	active map[string]bool // being computed: a cycle, which has no end
}

func (s *typeSizes) of(e ast.Expr) extent {
	x := extent{fields: 1}
	add := func(e ast.Expr, times int) {
		sub := s.of(e)
		x.fields = min(x.fields+sub.fields*times, 1<<20)
		x.depth = max(x.depth, sub.depth+1)
	}
	switch e := e.(type) {
	case *ast.Ident:
		return s.name(e.Name)
	case *ast.ParenExpr:
		return s.of(e.X)
	case *ast.ArrayType:
		add(e.Elt, 1)
	case *ast.IndexExpr:
		return s.instance(e.X, []ast.Expr{e.Index})
	case *ast.IndexListExpr:
		return s.instance(e.X, e.Indices)
	case *ast.StructType:
		for _, f := range e.Fields.List {
			add(f.Type, max(len(f.Names), 1))
		}
	}
	return x
}

// instance is the extent of a generic type with arguments, each of which may stand for
// every field. Of what is no type, an element of an array, it means nothing.
func (s *typeSizes) instance(generic ast.Expr, args []ast.Expr) extent {
	x := s.of(generic)
	for _, a := range args {
		arg := s.of(a)
		x = extent{min(x.fields*arg.fields, 1<<20), max(x.depth, min(x.depth+arg.depth, 1<<20))}
	}
	return x
}

func (s *typeSizes) name(name string) extent {
	if x, ok := s.known[name]; ok {
		return x
	}
	if s.active[name] {
		return extent{depth: 1 << 20}
	}
	s.active[name] = true
	most := extent{fields: 1}
	for _, e := range s.exprs[name] {
		x := s.of(e)
		most = extent{max(most.fields, x.fields), max(most.depth, x.depth)}
	}
	delete(s.active, name)
	s.known[name] = most
	return most
}
