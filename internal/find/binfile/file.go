package binfile

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Sizes of ELF64 structures (gabi, chapters 4 and 5) and bounds of our own.
const (
	headerSize  = 64
	segmentSize = 56
	sectionSize = 64
	symbolSize  = 24
	relaSize    = 24
	dynSize     = 16

	maxSegments = 512
	maxSections = 1 << 17
	// maxTable bounds any one table read into memory, in bytes.
	maxTable = 256 << 20
	// maxName bounds a name; C++ has long ones.
	maxName = 16 << 10
)

var le = binary.LittleEndian

// File is an open ELF file. Its methods may be called concurrently.
type File struct {
	Type  elf.Type // ET_EXEC or ET_DYN
	Entry address.Vaddr
	// Segments are all program headers.
	Segments []Segment

	r        io.ReaderAt
	size     uint64
	sections []section

	dynamic  func() (*dynamic, error)
	symbols  func() ([]Symbol, error)
	dynsyms  func() ([]Symbol, error)
	frames   func() ([]Range, error)
	goFuncs  func() (*GoTable, error)
	relocs   func() ([]Reloc, error)
	sonameOf func() string

	miniDebug func() (*File, error)
	// tablesOnly is set for a file with the symbols of another: its segments are
	// not in it.
	tablesOnly bool
	machine    elf.Machine // EM_NONE for x86-64
}

// Segment is a program header.
type Segment struct {
	Type   elf.ProgType
	Flags  elf.ProgFlag
	Off    address.Off
	Vaddr  address.Vaddr
	Filesz uint64 // bytes in the file
	Memsz  uint64 // bytes in memory; beyond Filesz they are zero
}

// Range is a stretch of code, [Start, Start+Size).
type Range struct {
	Start address.Vaddr
	Size  uint64
}

// section is a section header with its name.
type section struct {
	name       string
	typ        elf.SectionType
	flags      elf.SectionFlag
	addr       address.Vaddr
	off, size  uint64
	link, info uint32
	entsize    uint64
}

// Open reads the headers of an ELF file of size bytes. It returns ErrNotELF,
// *UnsupportedError, *FormatError, or what r returned. r stays in use.
func Open(r io.ReaderAt, size int64) (*File, error) {
	return readHeaders(&File{r: r, size: uint64(max(size, 0))})
}

// OpenToRead is Open for a file that is not going to be guarded: one for arm64 does
// as well.
func OpenToRead(r io.ReaderAt, size int64) (*File, error) {
	f, err := Open(r, size)
	var other *UnsupportedError
	if errors.As(err, &other) && other.Machine == elf.EM_AARCH64 {
		return readHeaders(&File{r: r, size: uint64(max(size, 0)), machine: elf.EM_AARCH64})
	}
	return f, err
}

func readHeaders(f *File) (*File, error) {
	h, err := f.header()
	if err != nil {
		return nil, err
	}
	f.Type = elf.Type(le.Uint16(h[16:]))
	f.Entry = address.Vaddr(le.Uint64(h[24:]))
	if err := f.readSegments(h); err != nil {
		return nil, err
	}
	if err := f.readSections(h); err != nil {
		return nil, err
	}
	f.dynamic = sync.OnceValues(f.readDynamic)
	f.symbols = sync.OnceValues(f.readSymbols)
	f.dynsyms = sync.OnceValues(f.readDynSymbols)
	f.frames = sync.OnceValues(f.readFrames)
	f.goFuncs = sync.OnceValues(f.readGoTable)
	f.relocs = sync.OnceValues(f.readRelocs)
	f.miniDebug = sync.OnceValues(f.readMiniDebug)
	f.sonameOf = sync.OnceValue(f.readSOName)
	return f, nil
}

// Machine is what the file's code is for: elf.EM_X86_64 or, of OpenToRead,
// elf.EM_AARCH64.
func (f *File) Machine() elf.Machine { return cmp.Or(f.machine, elf.EM_X86_64) }

// IsPIE tells whether the file can be loaded at any address: a shared object
// or a position-independent executable.
func (f *File) IsPIE() bool { return f.Type == elf.ET_DYN }

// Vaddr returns the address of a file offset, as the executable (or, with
// exec false, any) segment that maps it says.
func (f *File) Vaddr(off address.Off, exec bool) (address.Vaddr, bool) {
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD || exec && s.Flags&elf.PF_X == 0 {
			continue
		}
		if off >= s.Off && uint64(off-s.Off) < s.Filesz {
			return s.Vaddr + address.Vaddr(off-s.Off), true
		}
	}
	return 0, false
}

