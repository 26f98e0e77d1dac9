package binfile

import (
	"debug/elf"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Reloc is a dynamic relocation (Elf64_Rela) of the file.
type Reloc struct {
	At     address.Vaddr
	Type   elf.R_X86_64
	Sym    uint32 // index into DynSymbols; 0 for none
	Addend int64
}

// Relocs returns the relocations ld.so (or the start-up code of a static
// program) applies: DT_RELA, DT_JMPREL and, in a program without PT_DYNAMIC,
// the .rela sections that are loaded. DT_RELR holds only relative ones, whose
// addends are in place, and is not expanded.
func (f *File) Relocs() ([]Reloc, error) { return f.relocs() }

func (f *File) readRelocs() ([]Reloc, error) {
	var out []Reloc
	d, err := f.dynamic()
	if err != nil {
		for i := range f.sections {
			s := &f.sections[i]
			if s.typ != elf.SHT_RELA || s.flags&elf.SHF_ALLOC == 0 {
				continue
			}
			b, err := f.sectionBytes(s)
			if err != nil {
				return nil, err
			}
			out = appendRelocs(out, b)
		}
		return out, nil
	}
	for _, t := range []struct{ at, size elf.DynTag }{{elf.DT_RELA, elf.DT_RELASZ}, {elf.DT_JMPREL, elf.DT_PLTRELSZ}} {
		at, ok := d.tag[t.at]
		if !ok || d.tag[t.size] == 0 {
			continue
		}
		b, err := f.segmentBytes(t.at.String(), address.Vaddr(at), d.tag[t.size])
		if err != nil {
			return nil, err
		}
		out = appendRelocs(out, b)
	}
	return out, nil
}

func appendRelocs(out []Reloc, b []byte) []Reloc {
	for ; len(b) >= relaSize; b = b[relaSize:] {
		info := le.Uint64(b[8:])
		out = append(out, Reloc{
			At:     address.Vaddr(le.Uint64(b)),
			Type:   elf.R_X86_64(uint32(info)),
			Sym:    uint32(info >> 32),
			Addend: int64(le.Uint64(b[16:])),
		})
	}
	return out
}
