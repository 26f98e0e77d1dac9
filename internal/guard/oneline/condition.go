package oneline

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"strconv"
	"strings"
)

// maxArgs bounds the arg0, arg1, … a condition may name.
const maxArgs = 16

// maxCondition bounds the text of a condition, in bytes.
const maxCondition = 4096

// types maps what a condition calls a type to Go.
var types = map[string]string{
	"i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
	"u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
	"bool": "bool", "addr": "libpie.Addr",
	String: "libpie.GoString", Slice: "libpie.GoSlice", Interface: "libpie.GoInterface",
}

// goType is the Go type a parameter is declared with: its own where it is
// known, else the whole register.
func goType(t string) string {
	if g, ok := types[t]; ok {
		return g
	}
	return "uint64"
}

// A reader rebuilds one condition as Go source.
type reader struct {
	spec Spec
	args int // how many leading parameters the guard must declare

	helpers map[string]bool // functions that the condition uses
}

// condition reads the condition: it returns it in Go, and the reader, which knows
// what the guard needs besides.
func condition(s Spec) (string, *reader, error) {
	r := &reader{spec: s, helpers: map[string]bool{}}
	if strings.TrimSpace(s.When) == "" {
		return "", nil, r.errorf(0, "no condition: write when a call is to be rejected, as in 'i32(arg1) > 256'")
	}
	if len(s.When) > maxCondition {
		return "", nil, r.errorf(maxCondition, "longer than %d bytes: write a prepatch file instead", maxCondition)
	}
	tree, err := parser.ParseExpr(arrows(s.When))
	if err != nil {
		var list scanner.ErrorList
		if errors.As(err, &list) && len(list) > 0 {
			return "", nil, r.errorf(list[0].Pos.Offset, "%s", list[0].Msg)
		}
		return "", nil, r.errorf(0, "%v", err)
	}
	text, err := r.truth(tree)
	return text, r, err
}

func (r *reader) errorf(offset int, format string, args ...any) error {
	return &Error{Option: "--when", Text: r.spec.When, Offset: offset, Msg: fmt.Sprintf(format, args...)}
}

// at is where a node begins in the text; go/parser counts from 1.
func at(n ast.Node) int { return int(n.Pos()) - 1 }

// truth reads an expression that is true or false.
func (r *reader) truth(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		text, err := r.truth(e.X)
		return "(" + text + ")", err
	case *ast.UnaryExpr:
		if e.Op == token.NOT {
			text, err := r.truth(e.X)
			if _, bracketed := e.X.(*ast.ParenExpr); !bracketed {
				text = "(" + text + ")"
			}
			return "!" + text, err
		}
	case *ast.BinaryExpr:
		switch e.Op {
		case token.LAND, token.LOR:
			x, err := r.truth(e.X)
			if err != nil {
				return "", err
			}
			y, err := r.truth(e.Y)
			return x + " " + e.Op.String() + " " + y, err
		case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
			if text, ok, err := r.textual(e); ok {
				return text, err
			}
			n, err := r.pair(e)
			return n.text, err
		}
	case *ast.CallExpr:
		return r.textCall(e)
	case *ast.SelectorExpr:
		if x, err := r.operand(e); err != nil || x.Type == "bool" {
			return x.text, err
		}
	case *ast.Ident:
		switch i, known := r.lookup(e.Name); {
		case i >= 0 && known.Type == "bool":
			return r.argument(e, i)
		case i >= 0:
			return "", r.errorf(at(e), "%s alone is no condition: write what it is compared with, as in '%[1]s != 0'", e.Name)
		}
	}
	return "", r.errorf(at(e), "not a comparison: write one such as 'i32(arg1) > 256'")
}

// number is an integer expression in Go. kind is its type as a condition
// writes it, empty for a constant, which takes any.
type number struct{ text, kind string }

