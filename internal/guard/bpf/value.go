package bpf

import "fmt"

// Kind is what a register or stack slot holds in the interpreter.
type Kind uint8

// Kinds of value.
const (
	KindUninit Kind = iota // never written; reading it is a violation
	KindScalar             // a number, or an address in the target
	KindFrame              // Bits is the offset from the start of the frame
	KindStack              // Bits is the offset from r10 of the function at depth Depth
	KindRodata             // Bits is the offset in Unit.Rodata
	KindState              // Bits is the offset in the prepatch's state
)

var kindNames = [...]string{"nothing", "a number", "a frame address", "a stack address", "a rodata address", "a state address"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Value is a register's content. Addresses that PIE itself hands out are kept
// as a kind and an offset, so that every access can be checked against the
// memory it belongs to.
type Value struct {
	Kind  Kind
	Depth int8
	Bits  uint64
}

func scalar(v uint64) Value { return Value{Kind: KindScalar, Bits: v} }

// pointer reports whether v is an address that PIE handed out.
func (v Value) pointer() bool { return v.Kind > KindScalar }

// MaxDistance is how far from its memory an address may be to be compared:
// farther away, sums could wrap and the order of addresses mean nothing.
const MaxDistance = 1 << 29

// near reports whether an address is within MaxDistance of its base.
func (v Value) near() bool {
	return int64(v.Bits) >= -MaxDistance && int64(v.Bits) <= MaxDistance
}

// plus returns the address or number n above v.
func (v Value) plus(n uint64) Value {
	v.Bits += n
	return v
}

// sameBase reports whether v and w are addresses into the same memory.
func (v Value) sameBase(w Value) bool { return v.Kind == w.Kind && v.Depth == w.Depth }

// A stack is the memory of one function's r10, with what was written where.
type stack struct {
	bytes [StackSize]byte
	init  [StackSize]bool
	// slots holds the addresses spilled to aligned words; KindUninit: none.
	slots [StackSize / 8]Value
}

// store writes v's low n bytes at index at; the caller checked the bounds.
func (s *stack) store(at, n int, v Value) error {
	aligned := at%8 == 0 && n == 8
	if v.pointer() && !aligned {
		return fmt.Errorf("stores part of %v", v.Kind)
	}
	for k := range n {
		s.bytes[at+k] = byte(v.Bits >> (8 * k))
		s.init[at+k] = true
	}
	for slot := at / 8; slot <= (at+n-1)/8; slot++ {
		if s.slots[slot].pointer() {
			s.forget(slot, at, n)
		}
	}
	if v.pointer() {
		s.slots[at/8] = v
	}
	return nil
}

// forget takes an address out of a slot that is overwritten at [at, at+n): what
// is left of it is no number and must not be read.
func (s *stack) forget(slot, at, n int) {
	s.slots[slot] = Value{}
	for k := slot * 8; k < slot*8+8; k++ {
		if k < at || k >= at+n {
			s.init[k] = false
		}
	}
}

// load reads n bytes at index at.
func (s *stack) load(at, n int) (Value, error) {
	if at%8 == 0 && n == 8 && s.slots[at/8].pointer() {
		return s.slots[at/8], nil
	}
	var v uint64
	for k := range n {
		if !s.init[at+k] {
			return Value{}, fmt.Errorf("reads byte r10%+d of the stack, which was not written", at+k-StackSize)
		}
		if s.slots[(at+k)/8].pointer() {
			return Value{}, fmt.Errorf("reads part of %v on the stack", s.slots[(at+k)/8].Kind)
		}
		v |= uint64(s.bytes[at+k]) << (8 * k)
	}
	return scalar(v), nil
}