// ReadVaddr fills b with what the file has at v. Bytes that the file does not
// have (.bss) are an error.
func (f *File) ReadVaddr(b []byte, v address.Vaddr) error {
	if n := f.Mapped(v); n < uint64(len(b)) {
		return malformed("address", uint64(v), "%d bytes are wanted and %d are in the file", len(b), n)
	}
	off, _ := f.Off(v)
	return f.readAt(b, uint64(off))
}

// Off returns where in the file the byte at v is.
func (f *File) Off(v address.Vaddr) (address.Off, bool) {
	if s := f.load(v); s != nil {
		return s.Off + address.Off(v-s.Vaddr), true
	}
	return 0, false
}

// Mapped returns how many bytes from v on the file has in one segment.
func (f *File) Mapped(v address.Vaddr) uint64 {
	if s := f.load(v); s != nil {
		return s.Filesz - uint64(v-s.Vaddr)
	}
	return 0
}

// IsCode tells whether v lies in an executable segment.
func (f *File) IsCode(v address.Vaddr) bool {
	s := f.load(v)
	return s != nil && s.Flags&elf.PF_X != 0
}

// load returns the PT_LOAD segment whose file part holds v.
func (f *File) load(v address.Vaddr) *Segment {
	for i := range f.Segments {
		s := &f.Segments[i]
		if s.Type == elf.PT_LOAD && v >= s.Vaddr && uint64(v-s.Vaddr) < s.Filesz {
			return s
		}
	}
	return nil
}

func (f *File) header() ([]byte, error) {
	h, err := f.identify()
	if err != nil {
		return nil, err
	}
	u := unsupported(h)
	if u.Is32Bit() || u.Data != elf.ELFDATA2LSB || u.Machine != f.Machine() || u.Type != elf.ET_EXEC && u.Type != elf.ET_DYN {
		return nil, u
	}
	return h, nil
}

// identify reads the header of an ELF file of any kind.
func (f *File) identify() ([]byte, error) {
	if f.size < headerSize {
		return nil, ErrNotELF
	}
	h := make([]byte, headerSize)
	if err := f.readAt(h, 0); err != nil {
		return nil, err
	}
	if string(h[:4]) != elf.ELFMAG {
		return nil, ErrNotELF
	}
	return h, nil
}

// unsupported says what kind of file a header is of.
func unsupported(h []byte) *UnsupportedError {
	u := &UnsupportedError{Class: elf.Class(h[4]), Data: elf.Data(h[5])}
	if u.Data == elf.ELFDATA2MSB {
		u.Type, u.Machine = elf.Type(binary.BigEndian.Uint16(h[16:])), elf.Machine(binary.BigEndian.Uint16(h[18:]))
	} else {
		u.Type, u.Machine = elf.Type(le.Uint16(h[16:])), elf.Machine(le.Uint16(h[18:]))
	}
	return u
}

func (f *File) readSegments(h []byte) error {
	off, size, n := le.Uint64(h[32:]), le.Uint16(h[54:]), le.Uint16(h[56:])
	if size != segmentSize || n == 0 || n > maxSegments {
		return malformed("program header table", off, "%d entries of %d bytes", n, size)
	}
	table, err := f.bytes("program header table", off, uint64(n)*segmentSize)
	if err != nil {
		return err
	}
	for ; len(table) > 0; table = table[segmentSize:] {
		s := parseSegment(table)
		if s.Type == elf.PT_LOAD && f.tablesOnly {
			continue
		}
		if s.Type == elf.PT_LOAD && (s.Filesz > s.Memsz || uint64(s.Vaddr)+s.Memsz < s.Memsz || !f.inside(uint64(s.Off), s.Filesz)) {
			return malformed("PT_LOAD segment", uint64(s.Off), "%d bytes at %v are not in a file of %d bytes", s.Filesz, s.Vaddr, f.size)
		}
		f.Segments = append(f.Segments, s)
	}
	return nil
}

func parseSegment(b []byte) Segment {
	return Segment{
		Type:   elf.ProgType(le.Uint32(b)),
		Flags:  elf.ProgFlag(le.Uint32(b[4:])),
		Off:    address.Off(le.Uint64(b[8:])),
		Vaddr:  address.Vaddr(le.Uint64(b[16:])),
		Filesz: le.Uint64(b[32:]),
		Memsz:  le.Uint64(b[40:]),
	}
}

