package compile

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/token"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// Prepatch is a compiled prepatch. Guards hides the guards of the source: each
// compiled guard holds its own.
type Prepatch struct {
	*source.Prepatch
	Hash   [32]byte // what Hash says of the files
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

// maxErrors bounds what a hostile file can make us print.
const maxErrors = 20

// Compile compiles every guard of p, whose files are given by name. Errors are
// *Error, joined, in the order of the files.
func Compile(p *source.Prepatch, files map[string][]byte) (*Prepatch, error) {
	m, errs := load(files)
	if errs != nil {
		return nil, join(errs)
	}
	if at, given := p.At["shared"]; given && len(m.objects) == 0 {
		errs = append(errs, &Error{Pos: at, Msg: "//pie:shared has no effect: the prepatch has no state", Instead: "remove the line"})
	}
	errs = append(errs, m.addInside(p)...)
	out := &Prepatch{Prepatch: p, Hash: Hash(files)}
	for _, g := range p.Guards {
		c, err := m.guard(p, g)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out.Guards = append(out.Guards, *c)
	}
	if errs == nil {
		errs = m.unused(p)
	}
	if errs != nil {
		return nil, join(errs)
	}
	return out, nil
}

// unused refuses capabilities that no guard needs: the operator would be shown
// what does not happen.
func (m *module) unused(p *source.Prepatch) (errs []*Error) {
	for _, name := range p.Caps {
		if c := bpf.CapNamed(name); c != 0 && m.used&c == 0 {
			errs = append(errs, &Error{Pos: p.At["cap"], Msg: "//pie:cap " + name + " has no effect: no guard of the prepatch uses it", Instead: "leave " + name + " out"})
		}
	}
	return errs
}

// join sorts errors by place, drops repetitions and bounds their number.
func join(errs []*Error) error {
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), a.Pos.Line-b.Pos.Line, a.Pos.Col-b.Pos.Col)
	})
	errs = slices.CompactFunc(errs, func(a, b *Error) bool { return *a == *b })
	var all []error
	for _, e := range errs[:min(len(errs), maxErrors)] {
		all = append(all, e)
	}
	return errors.Join(all...)
}

// Hash identifies the content of a prepatch: SHA-256 over the base names and
// contents of its files, wherever they lie, so that what was inserted from one
// place is known again from another. What a single file is called does not matter:
// a guard typed as one line is the same when it was saved to a file.
func Hash(files map[string][]byte) [32]byte {
	h := sha256.New()
	byBase := func(a, b string) int {
		return cmp.Or(strings.Compare(path.Base(a), path.Base(b)), strings.Compare(a, b))
	}
	for _, name := range slices.SortedFunc(maps.Keys(files), byBase) {
		base := path.Base(name)
		if len(files) == 1 {
			base = "guard.go"
		}
		fmt.Fprintf(h, "%d:%s%d:", len(base), base, len(files[name]))
		h.Write(files[name])
	}
	return [32]byte(h.Sum(nil))
}

// place returns where pos is; line directives in the source have no say.
func (m *module) place(pos token.Pos) bpf.Pos {
	p := m.fset.PositionFor(pos, false)
	return bpf.Pos{File: p.Filename, Line: p.Line, Col: p.Column}
}
