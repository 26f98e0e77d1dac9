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
}

// condition returns the condition in Go and how many parameters it needs.
func condition(s Spec) (string, int, error) {
	r := &reader{spec: s}
	if strings.TrimSpace(s.When) == "" {
		return "", 0, r.errorf(0, "no condition: write when a call is to be rejected, as in 'i32(arg1) > 256'")
	}
	if len(s.When) > maxCondition {
		return "", 0, r.errorf(maxCondition, "longer than %d bytes: write a prepatch file instead", maxCondition)
	}
	tree, err := parser.ParseExpr(s.When)
	if err != nil {
		var list scanner.ErrorList
		if errors.As(err, &list) && len(list) > 0 {
			return "", 0, r.errorf(list[0].Pos.Offset, "%s", list[0].Msg)
		}
		return "", 0, r.errorf(0, "%v", err)
	}
	text, err := r.truth(tree)
	return text, r.args, err
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
			return r.pair(e, r.truth)
		case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
			return r.pair(e, r.number)
		}
	case *ast.Ident:
		if i, known := r.lookup(e.Name); i >= 0 && known.Type == "bool" {
			return r.argument(i), nil
		}
	}
	return "", r.errorf(at(e), "not a comparison: write one such as 'i32(arg1) > 256'")
}

func (r *reader) pair(e *ast.BinaryExpr, side func(ast.Expr) (string, error)) (string, error) {
	x, err := side(e.X)
	if err != nil {
		return "", err
	}
	y, err := side(e.Y)
	return x + " " + e.Op.String() + " " + y, err
}

// number reads an integer expression.
func (r *reader) number(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		text, err := r.number(e.X)
		return "(" + text + ")", err
	case *ast.BasicLit:
		if e.Kind == token.INT || e.Kind == token.CHAR {
			return e.Value, nil
		}
	case *ast.UnaryExpr:
		if e.Op == token.SUB || e.Op == token.XOR {
			text, err := r.number(e.X)
			return e.Op.String() + "(" + text + ")", err
		}
	case *ast.BinaryExpr:
		switch e.Op {
		case token.ADD, token.SUB, token.MUL, token.QUO, token.REM, token.AND, token.OR, token.XOR, token.SHL, token.SHR:
			text, err := r.pair(e, r.number)
			return "(" + text + ")", err
		}
	case *ast.CallExpr:
		return r.cast(e)
	case *ast.Ident:
		i, known := r.lookup(e.Name)
		switch {
		case i < 0:
			return "", r.unknown(e)
		case known.Type == "":
			return "", r.errorf(at(e), "the type of %s is not known and its register may hold garbage above it: write i32(%[1]s), u32(%[1]s), i64(%[1]s) or u64(%[1]s)", e.Name)
		}
		return r.argument(i), nil
	}
	return "", r.errorf(at(e), "not an integer expression over parameters and constants")
}

// cast reads T(x). On a parameter it says how its register is to be read.
func (r *reader) cast(e *ast.CallExpr) (string, error) {
	name, ok := e.Fun.(*ast.Ident)
	if !ok || types[name.Name] == "" || name.Name == "bool" || len(e.Args) != 1 {
		return "", r.errorf(at(e), "no function can be called here; a type is one of i8 i16 i32 i64 u8 u16 u32 u64 addr")
	}
	to := types[name.Name]
	if parameter, ok := e.Args[0].(*ast.Ident); ok {
		i, _ := r.lookup(parameter.Name)
		if i < 0 {
			return "", r.unknown(parameter)
		}
		return to + "(" + r.argument(i) + ")", nil
	}
	text, err := r.number(e.Args[0])
	return to + "(" + text + ")", err
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
		return r.errorf(at(e), "%s is not a parameter: parameters are arg0, arg1, … by position", e.Name)
	}
	return r.errorf(at(e), "%s is not a parameter: %s has %s (or arg0, arg1, … by position)", e.Name, r.spec.Func, strings.Join(names, ", "))
}

// argument names parameter i in the source and has the guard declare it.
func (r *reader) argument(i int) string {
	r.args = max(r.args, i+1)
	return fmt.Sprintf("arg%d", i)
}