// readSections reads the section headers, which a runnable file need not have:
// a table that is not in the file counts as stripped.
func (f *File) readSections(h []byte) error {
	off, size, n, names := le.Uint64(h[40:]), le.Uint16(h[58:]), uint64(le.Uint16(h[60:])), uint32(le.Uint16(h[62:]))
	if off == 0 || size != sectionSize || !f.inside(off, sectionSize) {
		return nil
	}
	first, err := f.bytes("section header", off, sectionSize)
	if err != nil {
		return err
	}
	if n == 0 { // more than 0xff00 sections: the counts are in section 0
		n = le.Uint64(first[32:])
	}
	if names == uint32(elf.SHN_XINDEX) {
		names = le.Uint32(first[40:])
	}
	if n > maxSections || !f.inside(off, n*sectionSize) {
		return nil
	}
	table, err := f.bytes("section header table", off, n*sectionSize)
	if err != nil {
		return err
	}
	all := make([]section, 0, n)
	nameOffs := make([]uint32, 0, n)
	for ; len(table) > 0; table = table[sectionSize:] {
		nameOffs = append(nameOffs, le.Uint32(table))
		all = append(all, parseSection(table))
	}
	if uint64(names) < n {
		if strs, err := f.sectionBytes(&all[names]); err == nil {
			for i := range all {
				all[i].name = cString(strs, uint64(nameOffs[i]))
			}
		}
	}
	f.sections = all
	return nil
}

func parseSection(b []byte) section {
	return section{
		typ:     elf.SectionType(le.Uint32(b[4:])),
		flags:   elf.SectionFlag(le.Uint64(b[8:])),
		addr:    address.Vaddr(le.Uint64(b[16:])),
		off:     le.Uint64(b[24:]),
		size:    le.Uint64(b[32:]),
		link:    le.Uint32(b[40:]),
		info:    le.Uint32(b[44:]),
		entsize: le.Uint64(b[56:]),
	}
}

// section returns the first section of a name, or nil.
func (f *File) section(name string) *section {
	for i := range f.sections {
		if f.sections[i].name == name {
			return &f.sections[i]
		}
	}
	return nil
}

// sectionBytes reads the contents of a section as they lie in the file.
func (f *File) sectionBytes(s *section) ([]byte, error) {
	if s.typ == elf.SHT_NOBITS {
		return nil, fmt.Errorf("section %s: %w", s.name, ErrNoTable)
	}
	return f.bytes("section "+s.name, s.off, s.size)
}

// bytes reads n bytes at off after checking that the file has them.
func (f *File) bytes(what string, off, n uint64) ([]byte, error) {
	if n > maxTable || !f.inside(off, n) {
		return nil, malformed(what, off, "%d bytes are not in a file of %d bytes", n, f.size)
	}
	b := make([]byte, n)
	if err := f.readAt(b, off); err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	return b, nil
}

// segmentBytes reads n bytes at v, or all that its segment has when n is
// larger.
func (f *File) segmentBytes(what string, v address.Vaddr, n uint64) ([]byte, error) {
	n = min(n, f.Mapped(v))
	off, ok := f.Off(v)
	if !ok {
		return nil, malformed(what, uint64(v), "the address is in no segment")
	}
	return f.bytes(what, uint64(off), n)
}

func (f *File) inside(off, n uint64) bool { return off <= f.size && n <= f.size-off }

func (f *File) readAt(b []byte, off uint64) error {
	n, err := f.r.ReadAt(b, int64(off))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the file shrank
	}
	return err
}

// cString returns the string at off up to its NUL, or "" when off is outside
// the table or no NUL follows within maxName bytes.
func cString(table []byte, off uint64) string {
	if off >= uint64(len(table)) {
		return ""
	}
	table = table[off:min(off+maxName, uint64(len(table)))]
	if i := bytes.IndexByte(table, 0); i >= 0 {
		return string(table[:i])
	}
	return ""
}

// stringAt is cString for a table that is a string already: it does not copy.
func stringAt(table string, off uint64) string {
	if off >= uint64(len(table)) {
		return ""
	}
	table = table[off:min(off+maxName, uint64(len(table)))]
	if i := strings.IndexByte(table, 0); i >= 0 {
		return table[:i]
	}
	return ""
}
