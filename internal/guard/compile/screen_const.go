package compile

import (
	"go/ast"
	"go/token"
)

// maxText bounds a constant string, in bytes.
const maxText = 64 << 10

// screenConstants refuses constant strings that doubling makes huge:
//
//	const a = "xx"; const b = a + a; const c = b + b; …
//
// go/types would build them. Here each constant name gets the largest length any
// constant of that name could have, which needs no types: an operand that is no
// string has length 0.
func (m *module) screenConstants() {
	s := constants{exprs: map[string][]ast.Expr{}, length: map[string]int{}, active: map[string]bool{}}
	for _, f := range m.files {
		ast.Inspect(f, func(n ast.Node) bool {
			d, ok := n.(*ast.GenDecl)
			if !ok || d.Tok != token.CONST {
				return true
			}
			var values []ast.Expr
			for _, spec := range d.Specs {
				v := spec.(*ast.ValueSpec)
				if len(v.Values) > 0 {
					values = v.Values // else the previous ones are repeated
				}
				for i, name := range v.Names {
					if i < len(values) {
						s.exprs[name.Name] = append(s.exprs[name.Name], values[i])
					}
				}
			}
			return true
		})
	}
	for _, f := range m.files {
		ast.Inspect(f, func(n ast.Node) bool {
			e, ok := n.(*ast.BinaryExpr)
			if ok && e.Op == token.ADD && s.of(e) > maxText {
				m.refuse(e.Pos(), "", "a constant string may be longer than %d KiB here", maxText>>10)
				return false
			}
			return len(m.errs) < maxErrors
		})
		if len(m.errs) > 0 {
			return
		}
	}
}

// constants knows the greatest length that each constant can have.
type constants struct {
	exprs  map[string][]ast.Expr
	length map[string]int
	active map[string]bool // being computed: a cycle, which has no end
}

func (s *constants) of(e ast.Expr) int {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return len(e.Value)
		}
	case *ast.ParenExpr:
		return s.of(e.X)
	case *ast.Ident:
		return s.name(e.Name)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return min(s.of(e.X)+s.of(e.Y), 1<<40)
		}
	case *ast.CallExpr: // a conversion
		longest := 4 // of a rune
		for _, a := range e.Args {
			longest = max(longest, s.of(a))
		}
		return longest
	}
	return 0
}

func (s *constants) name(name string) int {
	if n, ok := s.length[name]; ok {
		return n
	}
	if s.active[name] {
		return maxText + 1
	}
	s.active[name] = true
	longest := 0
	for _, e := range s.exprs[name] {
		longest = max(longest, s.of(e))
	}
	delete(s.active, name)
	s.length[name] = longest
	return longest
}
