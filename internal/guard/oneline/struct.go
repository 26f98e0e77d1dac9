package oneline

import (
	"fmt"
	"go/ast"
	"go/token"
	"strconv"
	"strings"
)

// Fields are those of a struct of the program, as debug information has it.
type Fields interface {
	// Go is the name of the Go struct that mirrors it.
	Go() string
	// Field returns a field by its name in the program.
	Field(name string) (Field, error)
}

// Field is a field of a struct. Go is its name in the mirror.
type Field struct {
	Go string
	Param
	Inside func() (Fields, error) // of a struct by value: its own fields
	Chars  bool                   // an array of characters
}

// maxText bounds a string that is compared, in bytes.
const maxText = 256

// scanned is how many bytes of a C string are looked at for something in it.
const scanned = 4096

// arrows turns C's -> into a dot, and keeps every place in the text.
func arrows(text string) string {
	b := []byte(text)
	quote := byte(0)
	for i := 0; i < len(b); i++ {
		switch {
		case quote != 0 && b[i] == '\\' && quote != '`':
			i++
		case quote != 0:
			if b[i] == quote {
				quote = 0
			}
		case b[i] == '"' || b[i] == '\'' || b[i] == '`':
			quote = b[i]
		case b[i] == '-' && i+1 < len(b) && b[i+1] == '>':
			b[i], b[i+1] = '.', ' '
		}
	}
	return string(b)
}

// operand is a parameter or a field: its Go text and what it is.
type operand struct {
	text string
	Field
}

// operand reads p, p.f, p->f.g …; fields are read through the mirror of what a
// pointer points to.
func (r *reader) operand(e ast.Expr) (operand, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return r.operand(e.X)
	case *ast.Ident:
		i, known := r.lookup(e.Name)
		switch {
		case i < 0:
			return operand{}, r.unknown(e)
		case known.Type == Absent:
			return operand{}, r.errorf(at(e), "the compiler left %s out of %s: a guard cannot see it", e.Name, r.spec.Func)
		}
		text, err := r.argument(e, i)
		return operand{text, Field{Param: known}}, err
	case *ast.SelectorExpr:
		x, err := r.operand(e.X)
		if err != nil {
			return operand{}, err
		}
		s, through, err := r.fields(e, x)
		if err != nil {
			return operand{}, err
		}
		f, err := s.Field(e.Sel.Name)
		if err != nil {
			return operand{}, r.errorf(at(e.Sel), "%v", err)
		}
		return operand{through + "." + f.Go, f}, nil
	}
	return operand{}, r.errorf(at(e), "neither a parameter nor a field of what one points to")
}

// fields returns the struct whose fields x has, and how they are reached.
func (r *reader) fields(e *ast.SelectorExpr, x operand) (s Fields, through string, err error) {
	name := r.source(e.X)
	switch {
	case x.Points != nil:
		s, err = x.Points()
		if err == nil {
			through = fmt.Sprintf("libpie.At[%s](%s)", s.Go(), x.text)
		}
	case x.Inside != nil:
		s, err = x.Inside()
		through = x.text
	case x.Type == "":
		return nil, "", r.errorf(at(e), "what %s points to is not known%s", name, r.spec.why())
	default:
		return nil, "", r.errorf(at(e), "%s is no struct and no pointer to one", name)
	}
	if err != nil {
		return nil, "", r.errorf(at(e), "what %s points to: %v", name, err)
	}
	return s, through, nil
}

// source is an expression as it was typed.
func (r *reader) source(e ast.Expr) string {
	return strings.TrimSpace(r.spec.When[at(e):min(int(e.End())-1, len(r.spec.When))])
}

// field reads a field that is an integer or an address.
func (r *reader) field(e *ast.SelectorExpr) (number, error) {
	x, err := r.operand(e)
	switch {
	case err != nil:
		return number{}, err
	case x.Type == "bool":
		return number{}, r.errorf(at(e), "%s is true or false: write %[1]s or !%[1]s", r.source(e))
	case x.Chars:
		return number{}, r.errorf(at(e), "%s is text: compare it with a string, or write strlen(%[1]s)", r.source(e))
	case !castable(x.Type):
		return number{}, r.errorf(at(e), "%s is a %s, which cannot be compared", r.source(e), x.Written)
	}
	return number{x.text, x.Type}, nil
}

