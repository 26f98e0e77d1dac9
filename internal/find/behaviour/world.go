package behaviour

import (
	"encoding/binary"
	"math"
)

// Places of the address space of a run. What is anywhere else is the world's.
const (
	imageBias = 0x5500_0000_0000 // of a program that is not linked to a fixed place
	imageRoom = 1 << 32
	stackTop  = 0x7ffc_0010_0000
	stackRoom = 0x10_0000
	entrySP   = stackTop - 0x8000 // above are the caller's frame and stack arguments
	threadAt  = 0x7ff0_0000_0000  // fs:0
	threadEnd = 1 << 20           // on either side
	importAt  = 0x6f00_0000_0000  // addresses that the dynamic linker gives
	returnAt  = 0x7fee_dead_0000  // where the function returns to
)

// Program is what is executed. Addresses are link-time addresses.
type Program interface {
	// Fixed tells that the program is linked to a fixed place.
	Fixed() bool
	// Code returns up to n bytes of code at v, good until the next call, or none.
	Code(v uint64, n int) []byte
	// Data returns up to n bytes at v as they are when the program begins, or none, and
	// whether the program may change them.
	Data(v uint64, n int) (b []byte, writable bool)
	// Linked tells what the dynamic linker puts at v: the address of something imported by
	// name, or else an address of the program.
	Linked(v uint64) (name string, to uint64, ok bool)
	// Stub tells where a PLT entry at v leads: to an import, or to the address of a function
	// of the program; zeros where there is none.
	Stub(v uint64) (name string, to uint64)
	// Callee tells of the function that starts at v.
	Callee(v uint64) Callee
	// Same tells whether two addresses are in one function.
	Same(a, b uint64) bool
	// Text is the text at v, or nil.
	Text(v uint64) []byte
}

// Callee is what is known of a function that is called.
type Callee struct {
	Enter    bool  // compilers may write it out in its callers
	NoReturn bool  // it never returns
	Reads    uint8 // integer argument registers that it reads, a bit each in their order
}

// World is where a function is executed: made up from a number, but for some places.
type World struct {
	Number int
	Set    []Setting
}

// Setting gives a place a value.
type Setting struct {
	Place
	Value uint64
}

// Place is where a value comes from.
type Place struct {
	Kind PlaceKind
	Key  uint64 // the address; the number of the argument; what tells the call
	Size uint8  // bytes, 1 to 8
}

// PlaceKind is a kind of place.
type PlaceKind uint8

// Kinds of places.
const (
	Nowhere PlaceKind = iota
	Memory
	Argument
	Result
	placeKinds
)

// Valid tells whether a place can be one.
func (p Place) Valid() bool {
	return p.Kind > Nowhere && p.Kind < placeKinds && p.Size >= 1 && p.Size <= 8
}

// kinds is how many kinds of worlds there are: a world's number by kinds is its kind.
const kinds = 6

// Kinds of worlds, by what their words are.
const (
	anyNumber    = iota
	smallNumbers // in their lower half
	smallHalves  // mostly
	oftenNothing
	asText
	tinyNumbers
)

// letters are what words of a world of text are made of.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEF0123456789 .,:;-+*/=<>()[]{}\"'\\\n\x00\x00\x00"

// shape makes a word of a world out of a pseudo-random number.
func shape(kind int, h uint64) uint64 {
	switch kind {
	case smallNumbers:
		return h&0x7fffffff_00000000 | h>>8&0xf
	case smallHalves:
		lo, hi := h&math.MaxUint32, h>>32
		if h>>60&3 != 0 {
			lo &= 3
		}
		if h>>58&3 == 0 {
			hi &= 3
		}
		return hi<<32 | lo
	case oftenNothing:
		if h>>61 < 3 {
			return 0
		}
		return h &^ 7
	case asText:
		w := uint64(0)
		for i := range 8 {
			w |= uint64(letters[(h>>(8*i)&0xff)%uint64(len(letters))]) << (8 * i)
		}
		return w
	case tinyNumbers:
		return h >> 20 & 7
	}
	return h
}

// resultShape is shape for what a call returns: text says nothing there.
func resultShape(kind int, h uint64) uint64 {
	if kind == asText {
		kind = smallNumbers
	}
	return shape(kind, h)
}

// mix is the finalizer of MurmurHash3, which is in the public domain.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// hashText is FNV-1a, mixed.
func hashText(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// word8 is a little-endian word; what is missing is 0.
func word8(b []byte) uint64 {
	var w [8]byte
	copy(w[:], b)
	return binary.LittleEndian.Uint64(w[:])
}

// mask has the lowest n bytes set.
func mask(n int) uint64 {
	if n >= 8 {
		return math.MaxUint64
	}
	return 1<<(8*max(n, 0)) - 1
}

func onStack(a uint64) bool  { return a >= stackTop-stackRoom && a < stackTop }
func inThread(a uint64) bool { return a >= threadAt-threadEnd && a < threadAt+threadEnd }
