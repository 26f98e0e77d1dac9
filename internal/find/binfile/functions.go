package binfile

import (
	"cmp"
	"errors"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Function is a function of a file by all its tables together.
type Function struct {
	Start address.Vaddr
	Size  uint64 // bytes; 0 when no table has it
	// Names are all names of the address, the most telling first; a function
	// that only .eh_frame knows has none.
	Names []string
	// From is the table that knows most of it: ".symtab", ".gopclntab", ".dynsym"
	// or ".eh_frame".
	From string
	// Indirect is set for an IFUNC: Start is its resolver.
	Indirect bool
}

// Functions returns every function that .symtab, .gopclntab, .dynsym or
// .eh_frame knows, ascending by address. A table that is malformed is an
// error.
func (f *File) Functions() ([]Function, error) {
	var all []Function
	for _, add := range []func() ([]Function, error){f.fromSymbols, f.fromGoTable, f.fromDynSymbols, f.fromFrames} {
		part, err := add()
		if err != nil && !errors.Is(err, ErrNoTable) {
			return nil, err
		}
		all = append(all, part...)
	}
	slices.SortStableFunc(all, func(a, b Function) int { return cmp.Compare(a.Start, b.Start) })
	out := all[:0]
	for _, fn := range all {
		if len(out) == 0 || out[len(out)-1].Start != fn.Start {
			out = append(out, fn)
			continue
		}
		out[len(out)-1].merge(fn)
	}
	return out, nil
}

// merge adds what a weaker table, or another symbol, knows of the address.
func (fn *Function) merge(o Function) {
	if fn.Size == 0 {
		fn.Size = o.Size
	}
	fn.Indirect = fn.Indirect || o.Indirect
	for _, name := range o.Names {
		if !slices.Contains(fn.Names, name) {
			fn.Names = append(fn.Names, name)
		}
	}
}

func (f *File) fromSymbols() ([]Function, error) {
	syms, err := f.Symbols()
	return ofSymbols(syms, ".symtab"), err
}

func (f *File) fromDynSymbols() ([]Function, error) {
	syms, err := f.DynSymbols()
	return ofSymbols(syms, ".dynsym"), err
}

func ofSymbols(syms []Symbol, from string) []Function {
	var out []Function
	for i := range syms {
		if s := &syms[i]; s.IsFunc() {
			out = append(out, Function{Start: s.Value, Size: s.Size, Names: []string{s.Full()}, From: from, Indirect: s.IsIndirect()})
		}
	}
	return out
}

func (f *File) fromGoTable() ([]Function, error) {
	t, err := f.GoTable()
	if err != nil {
		return nil, err
	}
	var out []Function
	for i := range t.Funcs {
		g := &t.Funcs[i]
		out = append(out, Function{Start: g.Entry, Size: g.Size, Names: []string{g.Name}, From: ".gopclntab"})
	}
	return out, nil
}

func (f *File) fromFrames() ([]Function, error) {
	frames, err := f.Frames()
	if err != nil {
		return nil, err
	}
	var out []Function
	for _, r := range frames {
		out = append(out, Function{Start: r.Start, Size: r.Size, From: ".eh_frame"})
	}
	return out, nil
}