// pair reads two integers with an operator between them.
func (r *reader) pair(e *ast.BinaryExpr) (number, error) {
	x, err := r.number(e.X)
	if err != nil {
		return number{}, err
	}
	y, err := r.number(e.Y)
	if err != nil {
		return number{}, err
	}
	kind := x.kind
	switch {
	case e.Op == token.SHL || e.Op == token.SHR:
	case kind == "":
		kind = y.kind
	case y.kind != "" && y.kind != kind:
		return number{}, r.errorf(int(e.OpPos)-1, "%s on its left and %s on its right: make them the same, as in i64(…) %s i64(…)", x.kind, y.kind, e.Op)
	}
	return number{x.text + " " + e.Op.String() + " " + y.text, kind}, nil
}

// number reads an integer expression.
func (r *reader) number(e ast.Expr) (number, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		n, err := r.number(e.X)
		return number{"(" + n.text + ")", n.kind}, err
	case *ast.BasicLit:
		if e.Kind == token.INT || e.Kind == token.CHAR {
			return number{text: e.Value}, nil
		}
	case *ast.UnaryExpr:
		if e.Op == token.SUB || e.Op == token.XOR {
			n, err := r.number(e.X)
			return number{e.Op.String() + "(" + n.text + ")", n.kind}, err
		}
	case *ast.BinaryExpr:
		switch e.Op {
		case token.ADD, token.SUB, token.MUL, token.QUO, token.REM, token.AND, token.OR, token.XOR, token.SHL, token.SHR:
			n, err := r.pair(e)
			return number{"(" + n.text + ")", n.kind}, err
		}
	case *ast.CallExpr:
		return r.call(e)
	case *ast.Ident:
		if i, _ := r.lookup(e.Name); i < 0 && isNull(e.Name) {
			return number{text: "0"}, nil
		}
		return r.parameter(e)
	case *ast.SelectorExpr:
		return r.field(e)
	case *ast.IndexExpr:
		return number{}, r.errorf(at(e), `elements cannot be looked at here: text by prefix(s, "/") and contains(s, "/"), all else in a prepatch file`)
	}
	return number{}, r.errorf(at(e), "not an integer expression over parameters and constants")
}

// isNull reports whether C or Go calls the null pointer so.
func isNull(name string) bool { return name == "NULL" || name == "nil" || name == "null" }

// parameter reads a parameter that is an integer or an address.
func (r *reader) parameter(e *ast.Ident) (number, error) {
	i, known := r.lookup(e.Name)
	switch {
	case i < 0:
		return number{}, r.unknown(e)
	case known.Type == "":
		return number{}, r.errorf(at(e), "the type of %s is not known%s and its register may hold garbage above it: write i32(%[1]s), u32(%[1]s), i64(%[1]s) or u64(%[1]s)", e.Name, r.spec.why())
	case known.Type == "bool":
		return number{}, r.errorf(at(e), "%s is true or false: write %[1]s or !%[1]s", e.Name)
	case known.Type == String || known.Type == Slice:
		return number{}, r.errorf(at(e), "%s is a %s: what can be compared is len(%[1]s)", e.Name, known.Type)
	case known.Type == Absent:
		return number{}, r.errorf(at(e), "the compiler left %s out of %s: a guard cannot see it", e.Name, r.spec.Func)
	case known.Type == Interface || known.Type == Struct || known.Type == Float:
		return number{}, r.errorf(at(e), "%s is %s, which cannot be compared", e.Name, r.written(i))
	}
	text, err := r.argument(e, i)
	return number{text, known.Type}, err
}

