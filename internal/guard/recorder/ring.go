package recorder

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// Ring is where the slots are in the prepatch's state. From At on:
//
//	 0  limit   u64: the number of the first slot that must not be taken yet
//	 8  next    u64: the number of the next slot
//	16  every   u64: one in so many calls is recorded; 0 and 1 record each
//	24  seen    u64: calls counted for every
//	32  drops   u64: calls not recorded because another took a slot just then
//	40  owner   u64: who reads; not touched by recorders
//	48  mark    RingMagic, written by who reads
//	64  lanes   of 16 bytes: the frame of the call that has it, 0 for none; its slot's number
//	64 + 16*lanes  slots
//
// Slot number n, counted from 0 for ever, is slot n modulo Slots. Words of 8 bytes,
// little-endian:
//
//	  0  n+1 of what is published in it
//	  8  n+1 of who writes it
//	 16  guard
//	 24  bytes used, from the slot's begin
//	 32  1 when memory is missing that did not fit
//	 40  address of the return address
//	 48  return address
//	 56  CLOCK_MONOTONIC in nanoseconds
//	 64  address of the read under way
//	 72  the guard's verdict, or an Ended value
//	 80  argument words
//	152  entries
//
// An entry begins with a word that has an address or number in bits 0–46. Bit 63
// set: a read of 2 bytes, which are bits 47–62. Else bits 60–62 are the kind: a
// byte (bits 47–54), 4 or 8 bytes (the next word), a block (its length in the next
// word, then its bytes in whole words), or a helper's number and answer.
type Ring struct {
	At    int // offset in the state
	Slots int // a power of two
	Size  int // of a slot, a power of two
}

// Sizes of a slot, in bytes.
const (
	MinSlot = 256
	MaxSlot = 8 << 10
)

// Bytes of slots: as many as the guards' own state leaves room for.
const (
	maxSlots = 128 << 10
	minSlots = 16 << 10
)

// Offsets of the ring's words.
const (
	RingLimit = 0
	RingNext  = 8
	RingEvery = 16
	RingDrops = 32
	RingOwner = 40
	RingMark  = 48 // RingMagic

	ringSeen  = 24
	ringLanes = 64
	laneCount = 512
	laneSize  = 16
)

// Offsets in a slot.
const (
	slotDone    = 0
	slotTaken   = 8
	slotGuard   = 16
	slotUsed    = 24
	slotCut     = 32
	slotSP      = 40
	slotReturn  = 48
	slotNow     = 56
	slotReading = 64
	slotVerdict = 72
	slotArgs    = 80
	slotEntries = slotArgs + 8*bpf.FrameArgs
)

// Kinds of entry, bits 60–62 of its first word.
const (
	kindByte   = 1
	kindWord4  = 2
	kindWord8  = 3
	kindBlock  = 4
	kindHelper = 5
)

// addressBits is how many bits of an entry's first word are the address.
const addressBits = 47

// copying stands in slotReading while a block is copied: a fault there is not the
// guard's own.
const copying = -1

// NewRing returns the ring behind state bytes of the guards' own, with slots of at
// least size bytes.
func NewRing(state uint32, size int) (Ring, error) {
	size = min(max(size, MinSlot), MaxSlot)
	r := Ring{At: (max(int(state), bpf.StateFirst) + 63) &^ 63, Size: 1 << bits.Len(uint(size-1))}
	for room := maxSlots; room >= minSlots; room /= 2 {
		r.Slots = room / r.Size
		if r.State() <= bpf.MaxState {
			return r, nil
		}
	}
	return Ring{}, &UnsupportedError{fmt.Sprintf("its %d bytes of state leave no room for what is recorded", state)}
}

// State is how many bytes of state the recorder has.
func (r Ring) State() uint32 { return uint32(r.slots() + r.Slots*r.Size) }

// slots is the offset of the first slot in the state.
func (r Ring) slots() int { return r.At + ringLanes + laneCount*laneSize }

// RingMagic stands at RingMark, and tells a ring whose place in the state is not known: that of
// the recorders of another version.
var RingMagic = [8]byte{'P', 'I', 'E', 'r', 'i', 'n', 'g', 0x9d}

// FindRing returns where in a state the ring is; ok is false when there is none.
func FindRing(state []byte) (at int, ok bool) {
	for ; at+ringLanes <= len(state); at += 64 {
		if bytes.Equal(state[at+RingMark:][:len(RingMagic)], RingMagic[:]) {
			return at, true
		}
	}
	return 0, false
}

// SlotAt is the offset of slot number n in the state.
func (r Ring) SlotAt(n uint64) int { return r.slots() + int(n&uint64(r.Slots-1))*r.Size }

// Room is how many bytes of entries a slot has.
func (r Ring) Room() int { return r.Size - slotEntries }

// Published reports whether the slot in b holds call number n.
func Published(b []byte, n uint64) bool {
	return len(b) >= slotEntries && word(b, slotDone) == n+1
}

func word(b []byte, off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
