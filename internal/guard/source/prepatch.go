package source

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Limits of one prepatch.
const (
	MaxSize   = 256 << 10 // bytes of source, all files together
	MaxGuards = 64
	MaxID     = 47 // bytes of an id: what a guarded process has room for
)

// RecorderPrefix begins the ids of what pie record puts into processes in place of a
// prepatch's guards. No prepatch has such an id.
const RecorderPrefix = "record-"

// Prepatch is what the directives of one prepatch say.
type Prepatch struct {
	ID       string             // unique name: CVE-2024-31228
	Fixed    string             // the version that has the vendor's fix
	Expires  time.Time          // the day from which it should not be used; zero: never
	Caps     []string           // capabilities beyond looking and rejecting: write, rewrite, call
	Refs     []string           // where to read more
	Evidence Evidence           // what a recording of calls may hold
	Shared   bool               // state is shared between the processes of the target
	At       map[string]bpf.Pos // where each of these directives stands, by its name: id, fixed …
	Guards   []Guard            // in the order of the files' names and of their lines
}

// Guard is what the directive of one guard says.
type Guard struct {
	Name        string // of the guard's Go function
	Exe         string // path or file name of the executable; narrows the process when Lib is set; empty: any program
	Lib         string // soname of the library the function is in; empty: in the executable, and if Exe is empty too, in whatever image has it
	Func        string // symbol of the guarded function
	Fingerprint string // .pf file beside the prepatch; may be empty
	ABI         ABI
	OnFault     Action // the verdict when memory cannot be read, or Go would panic
	OnFuel      Action // the verdict when the guard ran too long
	Pos         bpf.Pos
}

// ABI is how the guarded function takes its arguments.
type ABI uint8

// ABIs.
const (
	SysV       ABI = iota // C, C++, Rust, cgo: six words in registers, the others on the stack
	GoInternal            // Go's ABIInternal: nine words in registers
)

// Evidence is what may leave the process in a recording of calls.
type Evidence uint8

// Evidence, from //pie:evidence.
const (
	EvidenceArgs   Evidence = iota // argument words, also without a directive
	EvidenceNone                   // nothing: calls are not recorded
	EvidenceMemory                 // and every byte that the guard reads
)

var evidenceNames = map[string]Evidence{"args": EvidenceArgs, "none": EvidenceNone, "memory": EvidenceMemory}

// Error is a wrong directive, or a file that is not Go.
type Error struct {
	Pos bpf.Pos
	Msg string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.Pos.File, e.Pos.Line, e.Pos.Col, e.Msg)
}

// Parse reads the directives of a prepatch of one file. Errors are *Error,
// joined.
func Parse(name string, src []byte) (*Prepatch, error) {
	return ParseFiles(map[string][]byte{name: src})
}

// ParseFiles reads the directives of a prepatch: the Go files of one package, by
// name, tests left out. Errors are *Error, joined.
func ParseFiles(files map[string][]byte) (*Prepatch, error) {
	r := reader{fset: token.NewFileSet(), guarded: map[*ast.FuncDecl]bool{}, p: Prepatch{At: map[string]bpf.Pos{}}}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if size += len(files[name]); size > MaxSize {
			return nil, &Error{bpf.Pos{File: name, Line: 1, Col: 1}, fmt.Sprintf("the prepatch is larger than %d KiB", MaxSize>>10)}
		}
		r.file(name, files[name])
	}
	if len(files) > 0 {
		r.complete(slices.Sorted(maps.Keys(files))[0])
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return &r.p, nil
}

// reader collects directives and errors over the files of a prepatch.
type reader struct {
	fset    *token.FileSet
	p       Prepatch
	guarded map[*ast.FuncDecl]bool // functions that have a //pie:guard
	errs    []error
}

// maxErrors bounds what a hostile file can make us print.
const maxErrors = 20

func (r *reader) errorf(pos bpf.Pos, format string, args ...any) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, &Error{pos, fmt.Sprintf(format, args...)})
	}
}

func (r *reader) file(name string, src []byte) {
	f, err := parser.ParseFile(r.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		r.syntax(name, err)
		return
	}
	docs := map[*ast.CommentGroup]*ast.FuncDecl{}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Doc != nil {
			docs[fn.Doc] = fn
		}
	}
	for _, g := range f.Comments {
		for _, c := range g.List {
			r.comment(name, c, docs[g], enclosed(f, c.Pos()))
		}
	}
}

// syntax reports the first errors of go/parser.
func (r *reader) syntax(name string, err error) {
	var list scanner.ErrorList
	if !errors.As(err, &list) {
		r.errorf(bpf.Pos{File: name, Line: 1, Col: 1}, "not a Go file: %v", err)
		return
	}
	for _, e := range list {
		r.errorf(bpf.Pos{File: name, Line: e.Pos.Line, Col: e.Pos.Column}, "%s", printable(e.Msg))
	}
}

// enclosed reports whether pos is inside a function's body.
func enclosed(f *ast.File, pos token.Pos) bool {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil && fn.Body.Pos() < pos && pos < fn.Body.End() {
			return true
		}
	}
	return false
}

// comment reads c if it is a directive; fn is the function it documents, if any.
func (r *reader) comment(name string, c *ast.Comment, fn *ast.FuncDecl, inBody bool) {
	at := r.fset.PositionFor(c.Pos(), false)
	pos := bpf.Pos{File: name, Line: at.Line, Col: at.Column}
	text, ok := strings.CutPrefix(c.Text, "//pie:")
	if !ok {
		if strings.HasPrefix(strings.TrimLeft(strings.TrimPrefix(c.Text, "//"), " \t"), "pie:") {
			r.errorf(pos, "this is not read as a directive; write //pie: without a space")
		}
		return
	}
	pos.Col += len("//pie:")
	key, rest := text, ""
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		key, rest = text[:i], text[i+1:]
	}
	switch fields, err := split(rest, pos.Col+len(key)+1); {
	case inBody:
		r.errorf(pos, "a directive cannot stand inside a function; put //pie:guard directly above the guard, the others at the top of the file")
	case err != nil:
		r.errorf(bpf.Pos{File: name, Line: pos.Line, Col: err.col}, "%s", err.msg)
	case key == "guard":
		r.guard(pos, fields, fn)
	case fn != nil:
		r.errorf(pos, "only //pie:guard can stand on a function; put //pie:%s at the top of the file", printable(key))
	default:
		r.fileLevel(pos, key, fields)
	}
}

// complete checks what only all files together can show.
func (r *reader) complete(first string) {
	top := bpf.Pos{File: first, Line: 1, Col: 1}
	if len(r.errs) > 0 {
		return // what is missing may be in the lines refused
	}
	if r.p.ID == "" {
		r.errorf(top, "the prepatch has no id; write //pie:id CVE-YYYY-NNNN at the top of the file")
	}
	if len(r.p.Guards) == 0 {
		r.errorf(top, "the prepatch has no guard; write //pie:guard exe=NAME func=NAME onfault=… onfuel=… above a function")
	}
	if len(r.p.Guards) > MaxGuards {
		r.errorf(r.p.Guards[MaxGuards].Pos, "a prepatch has at most %d guards", MaxGuards)
	}
}
