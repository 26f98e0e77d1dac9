package locate

import (
	"debug/elf"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// ErrThreadLocal says that a variable is thread-local and so has no one address.
var ErrThreadLocal = errors.New("a thread-local variable has no single address")

// NoSymbol says that a variable a guard refers to is in none of the tables.
type NoSymbol struct {
	Name string
	Why  string
}

func (e *NoSymbol) Error() string {
	return fmt.Sprintf("no variable %s: %s", e.Name, e.Why)
}

// Symbol opens the images of a process and finds a symbol; see Set.Symbol. im
// is an image of the same process, from Images or Find.
func Symbol(p Target, im *Image, sym bpf.Symbol) (address.Addr, error) {
	set, err := Images(p)
	if err != nil {
		return 0, err
	}
	defer set.Close()
	for _, own := range set.Images {
		if own.Path == im.Path && own.Bias == im.Bias {
			return set.Symbol(own, sym)
		}
	}
	return 0, fmt.Errorf("%s is no longer mapped: %w", im.Path, ErrNoText)
}

// Symbol returns where a symbol that a guard in image im refers to is in the
// process: in im first, then in the executable, then in the libraries as they
// are mapped. A name that means several places in one image is an error.
func (s *Set) Symbol(im *Image, sym bpf.Symbol) (address.Addr, error) {
	for _, in := range s.scope(im) {
		var a address.Addr
		var err error
		switch sym.Kind {
		case bpf.SymbolFunc:
			a, err = s.function(in, sym.Name, false)
		case bpf.SymbolFuncEnd:
			a, err = s.function(in, sym.Name, true)
		case bpf.SymbolData:
			a, err = s.data(in, sym.Name)
		case bpf.SymbolGoError:
			a, err = s.goError(in, sym.Name)
		default:
			return 0, fmt.Errorf("symbol %s is of an unknown kind %d", sym.Name, sym.Kind)
		}
		if !absent(err) {
			return a, err
		}
	}
	if sym.Kind == bpf.SymbolGoError {
		return 0, &NoSymbol{sym.Name, "not in .symtab, and not one of those that are found in stripped Go programs: " + strings.Join(knownGoErrors(), ", ")}
	}
	return 0, &NoSymbol{sym.Name, "not in the symbol tables of the program and its libraries"}
}

// absent tells whether an error only says that this image has no such name.
func absent(err error) bool {
	var f *NotFound
	var v *NoSymbol
	return errors.As(err, &f) || errors.As(err, &v)
}

// scope returns the images to search, each once.
func (s *Set) scope(im *Image) []*Image {
	out := []*Image{im}
	for _, o := range s.Images {
		if o != im {
			out = append(out, o)
		}
	}
	return out
}

// function finds a function's first byte, or the one behind its last.
func (s *Set) function(im *Image, name string, end bool) (address.Addr, error) {
	t, err := s.tables(im)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", im.Path, err)
	}
	c, _, err := s.pick(im, &t, parseName(name))
	if err != nil {
		return 0, err
	}
	at := c.vaddr.Addr(im.Bias)
	if !end {
		return at, nil
	}
	if c.size == 0 || c.size > math.MaxInt32 {
		return 0, &NoSymbol{name, fmt.Sprintf("its symbol in %s does not say how long it is", im.Path)}
	}
	return at.Add(int64(c.size)), nil
}

// data finds a variable. A variable of a library that a fixed-address
// executable copied (R_X86_64_COPY) is the executable's: ld.so bound every
// reference to that one.
func (s *Set) data(im *Image, name string) (address.Addr, error) {
	v, exported, err := variable(im.File, name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", im.Path, err)
	}
	if exported && !im.IsExe {
		exe := s.Exe()
		if v, ok := copied(exe.File, name); ok {
			return v.Addr(exe.Bias), nil
		}
	}
	return v.Addr(im.Bias), nil
}

// variable returns the address of a variable: the exported or global one, else
// the only static one of the name.
func variable(f *binfile.File, wanted string) (v address.Vaddr, exported bool, err error) {
	t, err := readTables(f)
	if err != nil {
		return 0, false, err
	}
	n := parseName(wanted)
	var global, local []*binfile.Symbol
	for ti, syms := range [][]binfile.Symbol{t.dyn, t.sym} {
		for i := range syms {
			sym := &syms[i]
			base, _, _ := strings.Cut(sym.Name, "@")
			if !sym.Defined || !isVariable(sym) || base != n.base && !goNameMatches(base, n.base) || n.source != "" && n.source != sym.Source {
				continue
			}
			if ti == 0 && !sym.Default && n.version == "" {
				continue
			}
			if sym.Bind == elf.STB_LOCAL {
				local = append(local, sym)
			} else {
				global = append(global, sym)
				exported = exported || ti == 0
			}
		}
	}
	found := global
	if len(found) == 0 {
		found = local
	}
	for _, sym := range found {
		if sym.Type == elf.STT_TLS {
			return 0, false, fmt.Errorf("%s: %w", wanted, ErrThreadLocal)
		}
		if sym.Value != found[0].Value {
			return 0, false, fmt.Errorf("%s means several variables, at %v and %v; name its source file, as in file.c:%s", wanted, found[0].Value, sym.Value, n.base)
		}
	}
	if len(found) == 0 {
		return 0, false, &NoSymbol{wanted, "not in " + f.SOName()}
	}
	return found[0].Value, exported, nil
}

func isVariable(s *binfile.Symbol) bool {
	return s.Type == elf.STT_OBJECT || s.Type == elf.STT_COMMON || s.Type == elf.STT_TLS
}

// copied returns where an executable has its copy of a library's variable: the
// symbol is one that a copy relocation fills, under this name or an alias.
func copied(f *binfile.File, name string) (address.Vaddr, bool) {
	v, exported, err := variable(f, name)
	if err != nil || !exported {
		return 0, false
	}
	relocs, err := f.Relocs()
	if err != nil {
		return 0, false
	}
	return v, slices.ContainsFunc(relocs, func(r binfile.Reloc) bool { return r.Type == elf.R_X86_64_COPY && r.At == v })
}
