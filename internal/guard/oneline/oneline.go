// Package oneline turns a guard typed on the command line into a prepatch in Go.
//
//	--func vuln --when 'i32(arg1) > 256' --reject -22
//
// becomes a source file like any other, which compile then reads: there is no
// second way into a process, and `pie check` shows exactly what will run.
//
// The condition is an expression of C's and Go's common part: comparisons joined
// by && and ||, over integer arithmetic on parameters and constants. It is
// parsed by go/parser and rebuilt from the operators allowed here, never pasted,
// so nothing but such an expression can reach the source.
//
// Parameters are arg0, arg1, … by position, or their names where debug
// information knows them. An argument register holds garbage above the declared
// width, so a parameter whose type is not known must say how it is to be read:
// i32(arg1), u64(arg1). len(s) is the length of a string or slice of Go, strlen(s) that
// of a C string; text is compared by ==, !=, contains, prefix and suffix. r->n and r.n
// are fields of what r points to, where debug information knows it: they are read through
// mirror structs in the same file, which are compared with every process's own.
package oneline

import (
	"crypto/sha256"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// Param is what debug information says of a parameter.
type Param struct {
	Name    string // empty when it has none
	Type    string // i8 … i64, u8 … u64, bool, addr, or one of those below; empty when it is not known
	Written string // the type as the program's source has it, for messages
	// Points returns the struct that an addr points to; nil when it points to
	// something else, or that is not known.
	Points func() (Fields, error)
}

// Types of parameters that are no integers.
const (
	Float     = "float"     // travels in vector registers
	Struct    = "struct"    // by value: how many words it takes is not known here
	String    = "string"    // of Go: two words
	Slice     = "slice"     // of Go: three words
	Absent    = "absent"    // the compiler left it out of the function
	Interface = "interface" // of Go: two words
	Void      = "void"      // as a result: none
	Single    = "single"    // as a result: a float of 32 bits
	Several   = "several"   // as a result: more than one, of Go
)

// called is the name of parameter i.
func (p Param) called(i int) string {
	if p.Name != "" {
		return p.Name
	}
	return fmt.Sprintf("arg%d", i)
}

// Spec is a guard as it was typed.
type Spec struct {
	Exe, Lib string // where the function is, as in a directive; one of them may be empty
	Func     string // the symbol
	When     string // the condition under which a call is rejected
	Reject   string // the value a rejected call returns, or "void"
	Params   []Param
	Go       bool   // the function is Go's: how it returns depends on what it returns
	Result   string // type of what the function returns: as Param.Type, or Void; empty when it is not known
	// Mirrors writes the Go structs of those whose fields the condition reads; nil
	// when no Param has Points.
	Mirrors func() ([]byte, error)
	Unknown string // why Params is empty, for messages: "no debug information for f"
}

// Error is what is wrong with the condition: Offset bytes into the text of the
// option that Option names.
type Error struct {
	Option string // --func, --when, --reject; --exe or --lib
	Text   string
	Offset int
	Msg    string
}

func (e *Error) Error() string {
	text := strconv.Quote(e.Text)
	if strings.Contains(e.Text, `"`) { // as it was typed, most likely
		text = "'" + e.Text + "'"
	}
	return fmt.Sprintf("%s, column %d of %s: %s", e.Option, e.Offset+1, text, e.Msg)
}

// Source returns the prepatch and its id. The id is made of the function's name
// and the content, so that the same guard is the same prepatch on every machine.
func Source(s Spec) (id string, text []byte, err error) {
	if err := s.checkNames(); err != nil {
		return "", nil, err
	}
	s.Go = s.Go || source.IsGoName(s.Func)
	condition, r, err := condition(s)
	if err != nil {
		return "", nil, err
	}
	verdict, err := s.verdict()
	if err != nil {
		return "", nil, err
	}
	hash := sha256.Sum256([]byte(strings.Join([]string{s.Exe, s.Lib, s.Func, condition, verdict}, "\x00")))
	id = fmt.Sprintf("%s-%x", identifier(s.Func), hash[:4])

	var b strings.Builder
	fmt.Fprintf(&b, "// Package prepatch rejects calls of %s.\npackage prepatch\n\n", identifier(s.Func))
	fmt.Fprintf(&b, "import \"github.com/patch-integration-engine/pie/libpie\"\n\n//pie:id %s\n\n", id)
	b.WriteString("// Guard was written by the options --func, --when and --reject.\n//\n//pie:guard")
	for _, attribute := range []struct{ key, value string }{{"exe", s.Exe}, {"lib", s.Lib}, {"func", s.Func}} {
		if attribute.value != "" {
			fmt.Fprintf(&b, " %s=%s", attribute.key, quoted(attribute.value))
		}
	}
	b.WriteString(" onfault=pass onfuel=pass\nfunc Guard(c *libpie.Call")
	for i := range r.args {
		if s.param(i).Type != Float {
			fmt.Fprintf(&b, ", arg%d %s", i, goType(s.param(i).Type))
		}
	}
	fmt.Fprintf(&b, ") libpie.Verdict {\n\tif %s {\n\t\treturn %s\n\t}\n\treturn libpie.Pass()\n}\n", condition, verdict)
	b.WriteString(r.helperText())
	if s.Mirrors != nil {
		structs, err := s.Mirrors()
		if err != nil {
			return "", nil, fmt.Errorf("the structs that --when reads: %w", err)
		}
		if len(structs) > 0 {
			fmt.Fprintf(&b, "\n%s", structs)
		}
	}
	return id, []byte(b.String()), nil
}

// checkNames refuses names that could end the line of a directive.
func (s Spec) checkNames() error {
	if s.Func == "" {
		return &Error{Option: "--func", Msg: "no function: name the one to guard"}
	}
	for _, name := range []struct{ option, text string }{{"--func", s.Func}, {"--exe", s.Exe}, {"--lib", s.Lib}} {
		bad := strings.IndexFunc(name.text, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
		if bad >= 0 {
			return &Error{Option: name.option, Text: name.text, Offset: bad, Msg: "not a printable character"}
		}
	}
	return nil
}

func (s Spec) param(i int) Param {
	if i < len(s.Params) {
		return s.Params[i]
	}
	return Param{}
}

// verdict is the Go expression for the value of --reject. An integer is widened
// to the whole register: the caller looks at as much of it as its type has.
func (s Spec) verdict() (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", &Error{Option: "--reject", Text: s.Reject, Msg: fmt.Sprintf(format, args...)}
	}
	switch {
	case s.Go && s.Result == "":
		return refuse("what the Go function %s returns is not known%s: write a prepatch file, with libpie.RejectGo", s.Func, s.why())
	case s.Result == Several, s.Result == String, s.Result == Slice, s.Go && s.Result == Float:
		return refuse("%s returns more than one word: write a prepatch file, with libpie.RejectGo", s.Func)
	case s.Result == Interface:
		if !goName().MatchString(s.Reject) {
			return refuse("%s returns an error: write the full name of an error variable of the program, such as io.EOF", s.Func)
		}
		return fmt.Sprintf("libpie.RejectGo(libpie.GoVar(%q))", s.Reject), nil
	case s.Result == Struct:
		return refuse("%s returns a struct by value, which cannot be made up", s.Func)
	case s.Reject == Void && s.Result != "" && s.Result != Void:
		return refuse("%s returns a value (%s): write the one it returns when it fails", s.Func, s.Result)
	case s.Reject == Void:
		return "libpie.RejectVoid()", nil
	case s.Result == Void:
		return refuse(`%s returns nothing: write "void"`, s.Func)
	}
	if s.Result == Float || s.Result == Single {
		f, err := strconv.ParseFloat(s.Reject, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return refuse("%s returns a floating-point number: write one such as -1.0", s.Func)
		}
		if s.Result == Single {
			return fmt.Sprintf("libpie.RejectFloat32(%s)", strconv.FormatFloat(f, 'g', -1, 32)), nil
		}
		return fmt.Sprintf("libpie.RejectFloat(%s)", strconv.FormatFloat(f, 'g', -1, 64)), nil
	}
	switch word := s.Reject; {
	case s.Result == "bool" && (word == "true" || word == "false"):
		return fmt.Sprintf("libpie.Reject(%s)", word), nil
	case s.Result == "addr" && (word == "null" || word == "NULL"):
		return "libpie.RejectPtr(0)", nil
	}
	if n, err := strconv.ParseInt(s.Reject, 0, 64); err == nil {
		if least, most := s.range64(); n < least || n > most {
			return refuse("%s returns a value of type %s, which is %d to %d", s.Func, s.Result, least, most)
		}
		return fmt.Sprintf("libpie.Reject(int64(%d))", n), nil
	}
	if n, err := strconv.ParseUint(s.Reject, 0, 64); err == nil {
		if _, most := s.range64(); most < math.MaxInt64 {
			return refuse("%s returns a value of type %s, which is at most %d", s.Func, s.Result, most)
		}
		return fmt.Sprintf("libpie.Reject(uint64(%#x))", n), nil
	}
	if strings.HasPrefix(s.Reject, "errno:") {
		return refuse("errno is set by a prepatch file, with libpie.RejectErrno")
	}
	return refuse(`not a value to return: write an integer such as -1 (0 is a null pointer), or "void"`)
}

// range64 is what an integer that the function returns can be written as: -1 is
// also that of an unsigned type, and 0xffffffff that of a signed one.
func (s Spec) range64() (least, most int64) {
	switch s.Result {
	case "i8", "u8":
		return math.MinInt8, math.MaxUint8
	case "i16", "u16":
		return math.MinInt16, math.MaxUint16
	case "i32", "u32":
		return math.MinInt32, math.MaxUint32
	case "bool":
		return 0, 1
	}
	return math.MinInt64, math.MaxInt64
}

// goName is the full name of a variable of a Go program.
var goName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*\.[A-Za-z_][A-Za-z0-9_]*$`) })

// why says why parameters and results are not known, if they are not.
func (s Spec) why() string {
	if s.Unknown == "" {
		return ""
	}
	return " (" + s.Unknown + ")"
}

// quoted puts a directive's value in quotes where it needs them.
func quoted(value string) string {
	if strings.ContainsAny(value, " \t\"") {
		return strconv.Quote(value)
	}
	return value
}

// identifier keeps of a symbol what may stand in an id and a comment.
func identifier(symbol string) string {
	kept := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '-'
	}, symbol)
	return strings.Trim(kept[max(0, len(kept)-40):], "-")
}
