package compile

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// Prepatch is a compiled prepatch. Guards hides the guards of the source: each
// compiled guard holds its own.
type Prepatch struct {
	*source.Prepatch
	Hash   [32]byte // SHA-256 over the names and contents of the files
	Guards []Guard
}

// Guard is one guard in bytecode.
type Guard struct {
	source.Guard
	Unit    *bpf.Unit
	Params  []Param  // of the guard, without the *libpie.Call
	Mirrors []Mirror // the structs of the target that the guard reads
}

// Param is one parameter of the guarded function, as the guard declares it.
type Param struct {
	Name  string
	Type  string // Go syntax, without package names: int32, *Request
	Word  int    // the first argument word
	Words int
}

// Mirror is a struct of the target as the prepatch declares it, to be compared
// with the target's own debug information.
type Mirror struct {
	Name   string
	Size   int64
	Fields []Field
}

// Field is one field of a Mirror, offset and size in bytes.
type Field struct {
	Name         string
	Offset, Size int64
}

// Error is a prepatch that does not type-check or leaves the subset.
type Error struct {
	Pos     bpf.Pos
	Msg     string // what is wrong, and why
	Instead string // what to write instead; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.Pos.File, e.Pos.Line, e.Pos.Col, e.Msg)
	if e.Instead != "" {
		s += "; " + e.Instead
	}
	return s
}

// Compile compiles every guard of p, whose files are given by name. Errors are
// *Error, joined.
func Compile(p *source.Prepatch, files map[string][]byte) (*Prepatch, error) {
	return nil, &Error{Msg: "the compiler is not built yet"}
}
