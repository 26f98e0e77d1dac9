package locate

import (
	"errors"
	"fmt"
	"strings"
)

// ErrOtherExe says that the process does not run the executable the query
// names.
var ErrOtherExe = errors.New("the process runs another executable")

// ErrAssembly says that a Go function is written in assembly: its arguments
// are on the stack (ABI0), where a guard does not look.
var ErrAssembly = errors.New("a Go function written in assembly, which cannot be guarded")

// NotFound says that a name is in none of the tables looked through.
type NotFound struct {
	Func  string   // the name asked for
	Image string   // where it was looked for, for people
	Near  []string // names like it, best first; at most nearMax
	// Libraries are the sonames of libraries of the process that do have it, where the
	// query did not look.
	Libraries []string
	// Servers is what kept debuginfod servers from answering; nil for nothing.
	Servers error
}

func (e *NotFound) Unwrap() error { return e.Servers }

func (e *NotFound) Error() string {
	msg := fmt.Sprintf("no function %s in %s", e.Func, e.Image)
	if len(e.Near) > 0 {
		msg += "; similar names: " + strings.Join(e.Near, ", ")
	}
	if e.Servers != nil {
		msg += "; " + e.Servers.Error()
	}
	return msg
}

// Ambiguous says that a name means several functions.
type Ambiguous struct {
	Func       string
	Candidates []Function // without Text
}

func (e *Ambiguous) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s means %d functions:", e.Func, len(e.Candidates))
	for _, f := range e.Candidates {
		fmt.Fprintf(&b, " %s at %v in %s (%s);", f.Name, f.Vaddr, f.Image.Path, f.How)
	}
	return strings.TrimSuffix(b.String(), ";")
}

// Indirect says that a name is an IFUNC: the symbol is a resolver that picks
// an implementation, and which one this process uses could not be told.
type Indirect struct {
	Func, Image string
	Why         string
}

func (e *Indirect) Error() string {
	return fmt.Sprintf("%s in %s is an indirect function (IFUNC) and %s", e.Func, e.Image, e.Why)
}

// NoLibrary says that no mapped image has the SONAME.
type NoLibrary struct {
	SOName string
	Mapped []string // the sonames that are mapped
}

func (e *NoLibrary) Error() string {
	return fmt.Sprintf("the process maps no library %s; it maps %s", e.SOName, strings.Join(e.Mapped, ", "))
}
