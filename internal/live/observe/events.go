package observe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/clock"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// RingID names the memory that a prepatch's counts are in. Of a shared region it is the
// inode of the kernel's memory object, the same in all processes that forked from one another.
type RingID struct {
	File proc.FileID
	// Pid is of the process that has the counters for itself, in padding; 0 for shared ones.
	Pid int
}

// Cursor is how far the events of each ring were read. One cursor may be used
// for many processes: an event in a shared ring is then returned once.
type Cursor map[RingID]uint64

// Event is what a guard wrote down of one call: a claim of the process.
type Event struct {
	Ticket   uint64 // number in its ring
	Time     time.Time
	ID       string // of the prepatch that has or last had the guard's record
	Function string
	Guard    int // index in the arena
	Kind     uint32
	Tid      uint32 // 0 where the guard may not ask
	Code     uint32
	Args     [4]uint64
}

// Events returns the events of a process that c has not seen, oldest first, and
// how many were overwritten before they were read; it moves c.
func Events(p Process, c Cursor) (events []Event, lost uint64, err error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, 0, err
	}
	arenas, bad := ArenasIn(p, maps)
	for i, id := range ringIDs(p, arenas, maps) {
		if _, _, slots, _ := arenas[i].Ring(); slots == 0 || arenas[i].Mapped&arena.HasShared == 0 {
			continue
		}
		got, gone, next, err := readRing(p, arenas[i], c[id])
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		c[id] = next
		events = append(events, got...)
		lost += gone
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return events, lost, bad
}

// ringIDs returns the identities of the memory that the arenas count in.
func ringIDs(p Process, arenas []*arena.Arena, maps []proc.Mapping) []RingID {
	ids := make([]RingID, len(arenas))
	for i, a := range arenas {
		if _, padded := a.Padding(); padded {
			ids[i] = RingID{Pid: p.Pid()}
			continue
		}
		for _, m := range maps {
			if regionOf(a, m) == arena.HasShared {
				ids[i] = RingID{File: m.File}
			}
		}
	}
	return ids
}

// settle is how long a reader waits for writers that are still at it, before it
// takes them for dead.
const settle = 2 * time.Millisecond

// readRing returns the events with tickets from since on that are still in the
// ring, how many are not, and the ticket to go on from. A slot is taken when
// its sequence is that of its ticket before and after it was copied. A hostile
// head is only believed as far as the ring is long.
func readRing(p Process, a *arena.Arena, since uint64) (events []Event, lost, next uint64, err error) {
	at, _, slots, _ := a.Ring()
	var word [8]byte
	if _, err := p.ReadAt(word[:], at); err != nil {
		return nil, 0, since, fmt.Errorf("pid %d: events at %v: %w", p.Pid(), at, err)
	}
	end := binary.LittleEndian.Uint64(word[:])
	if end <= since {
		return nil, 0, end, nil
	}
	first := since
	if n := uint64(slots); end-since > n {
		first = end - n
		lost = first - since
	}
	got, err := readPublished(p, a, first, end)
	if err == nil && uint64(len(got)) < end-first {
		time.Sleep(settle)
		got, err = readPublished(p, a, first, end)
	}
	if err != nil {
		return nil, 0, since, err
	}
	return got, lost + end - first - uint64(len(got)), end, nil
}

// readPublished returns the events of tickets [first, end) that are whole.
func readPublished(p Process, a *arena.Arena, first, end uint64) ([]Event, error) {
	_, _, slots, size := a.Ring()
	before, err := readSlots(p, a)
	if err != nil {
		return nil, err
	}
	after, err := readSlots(p, a)
	if err != nil {
		return nil, err
	}
	c := clockOf(a)
	var events []Event
	for t := first; t != end; t++ {
		off := int(t%uint64(slots)) * size
		b, again := before[off:off+size], after[off:off+size]
		if binary.LittleEndian.Uint64(b[jit.EventSeq:]) == t+1 && bytes.Equal(b, again) {
			events = append(events, decodeEvent(a, t, b, c))
		}
	}
	return events, nil
}

func readSlots(p Process, a *arena.Arena) ([]byte, error) {
	at, head, slots, size := a.Ring()
	b := make([]byte, slots*size)
	if _, err := p.ReadAt(b, at.Add(int64(head))); err != nil {
		return nil, fmt.Errorf("pid %d: events at %v: %w", p.Pid(), at, err)
	}
	return b, nil
}

func decodeEvent(a *arena.Arena, ticket uint64, b []byte, c *clock.Clock) Event {
	e := Event{
		Ticket: ticket,
		Time:   c.At(binary.LittleEndian.Uint64(b[jit.EventTSC:])),
		Guard:  int(binary.LittleEndian.Uint32(b[jit.EventGuard:])),
		Kind:   binary.LittleEndian.Uint32(b[jit.EventKind:]),
		Tid:    binary.LittleEndian.Uint32(b[jit.EventTid:]),
		Code:   binary.LittleEndian.Uint32(b[jit.EventCode:]),
	}
	for i := range e.Args {
		e.Args[i] = binary.LittleEndian.Uint64(b[jit.EventArgs+8*i:])
	}
	if e.Guard < len(a.Guards) && a.Guards[e.Guard].Site != 0 {
		g := a.Guards[e.Guard]
		e.Function = g.Function
		if g.Prepatch >= 0 && g.Prepatch < len(a.Prepatches) {
			e.ID = a.Prepatches[g.Prepatch].ID
		}
	}
	return e
}
