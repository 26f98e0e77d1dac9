package binfile

import (
	"debug/elf"
	"errors"
	"fmt"
)

// ErrNotELF says that the file does not start with the ELF magic.
var ErrNotELF = errors.New("not an ELF file")

// ErrNoTable says that the file lacks the table that was asked for.
var ErrNoTable = errors.New("the file has no such table")

// UnsupportedError says that the file is ELF, but of a kind PIE does not guard.
type UnsupportedError struct {
	Class   elf.Class
	Data    elf.Data
	Machine elf.Machine
	Type    elf.Type
}

// Is32Bit tells whether the file's class is ELF32 (x32 included).
func (e *UnsupportedError) Is32Bit() bool { return e.Class != elf.ELFCLASS64 }

func (e *UnsupportedError) Error() string {
	switch {
	case e.Is32Bit():
		return fmt.Sprintf("a 32-bit ELF file (%v, %v); only 64-bit x86-64 programs can be guarded", e.Class, e.Machine)
	case e.Machine != elf.EM_X86_64 || e.Data != elf.ELFDATA2LSB:
		return fmt.Sprintf("an ELF file for %v (%v); only x86-64 programs can be guarded", e.Machine, e.Data)
	}
	return fmt.Sprintf("an ELF file of type %v, neither an executable nor a shared object", e.Type)
}

// FormatError says that a structure in the file contradicts itself or the
// file's size.
type FormatError struct {
	What string // the structure, in the ELF specification's words
	At   uint64 // its file offset or, for tables found by segment, its address
	Msg  string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("malformed ELF: %s at %#x: %s", e.What, e.At, e.Msg)
}

func malformed(what string, at uint64, format string, args ...any) error {
	return &FormatError{What: what, At: at, Msg: fmt.Sprintf(format, args...)}
}
