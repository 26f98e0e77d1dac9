package libpie

import "github.com/patch-integration-engine/pie/libpie/internal/native"

// What is written here is the target's memory, and needs the capability
// //pie:cap write. Memory that cannot be written is a fault, as is the guard's own:
// its frame, the return address of the call, and what pie keeps in the process.
// In audit mode, and when a trial is over, nothing is written: the memory is read
// instead, so that the guard faults where it would. Another thread may read or
// change the memory at the same time: a Put of an aligned address is seen whole or
// not at all where the guard reads by table, which pie status tells. A Put that faults
// has written nothing.

// Put8 sets the byte at a to v.
func (c *Call) Put8(a Addr, v uint8) { native.Store(uint64(a), 1, uint64(v)) }

// Put16 sets the two bytes at a to v, little-endian.
func (c *Call) Put16(a Addr, v uint16) { native.Store(uint64(a), 2, uint64(v)) }

// Put32 sets the four bytes at a to v, little-endian.
func (c *Call) Put32(a Addr, v uint32) { native.Store(uint64(a), 4, uint64(v)) }

// Put64 sets the eight bytes at a to v, little-endian.
func (c *Call) Put64(a Addr, v uint64) { native.Store(uint64(a), 8, v) }

// Zero sets the n bytes at a to 0, first to last. A negative n, and one above
// MaxLength, is a fault; so is a byte that cannot be written, and those before it
// are 0 by then.
func (c *Call) Zero(a Addr, n int) {
	if n < 0 || n > MaxLength {
		c.env.Fault("length out of range")
	}
	for i := range n {
		if i%spendPiece == 0 {
			c.env.Spend(min(spendPiece, n-i))
		}
		native.Store(uint64(a)+uint64(i), 1, 0)
	}
}

// spendPiece is how many bytes a unit of fuel pays for.
const spendPiece = 64
