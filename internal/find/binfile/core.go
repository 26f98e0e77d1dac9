package binfile

import (
	"bytes"
	"debug/elf"
	"io"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Core is the memory of a process that crashed (core(5)), and what its files
// were.
type Core struct {
	// Files are the mappings of files, as NT_FILE has them.
	Files []CoreFile

	r        io.ReaderAt
	segments []Segment
}

// CoreFile is one mapping of a file in a core.
type CoreFile struct {
	Start, End address.Addr
	Off        uint64 // in the file, bytes
	Path       string // as the process knew it: any text may stand there
}

const (
	ntFile = 0x46494c45 // NT_FILE: count, page size; start, end, offset in pages each; paths
	// maxCoreSegments bounds the program headers of a core, maxCoreFiles its NT_FILE.
	maxCoreSegments = 1 << 16
	maxCoreFiles    = 1 << 16
	maxCoreNotes    = 16 << 20
	// maxHead is how much of a mapped file's beginning is looked at for its build ID.
	maxHead = 64 << 10
)

// OpenCore reads the headers of a core file for x86-64. Errors: ErrNotELF,
// *UnsupportedError for another kind of ELF file, *FormatError.
func OpenCore(r io.ReaderAt, size int64) (*Core, error) {
	f := &File{r: r, size: uint64(max(size, 0))}
	h, err := f.identify()
	if err != nil {
		return nil, err
	}
	if u := unsupported(h); u.Is32Bit() || u.Data != elf.ELFDATA2LSB || u.Machine != elf.EM_X86_64 || u.Type != elf.ET_CORE {
		return nil, u
	}
	c := &Core{r: r}
	off, entry, n := le.Uint64(h[32:]), le.Uint16(h[54:]), uint64(le.Uint16(h[56:]))
	if n == 0xffff { // PN_XNUM: the count is in section 0
		first, err := f.bytes("section header", le.Uint64(h[40:]), sectionSize)
		if err != nil {
			return nil, err
		}
		n = uint64(le.Uint32(first[44:]))
	}
	if entry != segmentSize || n == 0 || n > maxCoreSegments {
		return nil, malformed("program header table", off, "%d entries of %d bytes", n, entry)
	}
	table, err := f.bytes("program header table", off, n*segmentSize)
	if err != nil {
		return nil, err
	}
	for ; len(table) > 0; table = table[segmentSize:] {
		if err := c.addSegment(f, parseSegment(table)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// addSegment keeps a PT_LOAD, of which a core that was cut off may lack the end,
// and reads a PT_NOTE.
func (c *Core) addSegment(f *File, s Segment) error {
	switch s.Type {
	case elf.PT_LOAD:
		if uint64(s.Off) < f.size {
			s.Filesz = min(s.Filesz, f.size-uint64(s.Off))
			c.segments = append(c.segments, s)
		}
	case elf.PT_NOTE:
		if s.Filesz > maxCoreNotes {
			return malformed("PT_NOTE", uint64(s.Off), "%d bytes are more than %d", s.Filesz, maxCoreNotes)
		}
		b, err := f.bytes("PT_NOTE", uint64(s.Off), s.Filesz)
		if err != nil {
			return err
		}
		if desc := findNote(b, "CORE\x00", ntFile); desc != nil {
			return c.readFiles(desc, uint64(s.Off))
		}
	}
	return nil
}

func (c *Core) readFiles(b []byte, at uint64) error {
	if len(b) < 16 {
		return malformed("NT_FILE", at, "%d bytes", len(b))
	}
	n, page := le.Uint64(b), le.Uint64(b[8:])
	if n > maxCoreFiles || n*24 > uint64(len(b)-16) || page == 0 || page > 1<<30 {
		return malformed("NT_FILE", at, "%d files, pages of %d bytes", n, page)
	}
	names := b[16+n*24:]
	for i := range n {
		e := b[16+i*24:]
		end := bytes.IndexByte(names, 0)
		if end < 0 || end > maxName {
			return malformed("NT_FILE", at, "path %d of %d has no end", i, n)
		}
		c.Files = append(c.Files, CoreFile{address.Addr(le.Uint64(e)), address.Addr(le.Uint64(e[8:])), le.Uint64(e[16:]) * page, string(names[:end])})
		names = names[end+1:]
	}
	return nil
}

// ReadAt fills b from the memory at a, as far as the core has it; the rest of a
// segment that was not dumped is not there.
func (c *Core) ReadAt(b []byte, a address.Addr) (int, error) {
	for i := range c.segments {
		s := &c.segments[i]
		at := address.Addr(s.Vaddr)
		if a < at || uint64(a-at) >= s.Filesz {
			continue
		}
		n := min(uint64(len(b)), s.Filesz-uint64(a-at))
		return c.r.ReadAt(b[:n], int64(uint64(s.Off)+uint64(a-at)))
	}
	return 0, io.ErrUnexpectedEOF
}

// BuildID returns the build ID of a file that was mapped from its beginning, as the
// memory has it, or nil.
func (c *Core) BuildID(m CoreFile) []byte {
	if m.Off != 0 || m.End <= m.Start {
		return nil
	}
	head := make([]byte, min(uint64(m.End-m.Start), maxHead))
	n, err := c.ReadAt(head, m.Start)
	if n < headerSize || err != nil && err != io.EOF {
		return nil
	}
	f := &File{r: bytes.NewReader(head[:n]), size: uint64(n), tablesOnly: true}
	h, err := f.header()
	if err != nil || f.readSegments(h) != nil {
		return nil
	}
	f.tablesOnly = false // the notes are in what was read
	return f.BuildID()
}
