package binfile

import (
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// GoTable is .gopclntab: the functions of a Go program, which are there also
// when it was linked with -s -w.
type GoTable struct {
	Funcs []GoFunc // by Entry, ascending
}

// GoFunc is one function of a GoTable.
type GoFunc struct {
	Name  string
	Entry address.Vaddr
	Size  uint64 // bytes of code, without padding
	// Assembly is set for functions written in assembly, whose arguments are on
	// the stack (ABI0).
	Assembly bool
}

// At returns the function that starts at v, or nil.
func (t *GoTable) At(v address.Vaddr) *GoFunc {
	i, ok := slices.BinarySearchFunc(t.Funcs, v, func(g GoFunc, v address.Vaddr) int {
		switch {
		case g.Entry < v:
			return -1
		case g.Entry > v:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &t.Funcs[i]
}

// GoTable returns the Go function table, or ErrNoTable.
func (f *File) GoTable() (*GoTable, error) { return f.goFuncs() }

func (f *File) readGoTable() (*GoTable, error) { return nil, ErrNoTable }
