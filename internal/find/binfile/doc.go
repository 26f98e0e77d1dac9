// Package binfile reads an ELF file that may have been made to hurt its reader.
//
// It is a parser of its own, and not debug/elf, because the file belongs to the
// process that is looked at: every count, offset and size in it is compared
// with the size of the file before anything is allocated or read, tables have a
// fixed upper bound, and links (string tables, version chains, CIE pointers)
// are followed a bounded number of times. What is out of bounds is a
// *FormatError that says where; nothing panics and nothing is guessed.
//
// Program headers are preferred to section headers, since the former are what
// the kernel and ld.so used and the latter may be stripped or lie. All tables
// are read on demand: opening a file reads its headers only.
//
// Only what PIE can guard is accepted: little-endian ELF64 for x86-64,
// executables and shared objects. A 32-bit or foreign file is an
// *UnsupportedError.
package binfile
