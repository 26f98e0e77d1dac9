package binfile

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"fmt"
	"io"
)

// maxDebug bounds one debugging section after decompression, in bytes.
const maxDebug = 1 << 30

// compressionRatio bounds how much a compressed section may grow: deflate
// cannot do more than 1032 to 1.
const compressionRatio = 1032

// DebugSection returns a section by name, decompressed where the file has it
// compressed (gABI, SHF_COMPRESSED; zlib only), or ErrNoTable. Its size is
// checked against limit before anything is decompressed.
func (f *File) DebugSection(name string, limit uint64) ([]byte, error) {
	s := f.section(name)
	if s == nil || s.typ == elf.SHT_NOBITS {
		return nil, fmt.Errorf("%s: %w", name, ErrNoTable)
	}
	if s.size > limit {
		return nil, malformed("section "+name, s.off, "%d bytes are more than %d", s.size, limit)
	}
	b, err := f.sectionBytes(s)
	if err != nil || s.flags&elf.SHF_COMPRESSED == 0 {
		return b, err
	}
	const header = 24 // Elf64_Chdr: type, reserved u32; size, alignment u64
	if len(b) < header {
		return nil, malformed("section "+name, s.off, "its compression header is cut off")
	}
	if kind := elf.CompressionType(le.Uint32(b)); kind != elf.COMPRESS_ZLIB {
		return nil, fmt.Errorf("section %s is compressed with %v, which is not read: %w", name, kind, ErrNoTable)
	}
	size := le.Uint64(b[8:])
	if size > limit || size > maxDebug || size > uint64(len(b))*compressionRatio {
		return nil, malformed("section "+name, s.off, "it claims to be %d bytes", size)
	}
	r, err := zlib.NewReader(bytes.NewReader(b[header:]))
	if err != nil {
		return nil, malformed("section "+name, s.off, "%v", err)
	}
	out := make([]byte, size)
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, malformed("section "+name, s.off, "%v", err)
	}
	return out, nil
}

// DebugPart returns n bytes from off on of a section that is not compressed; ErrNoTable
// where there is none.
func (f *File) DebugPart(name string, off, n uint64) ([]byte, error) {
	s := f.section(name)
	if s == nil || s.typ == elf.SHT_NOBITS || s.flags&elf.SHF_COMPRESSED != 0 {
		return nil, fmt.Errorf("%s, as it lies in the file: %w", name, ErrNoTable)
	}
	if off > s.size || n > s.size-off {
		return nil, malformed("section "+name, s.off, "%d bytes at %#x are not in its %d", n, off, s.size)
	}
	return f.bytes("section "+name, s.off+off, n)
}
