package compile

import (
	"go/ast"
	"go/token"
	"strconv"
)

// Limits of what is looked at.
const (
	maxNesting = 500    // of the syntax tree
	maxNodes   = 60_000 // of the syntax tree, all files together
	maxForks   = 2_000  // places where control forks: what SSA costs grows with its square
)

// screen refuses what is outside the subset and can be told from syntax alone,
// where the message can point at the very token; and what would be expensive to
// type-check.
func (m *module) screen(map[string][]byte) {
	nodes, forks := 0, 0
	for _, f := range m.files {
		depth, tooDeep := 0, false
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil {
				depth--
				return false
			}
			nodes++
			forks += fork(n)
			if depth >= maxNesting && !tooDeep {
				tooDeep = true
				m.refuse(n.Pos(), "name the parts of the expression, or move them into functions", "nested more than %d deep", maxNesting)
			}
			if tooDeep {
				return false
			}
			depth++
			return true
		})
		if nodes > maxNodes || forks > maxForks {
			m.refuse(f.Package, "a guard is a short check", "the prepatch is too large: more than %d syntax nodes, or %d conditions and loops", maxNodes, maxForks)
		}
	}
	if len(m.errs) > 0 {
		return
	}
	m.screenConstants()
	m.screenTypes()
	for _, f := range m.files {
		m.screenImports(f)
		m.screenLiterals(f)
		for _, d := range f.Decls {
			m.screenDecl(d)
		}
		ast.Inspect(f, m.screenNode)
	}
}

// fork is how many forks of control n is.
func fork(n ast.Node) int {
	switch n := n.(type) {
	case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
		return 1
	case *ast.CaseClause:
		return len(n.List)
	case *ast.BinaryExpr:
		if n.Op == token.LAND || n.Op == token.LOR {
			return 1
		}
	}
	return 0
}

// elsewhere is what to use instead of packages that guards would like to have.
var elsewhere = map[string]string{
	"encoding/binary": "m.Big16(i), Big32, Big64, Little16, Little32 and Little64 read numbers of a libpie.Mem, *libpie.At[uint32](a) a little-endian one at any address",
	"strings":         "a libpie.Mem, from c.CStr or c.Bytes, has Index, Count, Find, Contains, HasPrefix, HasSuffix and Equal",
	"bytes":           "a libpie.Mem, from c.Bytes, has Index, Count, Find, Contains, HasPrefix, HasSuffix, Equal and EqualMem",
	"slices":          "for _, x := range []int32{1, 2} { … } goes through a list",
	"strconv":         "n = 10*n + int(b-'0') for each digit b, with a limit of your own",
	"errors":          "return a bool or a number from a function, libpie.Reject from the guard",
	"fmt":             "libpie.Log(code) notes a call, and WithCode which check rejected it",
	"time":            "c.Now() is CLOCK_MONOTONIC in ns; a libpie.Limiter counts calls in a time",
	"sync":            "libpie.Counter, Map, PerThread and Limiter may be used by all threads at once",
}

func (m *module) screenImports(f *ast.File) {
	for _, i := range f.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		switch {
		case path == "unsafe":
			m.refuse(i.Pos(), "libpie.At and libpie.AddrOf convert between addresses and pointers", "a guard cannot use unsafe")
		case path == "C":
			m.refuse(i.Pos(), "", "a guard cannot use cgo")
		case elsewhere[path] != "":
			m.refuse(i.Pos(), elsewhere[path], "a guard cannot import %q", path)
		case path != libpiePath && path != "math/bits" && path != "math":
			m.refuse(i.Pos(), "only "+libpiePath+" and math/bits can be imported, and math for the limits of integers", "a guard cannot import %q", path)
		case i.Name != nil && i.Name.Name == ".":
			m.refuse(i.Pos(), "import it by its name", "a guard cannot import into its own scope")
		}
	}
}

func (m *module) screenDecl(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		m.screenTypeParams(d.Type.TypeParams, "function")
		if d.Name.Name == "init" && d.Recv == nil {
			m.refuse(d.Pos(), "compute it in the guard", "init does not run: a guard only runs when it is called")
		}
		if d.Body == nil {
			m.refuse(d.Pos(), "write its body", "the function has no body")
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				if d.Tok == token.VAR && len(s.Values) > 0 && len(s.Values) != len(s.Names) {
					m.refuse(s.Pos(), "declare each with its own value", "a package-level variable cannot be given one of several results")
				}
			case *ast.TypeSpec:
				if s.TypeParams != nil && s.Assign.IsValid() {
					m.refuse(s.TypeParams.Pos(), "declare a type of its own, without the =", "a prepatch cannot declare generic aliases")
				}
				m.screenTypeParams(s.TypeParams, "type")
			}
		}
	}
}

// screenNode refuses one construct.
func (m *module) screenNode(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		m.refuse(n.Pos(), "do the work in the guard itself", "a guard cannot start goroutines: it runs on the caller's thread")
	case *ast.DeferStmt:
		m.refuse(n.Pos(), "there is nothing to release; return", "a guard cannot defer")
	case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
		m.refuse(n.Pos(), "decide from this call alone", "a guard cannot use channels")
	case *ast.MapType:
		m.refuse(n.Pos(), "use a switch, or an array with a fixed length", "a guard cannot use maps")
	case *ast.InterfaceType:
		if isConstraint(n) {
			break
		}
		m.refuse(n.Pos(), "use the concrete type", "a guard cannot use interfaces")
	case *ast.TypeAssertExpr, *ast.TypeSwitchStmt:
		m.refuse(n.Pos(), "use the concrete type", "a guard cannot use interfaces")
	case *ast.CompositeLit:
		m.mayBeSlice(n.Type)
	case *ast.FuncType:
		for _, p := range n.Params.List {
			m.mayBeSlice(p.Type)
		}
	case *ast.ArrayType:
		if n.Len == nil && !m.slices[n] {
			m.refuse(n.Pos(), "a list is written where it is declared, x := []T{…}, or is a parameter; [4]T is an array; c.Bytes is memory of the target; the slice parameter of a Go function is a libpie.GoSlice", "a guard cannot use slices here")
		}
	case *ast.BasicLit:
		if n.Kind == token.IMAG {
			m.refuse(n.Pos(), "", "a guard cannot use complex numbers")
		}
	case *ast.CallExpr:
		m.mayBeSlice(n.Fun)
		m.screenCall(n)
	}
	return true
}

// mayBeSlice notes that a type may be that of a slice: of a literal, of a parameter of
// a function and in a conversion, where it is a list of known length.
func (m *module) mayBeSlice(e ast.Expr) {
	if t, ok := e.(*ast.ArrayType); ok {
		m.slices[t] = true
	}
}

// refusedBuiltins are predeclared functions, and what to do without them.
var refusedBuiltins = map[string]string{
	"append": "use an array with a fixed length", "make": "use an array with a fixed length",
	"recover": "a fault always ends the guard with its onfault", "print": "return libpie.Log(code)", "println": "return libpie.Log(code)",
	"delete": "", "close": "", "complex": "", "real": "", "imag": "",
}

func (m *module) screenCall(n *ast.CallExpr) {
	id, ok := n.Fun.(*ast.Ident)
	if !ok {
		return
	}
	if instead, refused := refusedBuiltins[id.Name]; refused && !m.declares(id.Name) {
		m.refuse(n.Pos(), instead, "a guard cannot use %s", id.Name)
	}
}

// declares reports whether the prepatch has a function of that name.
func (m *module) declares(name string) bool {
	for _, f := range m.files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == name {
				return true
			}
		}
	}
	return false
}
