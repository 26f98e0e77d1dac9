package libpie

import (
	"unsafe"

	"github.com/patch-integration-engine/pie/libpie/internal/native"
)

// Addr is an address in the target.
type Addr uint64

// MaxLength is the longest memory a guard may look at in one piece, in bytes.
const MaxLength = 1 << 24

// At returns the T at a. Nothing is read yet: a field read through the pointer
// is, and faults if it cannot be.
//
// T is a plain type: sized integers, bool, Addr, pointers to plain types, and
// structs and arrays of these, laid out as in the target. It is read as
// x86-64 has it: little-endian and at any alignment.
func At[T any](a Addr) *T {
	return native.Typed[T](uint64(a))
}

// AddrOf returns the address that p holds; 0 for nil.
func AddrOf[T any](p *T) Addr {
	return Addr(native.Address(unsafe.Pointer(p)))
}
