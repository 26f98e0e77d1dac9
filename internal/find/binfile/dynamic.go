package binfile

import (
	"debug/elf"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
)

// maxDynamic bounds the dynamic section, in entries.
const maxDynamic = 1 << 14

// dynamic is PT_DYNAMIC: the first value of each tag.
type dynamic struct {
	tag     map[elf.DynTag]uint64
	needed  []uint64 // the values of DT_NEEDED
	strings string
}

// SOName returns the DT_SONAME, or "".
func (f *File) SOName() string { return f.sonameOf() }

// Needed returns the sonames of the libraries that the file needs (DT_NEEDED).
func (f *File) Needed() []string {
	d, err := f.dynamic()
	if err != nil {
		return nil
	}
	var names []string
	for _, off := range d.needed {
		names = append(names, stringAt(d.strings, off))
	}
	return names
}

// LibraryPaths returns the lists of folders that the file has its libraries looked for in
// (DT_RPATH, DT_RUNPATH), as they are written.
func (f *File) LibraryPaths() []string {
	d, err := f.dynamic()
	if err != nil {
		return nil
	}
	var lists []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		if off, ok := d.tag[tag]; ok {
			lists = append(lists, stringAt(d.strings, off))
		}
	}
	return lists
}

// RelocatesText tells whether the dynamic linker changes the file's code (DT_TEXTREL).
func (f *File) RelocatesText() bool {
	const dfTextrel = 4 // DF_TEXTREL of DT_FLAGS
	d, err := f.dynamic()
	if err != nil {
		return false
	}
	_, ok := d.tag[elf.DT_TEXTREL]
	return ok || d.tag[elf.DT_FLAGS]&dfTextrel != 0
}

// Interp returns the program interpreter, or "" for a static program.
func (f *File) Interp() string {
	for _, s := range f.Segments {
		if s.Type == elf.PT_INTERP && s.Filesz <= 4096 {
			if b, err := f.bytes("PT_INTERP", uint64(s.Off), s.Filesz); err == nil {
				return cString(b, 0)
			}
		}
	}
	return ""
}

func (f *File) readSOName() string {
	d, err := f.dynamic()
	if err != nil {
		return ""
	}
	off, ok := d.tag[elf.DT_SONAME]
	if !ok {
		return ""
	}
	return stringAt(d.strings, off)
}

func (f *File) readDynamic() (*dynamic, error) {
	for _, s := range f.Segments {
		if s.Type != elf.PT_DYNAMIC {
			continue
		}
		table, err := f.segmentBytes("PT_DYNAMIC", s.Vaddr, min(s.Filesz, maxDynamic*dynSize))
		if err != nil {
			return nil, err
		}
		d := &dynamic{tag: map[elf.DynTag]uint64{}}
		for ; len(table) >= dynSize; table = table[dynSize:] {
			tag, value := elf.DynTag(le.Uint64(table)), le.Uint64(table[8:])
			if tag == elf.DT_NULL {
				break
			}
			if tag == elf.DT_NEEDED {
				d.needed = append(d.needed, value)
			}
			if _, seen := d.tag[tag]; !seen {
				d.tag[tag] = value
			}
		}
		strs, err := f.segmentBytes("DT_STRTAB", address.Vaddr(d.tag[elf.DT_STRTAB]), d.tag[elf.DT_STRSZ])
		if err != nil {
			return nil, err
		}
		d.strings = string(strs)
		return d, nil
	}
	return nil, fmt.Errorf("PT_DYNAMIC: %w", ErrNoTable)
}

func (f *File) readDynSymbols() ([]Symbol, error) {
	d, err := f.dynamic()
	if err != nil {
		return nil, err
	}
	at, ok := d.tag[elf.DT_SYMTAB]
	if !ok {
		return nil, fmt.Errorf("DT_SYMTAB: %w", ErrNoTable)
	}
	n, err := f.dynSymbolCount(d)
	if err != nil {
		return nil, err
	}
	table, err := f.segmentBytes("DT_SYMTAB", address.Vaddr(at), n*symbolSize)
	if err != nil {
		return nil, err
	}
	syms := parseSymbols(table, d.strings)
	for i := range syms {
		syms[i].Source = ""
	}
	return syms, f.setVersions(d, syms)
}

// dynSymbolCount finds the length of DT_SYMTAB, which the dynamic section does
// not hold: DT_HASH has it, DT_GNU_HASH implies it, and last the section
// header has it.
func (f *File) dynSymbolCount(d *dynamic) (uint64, error) {
	const limit = maxTable / symbolSize
	if at, ok := d.tag[elf.DT_HASH]; ok {
		var b [8]byte
		if err := f.ReadVaddr(b[:], address.Vaddr(at)); err != nil {
			return 0, fmt.Errorf("DT_HASH: %w", err)
		}
		return min(uint64(le.Uint32(b[4:])), limit), nil
	}
	implied := uint64(0)
	if at, ok := d.tag[elf.DT_GNU_HASH]; ok {
		n, hashed, err := f.gnuHashCount(address.Vaddr(at))
		if hashed || err != nil {
			return n, err
		}
		implied = n // a program that defines nothing for others has symbols beyond that
	}
	for i := range f.sections {
		if s := &f.sections[i]; s.typ == elf.SHT_DYNSYM {
			return min(max(s.size/symbolSize, implied), limit), nil
		}
	}
	if implied > 0 {
		return implied, nil
	}
	return 0, fmt.Errorf("DT_HASH and DT_GNU_HASH: %w", ErrNoTable)
}

// gnuHashCount walks the chain of the highest bucket to its end, as the chains
// lie in symbol order. hashed is false where no symbol has one.
func (f *File) gnuHashCount(at address.Vaddr) (n uint64, hashed bool, err error) {
	var h [16]byte
	if err := f.ReadVaddr(h[:], at); err != nil {
		return 0, false, fmt.Errorf("DT_GNU_HASH: %w", err)
	}
	nbuckets, symoffset, bloom := uint64(le.Uint32(h[:])), uint64(le.Uint32(h[4:])), uint64(le.Uint32(h[8:]))
	table, err := f.segmentBytes("DT_GNU_HASH", at, maxTable)
	if err != nil {
		return 0, false, err
	}
	buckets := 16 + bloom*8
	chains := buckets + nbuckets*4
	if chains > uint64(len(table)) {
		return 0, false, malformed("DT_GNU_HASH", uint64(at), "%d buckets and %d bloom words do not fit", nbuckets, bloom)
	}
	last := uint64(0)
	for b := table[buckets:chains]; len(b) > 0; b = b[4:] {
		last = max(last, uint64(le.Uint32(b)))
	}
	if last < symoffset {
		return symoffset, false, nil
	}
	for {
		at := chains + (last-symoffset)*4
		if at+4 > uint64(len(table)) {
			return 0, false, malformed("DT_GNU_HASH", uint64(at), "a chain has no end")
		}
		last++
		if le.Uint32(table[at:])&1 != 0 {
			return last, true, nil
		}
	}
}
