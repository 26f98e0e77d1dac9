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

// NamesAt returns the names of the function at an address, as Functions has them.
// A table that is malformed has none.
func (f *File) NamesAt(v address.Vaddr) []string {
	var fn Function
	add := func(syms []Symbol) {
		for i := range syms {
			if syms[i].Value == v && syms[i].IsFunc() {
				fn.merge(Function{Names: []string{syms[i].Full()}})
			}
		}
	}
	if syms, err := f.Symbols(); err == nil {
		add(syms)
	}
	if t, err := f.GoTable(); err == nil {
		for i := range t.Funcs {
			if t.Funcs[i].Entry == v {
				fn.merge(Function{Names: []string{t.Funcs[i].Name}})
			}
		}
	}
	if syms, err := f.DynSymbols(); err == nil {
		add(syms)
	}
	return fn.Names
}

// Bound is where a function is.
type Bound struct {
	Start    address.Vaddr
	Size     uint64 // bytes; 0 when no table has it
	Indirect bool   // an IFUNC: Start is its resolver
}

// Bounds is Functions without names, which costs a fraction.
func (f *File) Bounds() ([]Bound, error) {
	var all []Bound
	syms, err := f.Symbols()
	all = appendBounds(all, syms)
	if err == nil || errors.Is(err, ErrNoTable) {
		var g *GoTable
		if g, err = f.GoTable(); err == nil {
			for i := range g.Funcs {
				all = append(all, Bound{Start: g.Funcs[i].Entry, Size: g.Funcs[i].Size})
			}
		}
	}
	if err == nil || errors.Is(err, ErrNoTable) {
		syms, err = f.DynSymbols()
		all = appendBounds(all, syms)
	}
	var frames []Range
	if err == nil || errors.Is(err, ErrNoTable) {
		frames, err = f.Frames()
	}
	if err != nil && !errors.Is(err, ErrNoTable) {
		return nil, err
	}
	return mergeBounds(all, frames), nil
}

func appendBounds(all []Bound, syms []Symbol) []Bound {
	n := 0
	for i := range syms {
		if syms[i].IsFunc() {
			n++
		}
	}
	all = slices.Grow(all, n)
	for i := range syms {
		if s := &syms[i]; s.IsFunc() {
			all = append(all, Bound{s.Value, s.Size, s.IsIndirect()})
		}
	}
	return all
}

// mergeBounds puts the bounds of stronger tables, in their order, and the frames,
// which are sorted, together.
func mergeBounds(all []Bound, frames []Range) []Bound {
	all = inOrder(all)
	out := make([]Bound, 0, len(all)+len(frames))
	for len(all) > 0 || len(frames) > 0 {
		var b Bound
		if len(frames) == 0 || len(all) > 0 && all[0].Start <= frames[0].Start {
			b, all = all[0], all[1:]
		} else {
			b, frames = Bound{Start: frames[0].Start, Size: frames[0].Size}, frames[1:]
		}
		if n := len(out); n > 0 && out[n-1].Start == b.Start {
			out[n-1].Indirect = out[n-1].Indirect || b.Indirect
			if out[n-1].Size == 0 {
				out[n-1].Size = b.Size
			}
			continue
		}
		out = append(out, b)
	}
	return out
}

// inOrder sorts bounds by address; those of one address stay in their order.
func inOrder(all []Bound) []Bound {
	order := make([]int32, len(all))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(all[a].Start, all[b].Start), cmp.Compare(a, b)) })
	out := make([]Bound, len(all))
	for i, k := range order {
		out[i] = all[k]
	}
	return out
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
