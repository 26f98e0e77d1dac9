package binfile

import (
	"debug/elf"
	"fmt"

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
	err := f.EachReloc(func(r Reloc) { out = append(out, r) })
	return out, err
}

// EachReloc is Relocs, one after the other: most files have many, and who wants a few of
// them need not keep all. Errors come before the first of a table.
func (f *File) EachReloc(visit func(Reloc)) error {
	d, err := f.dynamic()
	if err != nil {
		for i := range f.sections {
			s := &f.sections[i]
			if s.typ != elf.SHT_RELA || s.flags&elf.SHF_ALLOC == 0 {
				continue
			}
			if err := f.eachReloc("section "+s.name, s.off, s.size, visit); err != nil {
				return err
			}
		}
		return nil
	}
	for _, t := range []struct{ at, size elf.DynTag }{{elf.DT_RELA, elf.DT_RELASZ}, {elf.DT_JMPREL, elf.DT_PLTRELSZ}} {
		v, ok := d.tag[t.at]
		if !ok || d.tag[t.size] == 0 {
			continue
		}
		at := address.Vaddr(v)
		off, ok := f.Off(at)
		if !ok {
			return malformed(t.at.String(), v, "the address is in no segment")
		}
		if err := f.eachReloc(t.at.String(), uint64(off), min(d.tag[t.size], f.Mapped(at)), visit); err != nil {
			return err
		}
	}
	return nil
}

// relocsAtOnce is how many relocations are read at once.
const relocsAtOnce = 1024

// eachReloc visits the n bytes of relocations at off.
func (f *File) eachReloc(what string, off, n uint64, visit func(Reloc)) error {
	if n > maxTable || !f.inside(off, n) {
		return malformed(what, off, "%d bytes are not in a file of %d bytes", n, f.size)
	}
	room := make([]byte, min(n, relocsAtOnce*relaSize))
	for n >= relaSize {
		b := room[:min(n/relaSize*relaSize, uint64(len(room)))]
		if err := f.readAt(b, off); err != nil {
			return fmt.Errorf("reading %s: %w", what, err)
		}
		off, n = off+uint64(len(b)), n-uint64(len(b))
		for ; len(b) >= relaSize; b = b[relaSize:] {
			info := le.Uint64(b[8:])
			visit(Reloc{
				At:     address.Vaddr(le.Uint64(b)),
				Type:   elf.R_X86_64(uint32(info)),
				Sym:    uint32(info >> 32),
				Addend: int64(le.Uint64(b[16:])),
			})
		}
	}
	return nil
}
