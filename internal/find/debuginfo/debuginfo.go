// Package debuginfo reads what DWARF says about one function of a file: its
// parameters, the structs it sees, where it was inlined.
//
// DWARF comes with the program and may be made to hurt. Sections are bounded
// before they are decompressed, the standard library parses entries, and types
// are followed here, a bounded number of steps: its own type reader would build
// a whole graph. Only the compilation unit of the function is read where that
// is enough, since a unit says what the function itself was compiled with and
// the rest of a large program would cost a second.
package debuginfo

import (
	"debug/dwarf"
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// Bounds.
const (
	maxSection = 512 << 20 // bytes of one DWARF section
	maxAll     = 1 << 30   // bytes of all that are read: a small file may be compressed
	maxEntries = 8 << 20   // entries looked at in one question
	maxTypes   = 32        // steps from a type through typedefs and qualifiers
	maxParams  = 64
)

// ErrNone says that the file has no DWARF, or none for this function.
var ErrNone = errors.New("no debug information")

// Info is the debug information of a file.
type Info struct {
	data *dwarf.Data
	left int // entries that may still be read
	// second: a part of it is in another file, which was not read.
	second bool
	// last is the function that was asked about last, and its entry: whoever asks one thing
	// about a function asks others, and to find it takes a walk through its unit.
	last struct {
		at    address.Vaddr
		entry dwarf.Offset
	}
}

// Open reads the DWARF sections of a file; ErrNone when it has none.
func Open(f *binfile.File) (*Info, error) { return openWithin(f, maxAll) }

// openWithin reads at most so many bytes of sections.
func openWithin(f *binfile.File, most uint64) (*Info, error) {
	s := sections{f: f, most: most}
	abbrev, info := s.read(".debug_abbrev"), s.read(".debug_info")
	if s.missing != nil {
		return nil, s.missing
	}
	if len(abbrev) == 0 || len(info) == 0 {
		return nil, ErrNone
	}
	return openWith(f, abbrev, info, s.most)
}

// openWith reads the other sections, at most so many bytes of them.
func openWith(f *binfile.File, abbrev, info []byte, most uint64) (*Info, error) {
	s := sections{f: f, most: most}
	data, err := dwarf.New(abbrev, nil, nil, info, nil, nil, s.read(".debug_ranges"), s.read(".debug_str"))
	if err != nil {
		return nil, fmt.Errorf("DWARF: %w", err)
	}
	for _, name := range []string{".debug_addr", ".debug_line_str", ".debug_str_offsets", ".debug_rnglists"} {
		if b := s.read(name); b != nil {
			if err := data.AddSection(name, b); err != nil {
				return nil, fmt.Errorf("DWARF: %w", err)
			}
		}
	}
	if s.missing != nil {
		return nil, s.missing
	}
	return &Info{data: data, left: maxEntries, second: len(s.read(".gnu_debugaltlink")) > 0}, nil
}

// sections reads sections within a bound.
type sections struct {
	f       *binfile.File
	most    uint64 // bytes that may still be read
	missing error  // why one that is there could not be read
}

func (s *sections) read(name string) []byte {
	b, err := s.f.DebugSection(name, min(maxSection, s.most))
	if err != nil && !errors.Is(err, binfile.ErrNoTable) {
		s.missing = err
	}
	s.most -= uint64(len(b))
	return b
}

// Param is a parameter of a function, as it was written.
type Param struct {
	Name string
	Type Type
	// Absent says that the parameter is not where its declaration puts it: the
	// compiler left it, or one in front of it, out of a function that only its
	// own unit calls.
	Absent bool

	at dwarf.Offset
}

// Params returns the parameters of the function that starts at v, in order.
// ErrNone when DWARF does not describe it.
func Params(f *binfile.File, v address.Vaddr) ([]Param, error) {
	fn, err := At(f, v)
	if err != nil {
		return nil, err
	}
	return fn.Params()
}

// Params is Params of a file that is open.
func (i *Info) Params(v address.Vaddr) ([]Param, error) {
	r, fn, err := i.written(v)
	if err != nil {
		return nil, err
	}
	params, err := i.parameters(r, fn, false)
	if err != nil {
		return nil, err
	}
	return params, i.markAbsent(v, params)
}

// markAbsent compares the parameters as written with those of the compiled
// function. There a parameter without a location is missing, and a clone has the
// ones that it lost behind the others.
func (i *Info) markAbsent(v address.Vaddr, params []Param) error {
	r, fn, err := i.function(v)
	if err != nil || fn == nil || !fn.Children {
		return err
	}
	moved := false
	for k := 0; k < len(params); {
		e, err := i.next(r)
		if err != nil || e == nil || e.Tag == 0 {
			return err
		}
		if result, _ := e.Val(dwarf.AttrVarParam).(bool); e.Tag == dwarf.TagFormalParameter && !result {
			origin, instance := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
			moved = moved || instance && origin != params[k].at
			params[k].Absent = moved || e.Val(dwarf.AttrLocation) == nil
			k++
		}
		r.SkipChildren()
	}
	return nil
}

// GoResults returns the results of the Go function that starts at v, in order.
func (i *Info) GoResults(v address.Vaddr) ([]Param, error) {
	r, fn, err := i.written(v)
	if err != nil {
		return nil, err
	}
	return i.parameters(r, fn, true)
}

// parameters reads those that stand behind fn. Go has its results among them,
// marked as variable parameters.
func (i *Info) parameters(r *dwarf.Reader, fn *dwarf.Entry, results bool) ([]Param, error) {
	var out []Param
	if fn == nil || !fn.Children {
		return nil, nil
	}
	for len(out) < maxParams {
		e, err := i.next(r)
		if err != nil {
			return nil, err
		}
		if e == nil || e.Tag == 0 {
			break
		}
		if result, _ := e.Val(dwarf.AttrVarParam).(bool); e.Tag == dwarf.TagFormalParameter && result == results {
			p := Param{at: e.Offset}
			if p.Name, err = nameIn(e); err != nil {
				return nil, err
			}
			if p.Type, err = i.typeOf(e); err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		r.SkipChildren()
	}
	return out, nil
}

// Result returns what the function that starts at v returns; a Type of kind Void
// for nothing. A method of C++ has it with the declaration in its class. A Go
// function looks as if it had none: see GoResults.
func (i *Info) Result(v address.Vaddr) (Type, error) {
	r, fn, err := i.written(v)
	if err != nil || fn == nil {
		return Type{Size: -1}, err
	}
	declared, ok, err := reference(fn, dwarf.AttrSpecification)
	if err != nil {
		return Type{Size: -1}, err
	}
	if ok && fn.Val(dwarf.AttrType) == nil {
		r.Seek(declared)
		if fn, err = i.next(r); err != nil || fn == nil {
			return Type{Size: -1}, err
		}
	}
	return i.typeOf(fn)
}

// written returns the entry that has the types and names of the function that
// starts at v, and a reader that stands behind it: for an out-of-line copy of an
// inline function, those of the abstract one.
func (i *Info) written(v address.Vaddr) (*dwarf.Reader, *dwarf.Entry, error) {
	r, fn, err := i.function(v)
	if err != nil {
		return nil, nil, err
	}
	origin, ok, err := reference(fn, dwarf.AttrAbstractOrigin)
	if err != nil {
		return nil, nil, err
	}
	if ok {
		r.Seek(origin)
		if fn, err = i.next(r); err != nil {
			return nil, nil, err
		}
	}
	return r, fn, nil
}

// function returns the entry of the function that starts at v, and a reader
// that stands behind it.
func (i *Info) function(v address.Vaddr) (*dwarf.Reader, *dwarf.Entry, error) {
	if i.last.entry != 0 && i.last.at == v {
		r := i.data.Reader()
		r.Seek(i.last.entry)
		e, err := i.next(r)
		return r, e, err
	}
	r, _, err := i.unit(v)
	if err != nil {
		return nil, nil, err
	}
	for {
		e, err := i.next(r)
		if err != nil {
			return nil, nil, err
		}
		if e == nil || e.Tag == dwarf.TagCompileUnit {
			return nil, nil, fmt.Errorf("the function at %v: %w", v, ErrNone)
		}
		if e.Tag == dwarf.TagSubprogram && i.startsAt(e, v) {
			i.last.at, i.last.entry = v, e.Offset
			return r, e, nil
		}
		if e.Tag != dwarf.TagNamespace && e.Tag != dwarf.TagStructType && e.Tag != dwarf.TagClassType {
			r.SkipChildren()
		}
	}
}

// startsAt reports whether a function's entry is at v. One whose cold part lies
// elsewhere has ranges instead of a start; the first of them begins with the entry.
func (i *Info) startsAt(e *dwarf.Entry, v address.Vaddr) bool {
	if low, ok := e.Val(dwarf.AttrLowpc).(uint64); ok {
		return low == uint64(v)
	}
	if e.Val(dwarf.AttrRanges) == nil {
		return false
	}
	ranges, err := i.data.Ranges(e)
	return err == nil && len(ranges) > 0 && ranges[0][0] == uint64(v)
}

// unit returns the compilation unit of an address and a reader that stands
// behind its entry.
func (i *Info) unit(v address.Vaddr) (*dwarf.Reader, *dwarf.Entry, error) {
	r := i.data.Reader()
	cu, err := r.SeekPC(uint64(v))
	if errors.Is(err, dwarf.ErrUnknownPC) {
		return nil, nil, fmt.Errorf("the code at %v: %w", v, ErrNone)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("DWARF: %w", err)
	}
	if isAssembler(cu) {
		return nil, nil, fmt.Errorf("the code at %v is written in assembler: %w", v, ErrNone)
	}
	return r, cu, nil
}

// isAssembler reports whether a unit was made by an assembler. It names its
// functions and says nothing true of what they take and return. GNU as marks it
// with DW_LANG_Mips_Assembler (DWARF 5 has no other), DWARF 6 has a code of its own.
func isAssembler(unit *dwarf.Entry) bool {
	lang, _ := unit.Val(dwarf.AttrLanguage).(int64)
	return lang == 0x8001 || lang == 0x0031
}

var errTooMuch = errors.New("DWARF: more entries than are looked at")

// next returns the next entry, nil at the end.
func (i *Info) next(r *dwarf.Reader) (*dwarf.Entry, error) {
	if i.left--; i.left < 0 {
		return nil, errTooMuch
	}
	e, err := r.Next()
	if err != nil {
		return nil, fmt.Errorf("DWARF: %w", err)
	}
	return e, nil
}

// Inlined returns where the function that starts at v was inlined in its own
// compilation unit: there a guard at its entry does not see the call.
func (i *Info) Inlined(v address.Vaddr) ([]Copy, error) {
	_, fn, err := i.function(v)
	if err != nil {
		return nil, err
	}
	origin, ok, err := reference(fn, dwarf.AttrAbstractOrigin)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, nil // never inlined: there is no abstract instance
	}
	r, _, err := i.unit(v)
	if err != nil {
		return nil, err
	}
	var out []Copy
	in := ""
	for {
		e, err := i.next(r)
		if err != nil {
			return nil, err
		}
		if e == nil || e.Tag == dwarf.TagCompileUnit {
			return out, nil
		}
		switch e.Tag {
		case dwarf.TagSubprogram:
			if in, err = i.nameOf(e); err != nil {
				return nil, err
			}
		case dwarf.TagInlinedSubroutine:
			if o, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset); ok && o == origin {
				c := Copy{In: in}
				if ranges, err := i.data.Ranges(e); err == nil && len(ranges) > 0 {
					c.At = address.Vaddr(slices.MinFunc(ranges, func(a, b [2]uint64) int { return int(min(max(int64(a[0]-b[0]), -1), 1)) })[0])
				}
				out = append(out, c)
			}
		}
	}
}

// Copy is one place a function was inlined.
type Copy struct {
	In string        // the function it is part of
	At address.Vaddr // its lowest address
}

// nameOf returns an entry's name, or that of the abstract one it is an
// instance of.
func (i *Info) nameOf(e *dwarf.Entry) (string, error) {
	for range 4 {
		if name, ok := e.Val(dwarf.AttrName).(string); ok {
			return name, nil
		}
		off, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
		if !ok {
			if off, ok = e.Val(dwarf.AttrSpecification).(dwarf.Offset); !ok {
				return "", nil
			}
		}
		r := i.data.Reader()
		r.Seek(off)
		next, err := i.next(r)
		if err != nil || next == nil {
			return "", err
		}
		e = next
	}
	return "", nil
}
