package binfile

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxDebug bounds one debugging section after decompression, in bytes.
const maxDebug = 1 << 30

// compressionRatio bounds how much a compressed section may grow: deflate
// cannot do more than 1032 to 1.
const compressionRatio = 1032

// DebugSection returns a section by name, decompressed where the file has it
// compressed (gABI, SHF_COMPRESSED; zlib and zstd), or ErrNoTable. Its size is
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
	size := le.Uint64(b[8:])
	if size > limit || size > maxDebug || size > uint64(len(b))*compressionRatio {
		return nil, malformed("section "+name, s.off, "it claims to be %d bytes", size)
	}
	switch kind := elf.CompressionType(le.Uint32(b)); kind {
	case elf.COMPRESS_ZLIB:
	case elf.COMPRESS_ZSTD:
		out, err := decompressZstd(b, size)
		if err != nil {
			return nil, malformed("section "+name, s.off, "%v", err)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("section %s is compressed with %v, which is not read: %w", name, kind, ErrNoTable)
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

// decompressZstd decompresses a section of so many bytes, its compression header included.
// The standard library's reader of zstd is in debug/elf and can be had by a file alone: one
// is made that has this section and no other.
func decompressZstd(section []byte, size uint64) ([]byte, error) {
	const fileHeader, sectionHeader, names = 64, 64, "\x00z\x00"
	at := uint64(fileHeader + 3*sectionHeader)
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: fileHeader, Ehsize: fileHeader, Shentsize: sectionHeader, Shnum: 3, Shstrndx: 1,
	}
	sections := []elf.Section64{
		{},
		{Type: uint32(elf.SHT_STRTAB), Off: at, Size: uint64(len(names))},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_COMPRESSED), Off: at + uint64(len(names)), Size: uint64(len(section))},
	}
	var file bytes.Buffer
	if err := errors.Join(binary.Write(&file, le, h), binary.Write(&file, le, sections)); err != nil {
		return nil, err
	}
	file.WriteString(names)
	file.Write(section)
	f, err := elf.NewFile(bytes.NewReader(file.Bytes()))
	if err != nil {
		return nil, err
	}
	out := make([]byte, size)
	_, err = io.ReadFull(f.Sections[2].Open(), out)
	return out, err
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
