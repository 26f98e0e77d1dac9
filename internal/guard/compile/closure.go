package compile

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ssa"
)

// A function value in a guard is one that is known when the guard is compiled: a function
// literal, or a function of the prepatch, that is called, given to a function or returned.
// A call of it is inlined as any other call is, and the variables that a literal uses of
// the functions around it are those of the copy that it was made in: their places, as if
// the literal were given pointers to them. So nothing of it is left at run time. Which
// function a value is cannot depend on a condition.

// maxLiterals is how many function literals may be inside one another: each has, for the
// SSA builder, every variable that those inside it use.
const maxLiterals = 4

// function is a function value.
type function struct {
	fn    *ssa.Function
	bound []value // what fn.FreeVars are: the places of variables
}

// sameFunction reports whether two values, if they are functions, are the same one.
func sameFunction(a, b *function) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || a.fn == b.fn && len(a.bound) == 0 && len(b.bound) == 0
}

// functionValue is fn where it is not called at once. libpie's functions are instructions,
// and have no body; a method as a value is a function that nobody wrote.
func (l *lowerer) functionValue(fn *ssa.Function) value {
	declared := fn
	if fn.Origin() != nil {
		declared = fn.Origin()
	}
	obj := declared.Object()
	if fn.Parent() == nil && (declared.Synthetic != "" || obj == nil || obj.Pkg() != l.m.pkg) {
		l.fail("write func(…) { … } that calls it", "a method, or a function of another package, cannot be kept as a value")
		return value{}
	}
	return value{function: &function{fn: fn}}
}

// closure is a function literal that uses variables around it.
func (l *lowerer) closure(in *instance, i *ssa.MakeClosure) value {
	fn := i.Fn.(*ssa.Function)
	if fn.Parent() == nil {
		return l.functionValue(fn)
	}
	f := &function{fn: fn}
	for _, b := range i.Bindings {
		f.bound = append(f.bound, l.eval(in, b))
	}
	return value{function: f}
}

// callee is the function that i calls, and what it was bound to.
func (l *lowerer) callee(in *instance, i *ssa.Call) *function {
	if fn, ok := i.Call.Value.(*ssa.Function); ok {
		return &function{fn: fn}
	}
	if !i.Call.IsInvoke() {
		if f := l.eval(in, i.Call.Value).function; f != nil {
			return f
		}
	}
	l.fail("call the function by its name", "a guard can only call functions that are known when it is compiled")
	return nil
}

// A variable that function literals use is one whose address they have. Where it is a
// function, a pointer, a list or a verdict, its value may be one that has no words: it is kept as
// it is, if it is set only where it is declared. Then it is the same for all who read it:
// the one store is in the block of the declaration, which comes before every use, and what
// is read before the store was lowered has no value yet, and is refused.

// keptWhole reports whether the variable i is such a one.
func keptWhole(i *ssa.Alloc) bool {
	t := i.Type().Underlying().(*types.Pointer).Elem()
	switch t.Underlying().(type) {
	case *types.Signature, *types.Pointer, *types.Slice:
	default:
		if !isLib(t, "Verdict") {
			return false
		}
	}
	stores, captured := 0, false
	for _, r := range *i.Referrers() {
		switch r := r.(type) {
		case *ssa.Store:
			if stores++; r.Addr != i || r.Val == i || r.Block() != i.Block() {
				return false
			}
		case *ssa.MakeClosure:
			if captured = true; !onlyLoaded(i, r) {
				return false
			}
		case *ssa.UnOp, *ssa.DebugRef:
		default:
			return false
		}
	}
	return captured && stores == 1
}

// onlyLoaded reports whether the literal c, and those inside it, only read the variable v.
func onlyLoaded(v ssa.Value, c *ssa.MakeClosure) bool {
	for k, b := range c.Bindings {
		if b != v {
			continue
		}
		free := c.Fn.(*ssa.Function).FreeVars[k]
		for _, r := range *free.Referrers() {
			switch r := r.(type) {
			case *ssa.UnOp, *ssa.DebugRef:
			case *ssa.MakeClosure:
				if !onlyLoaded(free, r) {
					return false
				}
			default:
				return false
			}
		}
	}
	return true
}

// loadWhole reads a variable that is kept as it is.
func (l *lowerer) loadWhole(a *alloc) value {
	if a.is == nil {
		l.fail("declare it with its value", "a variable that a function literal uses is read before it is set")
		return value{}
	}
	return *a.is
}

// screenLiterals refuses function literals too deep inside one another.
func (m *module) screenLiterals(f *ast.File) {
	depth, ends := 0, []token.Pos(nil)
	ast.Inspect(f, func(n ast.Node) bool {
		lit, ok := n.(*ast.FuncLit)
		if !ok {
			return true
		}
		for depth > 0 && ends[depth-1] <= lit.Pos() {
			depth, ends = depth-1, ends[:depth-1]
		}
		if depth++; depth > maxLiterals {
			m.refuse(lit.Pos(), "declare a function", "function literals are more than %d deep inside one another", maxLiterals)
			return false
		}
		ends = append(ends, lit.End())
		return true
	})
}

// checkFunctions refuses loops over functions, and behind the last semicolon of a loop
// function values, and pointers where one may be to a variable of the loop. There Go has
// made the variables of the next round already, while the literal or pointer still has
// those of this one: a guard has one for all rounds (perLoop).
func (m *module) checkFunctions(info *types.Info) {
	for _, f := range m.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.RangeStmt:
				if t := info.TypeOf(n.X); t != nil && isFunction(t) {
					m.refuse(n.Pos(), "write the loop out", "a guard cannot range over a function")
				}
			case *ast.ForStmt:
				if n.Post != nil {
					m.checkPost(info, n)
				}
			}
			return true
		})
	}
}

func (m *module) checkPost(info *types.Info, loop *ast.ForStmt) {
	kept := addressed(info, loop)
	ast.Inspect(loop.Post, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if !ok {
			return true
		}
		v, isVar := info.Uses[id].(*types.Var)
		if isVar && isFunction(v.Type()) {
			m.refuse(id.Pos(), "call it at the end of the loop's body", "%s is a function value in the last clause of a loop", id.Name)
		}
		if isVar && kept && isPointer(v.Type()) {
			m.refuse(id.Pos(), "do it at the end of the loop's body", "%s is a pointer in the last clause of a loop whose variables have an address", id.Name)
		}
		return true
	})
}

// addressed reports whether the body or the condition of a loop takes the address of a
// variable that the loop declares.
func addressed(info *types.Info, loop *ast.ForStmt) (found bool) {
	init, ok := loop.Init.(*ast.AssignStmt)
	if !ok {
		return false
	}
	declared := map[types.Object]bool{}
	for _, x := range init.Lhs {
		if id, ok := x.(*ast.Ident); ok && info.Defs[id] != nil {
			declared[info.Defs[id]] = true
		}
	}
	parts := []ast.Node{loop.Body}
	if loop.Cond != nil {
		parts = append(parts, loop.Cond)
	}
	for _, part := range parts {
		ast.Inspect(part, func(n ast.Node) bool {
			if u, ok := n.(*ast.UnaryExpr); ok && u.Op == token.AND {
				ast.Inspect(u.X, func(n ast.Node) bool {
					id, ok := n.(*ast.Ident)
					found = found || ok && declared[info.Uses[id]]
					return !found
				})
			}
			return !found
		})
	}
	return found
}

func isPointer(t types.Type) bool {
	_, ok := t.Underlying().(*types.Pointer)
	return ok
}

func isFunction(t types.Type) bool {
	_, ok := t.Underlying().(*types.Signature)
	return ok
}