// textual reads x == "…" and x != "…"; ok is false for other comparisons.
func (r *reader) textual(e *ast.BinaryExpr) (text string, ok bool, err error) {
	x, literal := e.X, e.Y
	if isText(x) {
		x, literal = e.Y, e.X
	}
	if !isText(literal) {
		return "", false, nil
	}
	if e.Op != token.EQL && e.Op != token.NEQ {
		return "", true, r.errorf(int(e.OpPos)-1, "a string is compared by == and != alone")
	}
	want, err := r.literal(literal)
	if err != nil {
		return "", true, err
	}
	text, err = r.match(x, "Equal", want)
	if e.Op == token.NEQ {
		text = "!" + text
	}
	return text, true, err
}

func isText(e ast.Expr) bool {
	l, ok := e.(*ast.BasicLit)
	return ok && l.Kind == token.STRING
}

// literal is a string in Go.
func (r *reader) literal(e ast.Expr) (string, error) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", r.errorf(at(e), `not a string: write one such as "text"`)
	}
	s, err := strconv.Unquote(l.Value)
	if err != nil || len(s) > maxText {
		return "", r.errorf(at(e), "a string has at most %d bytes", maxText)
	}
	return strconv.Quote(s), nil
}

// textFunctions are what can be asked of text, as methods of libpie.Mem.
var textFunctions = map[string]string{"contains": "Contains", "prefix": "HasPrefix", "suffix": "HasSuffix"}

// textCall reads contains(x, "…") and its like.
func (r *reader) textCall(e *ast.CallExpr) (string, error) {
	name, ok := e.Fun.(*ast.Ident)
	if !ok || textFunctions[name.Name] == "" || len(e.Args) != 2 {
		return "", r.errorf(at(e), `not a comparison: write one such as 'i32(arg1) > 256', or contains(arg0, "text")`)
	}
	want, err := r.literal(e.Args[1])
	if err != nil {
		return "", err
	}
	return r.match(e.Args[0], textFunctions[name.Name], want)
}

// match asks method of the text that x is.
func (r *reader) match(x ast.Expr, method, want string) (string, error) {
	o, err := r.operand(x)
	if err != nil {
		return "", err
	}
	if o.Type == String {
		return fmt.Sprintf("c.Bytes(%[1]s.Ptr, %[1]s.Len).%[2]s(%[3]s)", o.text, method, want), nil
	}
	a, err := r.address(x, o)
	r.helpers[method] = true
	return fmt.Sprintf("text%s(c, %s, %s)", method, a, want), err
}

// address is where the characters are that x is, or points to.
func (r *reader) address(x ast.Expr, o operand) (string, error) {
	switch {
	case o.Chars:
		return "libpie.AddrOf(&" + o.text + ")", nil
	case o.Type == "addr":
		return o.text, nil
	case o.Type == "":
		return "libpie.Addr(" + o.text + ")", nil
	}
	return "", r.errorf(at(x), "%s is a %s and no text", r.source(x), o.Written)
}

// textLength reads strlen(x).
func (r *reader) textLength(x ast.Expr) (number, error) {
	o, err := r.operand(x)
	if err != nil {
		return number{}, err
	}
	a, err := r.address(x, o)
	r.helpers["Length"] = true
	return number{fmt.Sprintf("textLength(c, %s)", a), "i64"}, err
}

// helperText is what stands behind the guard where its condition looks at C strings.
func (r *reader) helperText() string {
	var b strings.Builder
	if r.helpers["Equal"] {
		b.WriteString(`
// textEqual reports whether the C string at a is s.
func textEqual(c *libpie.Call, a libpie.Addr, s string) bool {
	m, terminated := c.CStr(a, len(s)+1)
	return terminated && m.Equal(s)
}
`)
	}
	for _, method := range []string{"Contains", "HasPrefix", "HasSuffix"} {
		if r.helpers[method] {
			fmt.Fprintf(&b, `
// text%[1]s asks %[1]s of the first %[2]d bytes of the C string at a.
func text%[1]s(c *libpie.Call, a libpie.Addr, s string) bool {
	m, _ := c.CStr(a, %[2]d)
	return m.%[1]s(s)
}
`, method, scanned)
		}
	}
	if r.helpers["Length"] {
		fmt.Fprintf(&b, `
// textLength is the length of the C string at a, %d at most.
func textLength(c *libpie.Call, a libpie.Addr) int64 {
	m, _ := c.CStr(a, %[1]d)
	return int64(m.Len())
}
`, 1<<16)
	}
	return b.String()
}
