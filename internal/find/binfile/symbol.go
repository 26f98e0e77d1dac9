package binfile

import (
	"debug/elf"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
)

// sttGNUIFunc is STT_GNU_IFUNC, an alias of STT_LOOS (gABI GNU extension).
const sttGNUIFunc = elf.STT_LOOS

// maxSymbols bounds a symbol table.
const maxSymbols = 4 << 20

// Symbol is an entry of .symtab or .dynsym.
type Symbol struct {
	Name string
	// Version is the GNU symbol version of a .dynsym entry, or "".
	Version string
	// Default is set on name@@VERSION, which a link against the library picks,
	// and on every unversioned symbol.
	Default bool
	Value   address.Vaddr // an offset into the TLS block for STT_TLS
	Size    uint64
	Type    elf.SymType
	Bind    elf.SymBind
	Defined bool
	// Source is the STT_FILE name a local symbol of .symtab follows, or "".
	Source string
}

// IsFunc tells whether the symbol is defined code, IFUNCs included.
func (s *Symbol) IsFunc() bool {
	return s.Defined && (s.Type == elf.STT_FUNC || s.Type == sttGNUIFunc)
}

// IsIndirect tells whether the value is the address of an IFUNC resolver.
func (s *Symbol) IsIndirect() bool { return s.Type == sttGNUIFunc }

// Full returns the name as nm prints it: name, name@VERSION or name@@VERSION.
func (s *Symbol) Full() string {
	switch {
	case s.Version == "":
		return s.Name
	case s.Default:
		return s.Name + "@@" + s.Version
	}
	return s.Name + "@" + s.Version
}

// Symbols returns .symtab, or ErrNoTable when the file is stripped.
func (f *File) Symbols() ([]Symbol, error) { return f.symbols() }

// DynSymbols returns .dynsym with versions, or ErrNoTable when the file is
// not dynamic.
func (f *File) DynSymbols() ([]Symbol, error) { return f.dynsyms() }

func (f *File) readSymbols() ([]Symbol, error) {
	for i := range f.sections {
		s := &f.sections[i]
		if s.typ != elf.SHT_SYMTAB {
			continue
		}
		if uint64(s.link) >= uint64(len(f.sections)) {
			return nil, malformed(".symtab", s.off, "its string table is section %d of %d", s.link, len(f.sections))
		}
		table, err := f.sectionBytes(s)
		if err != nil {
			return nil, err
		}
		strs, err := f.sectionBytes(&f.sections[s.link])
		if err != nil {
			return nil, err
		}
		return parseSymbols(table, string(strs)), nil
	}
	return nil, fmt.Errorf(".symtab: %w", ErrNoTable)
}

// parseSymbols reads at most maxSymbols whole entries; a remainder at the end
// is ignored.
func parseSymbols(table []byte, strs string) []Symbol {
	table = table[:min(len(table), maxSymbols*symbolSize)]
	out := make([]Symbol, 0, len(table)/symbolSize)
	source := ""
	for ; len(table) >= symbolSize; table = table[symbolSize:] {
		s := Symbol{
			Name:    stringAt(strs, uint64(le.Uint32(table))),
			Type:    elf.ST_TYPE(table[4]),
			Bind:    elf.ST_BIND(table[4]),
			Defined: elf.SectionIndex(le.Uint16(table[6:])) != elf.SHN_UNDEF,
			Value:   address.Vaddr(le.Uint64(table[8:])),
			Size:    le.Uint64(table[16:]),
			Default: true,
		}
		if s.Type == elf.STT_FILE {
			source = s.Name
		} else if s.Bind == elf.STB_LOCAL {
			s.Source = source
		}
		out = append(out, s)
	}
	return out
}
