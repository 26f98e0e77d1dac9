// Package native lets Go code hold an address of a pretend target in a Go
// pointer, when a guard runs under go test.
//
// The Go runtime stops the program when it finds a pointer between 1 and 4095
// on a stack it moves, and the race detector's checkptr stops on making one. In
// a process such a value is only an address that faults when read. So addresses
// below 64 KiB, which never can be read, are held at the same distance in
// non-canonical space: a read there raises the same fault, and Address gives the
// original back.
package native

import "unsafe"

const (
	lowest    = 64 << 10        // below it, no address is ever readable
	displaced = uint64(1) << 62 // non-canonical under 4- and 5-level paging
)

// Pointer returns a as a pointer.
func Pointer(a uint64) unsafe.Pointer {
	if a != 0 && a < lowest {
		a |= displaced
	}
	// Not unsafe.Pointer(uintptr(a)): a is no Go object's address, and neither
	// vet nor checkptr should look for the object.
	return *(*unsafe.Pointer)(unsafe.Pointer(&a))
}

// Address returns the address that Pointer was given.
func Address(p unsafe.Pointer) uint64 {
	a := uint64(uintptr(p))
	if a&^(lowest-1) == displaced {
		a &^= displaced
	}
	return a
}

// Typed returns a as a *T. As in Pointer, the bits are taken over: a conversion
// would be checked against the Go objects around a.
func Typed[T any](a uint64) *T {
	p := Pointer(a)
	return *(**T)(unsafe.Pointer(&p))
}

// Byte reads the byte at a, and panics with a runtime.Error where it cannot if
// debug.SetPanicOnFault is in force in this goroutine.
func Byte(a uint64) byte { return *Typed[byte](a) }

// Store writes the low size bytes (1, 2, 4 or 8) of v at a, little-endian, in one
// access; it panics where it cannot, as Byte does.
func Store(a uint64, size int, v uint64) {
	switch size {
	case 1:
		*Typed[uint8](a) = uint8(v)
	case 2:
		*Typed[uint16](a) = uint16(v)
	case 4:
		*Typed[uint32](a) = uint32(v)
	default:
		*Typed[uint64](a) = v
	}
}

// Load reads size bytes (1, 2, 4 or 8) at a, little-endian, in one access.
func Load(a uint64, size int) uint64 {
	switch size {
	case 1:
		return uint64(*Typed[uint8](a))
	case 2:
		return uint64(*Typed[uint16](a))
	case 4:
		return uint64(*Typed[uint32](a))
	default:
		return *Typed[uint64](a)
	}
}
