package recorder

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A Slot is one call as a recorder wrote it down: a claim of the process.
type Slot struct {
	Number     uint64 // of the call in its process, from 0
	Guard      int
	SP, Return uint64
	Now        uint64 // CLOCK_MONOTONIC, nanoseconds
	Args       [bpf.FrameArgs]uint64
	End        End
	Verdict    bpf.Verdict // of EndVerdict
	Reading    uint64      // of EndFault: the address that could not be read; 0 when it is not known
	Reads      []Read      // in the order they were made
	Answers    []Answer    // of helpers that read no memory
}

// A Read is memory that the guard read.
type Read struct {
	Addr  uint64
	Bytes []byte
}

// An Answer is what a helper returned.
type Answer struct {
	Helper bpf.Helper
	Value  uint64
}

// End is how the guard ended.
type End uint8

// Ends of a guard.
const (
	EndVerdict End = iota // it came to a verdict
	EndCut                // the record was full
	EndFault              // a read faulted
	EndFuel               // it ran too long
	EndUnasked            // argument words were recorded, the guard did not run

	Ends // how many there are
)

// ErrSlot says that a slot does not hold what a recorder writes.
var ErrSlot = errors.New("a slot of the recording that no recorder wrote")

// DecodeSlot reads a slot that Published says holds call n. Its slices are of b.
func DecodeSlot(b []byte, n uint64) (Slot, error) {
	used := word(b, slotUsed)
	if used < slotEntries || used > uint64(len(b)) || used%8 != 0 {
		return Slot{}, fmt.Errorf("%d of %d bytes used: %w", used, len(b), ErrSlot)
	}
	s := Slot{Number: n, SP: word(b, slotSP), Return: word(b, slotReturn), Now: word(b, slotNow)}
	if s.Guard = int(uint32(word(b, slotGuard))); word(b, slotGuard) >= 1<<16 {
		return Slot{}, fmt.Errorf("guard %d: %w", word(b, slotGuard), ErrSlot)
	}
	for k := range s.Args {
		s.Args[k] = word(b, slotArgs+8*k)
	}
	s.ending(b)
	return s, s.entries(b[slotEntries:used])
}

// ending reads how the guard ended. A read that faulted while its bytes were being
// copied is not the guard's: the record is not whole.
func (s *Slot) ending(b []byte) {
	v := int64(word(b, slotVerdict))
	reading := word(b, slotReading)
	switch {
	case word(b, slotCut) != 0, v == unfinished:
		s.End = EndCut
	case v == faulted && int64(reading) == copying:
		s.End = EndCut
	case v == faulted:
		s.End, s.Reading = EndFault, reading
	case v == outOfFuel:
		s.End = EndFuel
	case v == unasked:
		s.End = EndUnasked
	case v >= 0 && v <= 1<<32-1 && bpf.Verdict(v).Legal():
		s.Verdict = bpf.Verdict(v)
	default:
		s.End = EndCut
	}
}

// entries reads what was read.
func (s *Slot) entries(b []byte) error {
	for len(b) > 0 {
		w := word(b, 0)
		addr := w & (1<<addressBits - 1)
		if w>>63 != 0 {
			s.Reads = append(s.Reads, Read{addr, []byte{byte(w >> addressBits), byte(w >> (addressBits + 8))}})
			b = b[8:]
			continue
		}
		kind := w >> 60
		if kind == kindByte {
			s.Reads = append(s.Reads, Read{addr, []byte{byte(w >> addressBits)}})
			b = b[8:]
			continue
		}
		if len(b) < 16 {
			return fmt.Errorf("an entry is cut off: %w", ErrSlot)
		}
		n := 0 // bytes behind the first word
		switch kind {
		case kindWord4:
			s.Reads, n = append(s.Reads, Read{addr, b[8:12]}), 8
		case kindWord8:
			s.Reads, n = append(s.Reads, Read{addr, b[8:16]}), 8
		case kindHelper:
			s.Answers, n = append(s.Answers, Answer{bpf.Helper(addr), word(b, 8)}), 8
		case kindBlock:
			size := word(b, 8)
			if size > uint64(len(b)-16) {
				return fmt.Errorf("a block of %d bytes is cut off: %w", size, ErrSlot)
			}
			s.Reads = append(s.Reads, Read{addr, b[16 : 16+size]})
			n = 8 + int(size+7)&^7
		default:
			return fmt.Errorf("an entry of kind %d: %w", kind, ErrSlot)
		}
		if n > len(b)-8 {
			return fmt.Errorf("an entry is cut off: %w", ErrSlot)
		}
		b = b[8+n:]
	}
	return nil
}