// call reads T(x) and len(x). T on a parameter says how its register is to be read.
func (r *reader) call(e *ast.CallExpr) (number, error) {
	name, ok := e.Fun.(*ast.Ident)
	if ok && name.Name == "len" && len(e.Args) == 1 {
		return r.length(e.Args[0])
	}
	if ok && name.Name == "strlen" && len(e.Args) == 1 {
		return r.textLength(e.Args[0])
	}
	if !ok || !castable(name.Name) || len(e.Args) != 1 {
		return number{}, r.errorf(at(e), "no function but len, strlen, contains, prefix and suffix can be called here; a type is one of i8 i16 i32 i64 u8 u16 u32 u64 addr")
	}
	to := types[name.Name]
	parameter, ok := e.Args[0].(*ast.Ident)
	if !ok {
		n, err := r.number(e.Args[0])
		return number{to + "(" + n.text + ")", name.Name}, err
	}
	i, known := r.lookup(parameter.Name)
	switch {
	case i < 0:
		return number{}, r.unknown(parameter)
	case known.Type != "" && !castable(known.Type):
		return number{}, r.errorf(at(e), "%s is %s and no %s", parameter.Name, r.written(i), name.Name)
	}
	text, err := r.argument(parameter, i)
	return number{to + "(" + text + ")", name.Name}, err
}

// castable reports whether t is a type that a register can be read as.
func castable(t string) bool {
	switch t {
	case "bool", String, Slice, Interface:
		return false
	}
	return types[t] != ""
}

// length reads the parameter of len.
func (r *reader) length(e ast.Expr) (number, error) {
	if parameter, ok := e.(*ast.Ident); ok {
		i, known := r.lookup(parameter.Name)
		if i < 0 {
			return number{}, r.unknown(parameter)
		}
		if known.Type == String || known.Type == Slice {
			text, err := r.argument(parameter, i)
			return number{"int64(" + text + ".Len)", "i64"}, err
		}
	}
	if field, ok := e.(*ast.SelectorExpr); ok {
		x, err := r.operand(field)
		if err != nil || x.Type == String || x.Type == Slice {
			return number{"int64(" + x.text + ".Len)", "i64"}, err
		}
	}
	return number{}, r.errorf(at(e), "len is for strings and slices of Go; strlen(s) is the length of a C string")
}

// lookup finds a parameter by its position or its name; −1 when there is none.
func (r *reader) lookup(name string) (int, Param) {
	for i, p := range r.spec.Params {
		if p.Name == name && i < maxArgs {
			return i, p
		}
	}
	digits, found := strings.CutPrefix(name, "arg")
	i, err := strconv.Atoi(digits)
	if !found || err != nil || i < 0 || i >= maxArgs || strconv.Itoa(i) != digits {
		return -1, Param{}
	}
	return i, r.spec.param(i)
}

func (r *reader) unknown(e *ast.Ident) error {
	var names []string
	for _, p := range r.spec.Params {
		if p.Name != "" {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return r.errorf(at(e), "%s is not a parameter: parameters are arg0, arg1, … by position%s", e.Name, r.spec.why())
	}
	return r.errorf(at(e), "%s is not a parameter: %s has %s (or arg0, arg1, … by position)", e.Name, r.spec.Func, strings.Join(names, ", "))
}

// argument names parameter i in the source and has the guard declare it. What
// stands behind a struct that is passed by value cannot be placed.
func (r *reader) argument(e *ast.Ident, i int) (string, error) {
	for k := range min(i, len(r.spec.Params)) {
		if r.spec.Params[k].Type == Absent {
			return "", r.errorf(at(e), "the compiler left %s out of %s, and %s may be passed elsewhere than declared: look at the code, and write a prepatch file with libpie.Arg", r.spec.Params[k].called(k), r.spec.Func, e.Name)
		}
		if r.spec.Params[k].Type == Struct {
			return "", r.errorf(at(e), "where %s is passed depends on %s, %s by value: write a prepatch file, with libpie.Arg", e.Name, r.spec.Params[k].called(k), r.written(k))
		}
	}
	r.args = max(r.args, i+1)
	return fmt.Sprintf("arg%d", i), nil
}

// written is the type of parameter i as the program's source has it.
func (r *reader) written(i int) string {
	if t := r.spec.param(i).Written; t != "" {
		return "a " + t
	}
	return "a " + r.spec.param(i).Type
}
