package arena

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// Place is where one guard goes: everything that compiling it and relocating
// its site's prologue must know. It is booked in the arena's model only; the
// process learns of it when the plan is inserted.
type Place struct {
	Arena    *Arena
	Index    int          // of the record: Guards
	Guard    int          // of the guard: control block, counters, number in events; Index, unless it gets other code (AllotAgain)
	Code     address.Addr // of the block, aligned to a granule
	Room     int          // bytes there
	Control  address.Addr
	Counters address.Addr
	Events   address.Addr // 0: none are kept, and the guard is to be a quiet one
	Reach    Range        // of the arena
}

// Space is the address space of a process as an allocator sees it: the arenas
// it has, and the gaps between its mappings.
type Space struct {
	arenas []*Arena
	used   []Range
	info   Info
	close  []Range // as used, with less of what the heap is to grow into

	padded     bool // nothing can be mapped
	text, data []Range
}

// NewSpace returns the allocator over a process's arenas (from
// observe.Arenas) and all of its mappings.
func NewSpace(arenas []*Arena, used []Range, in Info) *Space {
	s := &Space{used: used, info: in, close: used}
	for _, a := range arenas {
		if a.Mapped == HasAll || a.completable(used) {
			s.arenas = append(s.arenas, a)
		}
	}
	return s
}

// completable reports whether the regions that an arena lacks are still free.
func (a *Arena) completable(used []Range) bool {
	for _, r := range a.Missing() {
		if _, taken := lowestOverlap(used, r.Range); taken {
			return false
		}
	}
	return true
}

// Arenas are the arenas of the process and those that Near added.
func (s *Space) Arenas() []*Arena { return s.arenas }

// Near returns an arena whose every byte reaches every byte of image: one the
// process has, or a new one in a free gap (Gap). An arena that another
// build of pie made with other tables keeps its guards and gets no new ones.
func (s *Space) Near(image Range) (*Arena, error) {
	if s.padded {
		return s.nearPadding(image)
	}
	for _, a := range s.arenas {
		if a.Header.apart == 0 && a.fitsCode() && reaches(a.Base, image) {
			return a, nil
		}
	}
	base, err := Gap(s.used, image)
	if err != nil {
		return nil, err
	}
	a := New(base, s.info)
	s.add(a)
	return a, nil
}

// add notes a new arena.
func (s *Space) add(a *Arena) {
	s.arenas = append(s.arenas, a)
	s.used = append(slices.Clip(s.used), a.Range())
	s.close = append(slices.Clip(s.close), a.Range())
}

// UseClose says what a new arena keeps clear of that can be in few places only.
func (s *Space) UseClose(used []Range) { s.close = used }

// fitsCode reports whether the tables that guards write to are as the code that
// this build makes has them: their sizes are in its instructions.
func (a *Arena) fitsCode() bool {
	g := &a.Header.geometry
	if a.Header.apart != 0 {
		return g.shardSize == jit.QuietCountersSize && g.controls.size == controlSize
	}
	return g.ringHead == ringHead && g.events.count == eventSlots && g.events.size == eventSize &&
		g.shardSize == shardSize && g.controls.size == controlSize
}

// Need is what a guard asks an arena for.
type Need struct {
	Program [32]byte // content hash of the prepatch
	Guard   string   // the guard's name in it
	Variant string   // all else that the code depends on: pie's build, the fault mode, symbols' addresses
	Site    address.Addr
	Site0   []byte // original bytes of the site
	Calls   bool   // it calls functions of the program
}

func (n Need) guardKey() Key {
	h := sha256.New()
	fmt.Fprintf(h, "guard\x00%x\x00%s\x00%s\x00%d\x00%x", n.Program, n.Guard, n.Variant, n.Site, n.Site0)
	return Key(h.Sum(nil)[:16])
}

// Allot books a place for a guard. The same need gets the same slot again,
// also after a removal; the block must then have the size it had. Fit ends
// the booking once the block's size is known.
func (a *Arena) Allot(n Need) (Place, error) {
	kind := SlotGuard
	if n.Calls {
		kind = SlotCaller
	}
	s, err := a.slotFor(n.guardKey(), kind, 0)
	if err != nil {
		return Place{}, err
	}
	i := a.freeGuard(s)
	if i < 0 {
		return Place{}, fmt.Errorf("%v: all %d guards in use: %w", a, len(a.Guards), ErrFull)
	}
	a.Guards[i] = Guard{State: Prepared, Prepatch: -1, Site: n.Site, Slot: s}
	counters, _, _ := a.Counters(i)
	events, _, slots, _ := a.Ring()
	if slots == 0 {
		events = 0
	}
	return Place{
		Arena: a, Index: i, Guard: i, Code: a.Start(i), Room: int(a.Slots[s].Size),
		Control: a.Control(i), Counters: counters, Events: events, Reach: a.Range(),
	}, nil
}

// AllotCode books a slot of the given kind for size bytes that the key names.
func (a *Arena) AllotCode(kind SlotKind, key Key, size int) (slot int, err error) {
	if size <= 0 || size > CodeSize {
		return 0, fmt.Errorf("%v: %d bytes of code: %w", a, size, ErrFull)
	}
	return a.slotFor(key, kind, uint32(size))
}

// Fit shrinks the place's slot to a block of size bytes.
func (a *Arena) Fit(p Place, size int) error {
	if p.Arena != a || size <= 0 || size > p.Room {
		return fmt.Errorf("%v: a block of %d bytes in a slot of %d: %w", a, size, p.Room, ErrFull)
	}
	s := &a.Slots[a.Guards[p.Index].Slot]
	s.Size = roundUp(uint32(size), Granule)
	return nil
}

// slotFor finds the slot with this key, or books a new one; size 0 books all
// of the largest free range, for Fit to shrink.
func (a *Arena) slotFor(k Key, kind SlotKind, size uint32) (int, error) {
	free := -1
	for i, s := range a.Slots {
		if s.Size != 0 && s.Key == k && s.Kind == kind {
			a.take(i)
			return i, nil
		}
		if free < 0 && s.Size == 0 {
			free = i
		}
	}
	if free < 0 {
		free = a.reclaimable()
	}
	if free < 0 {
		return 0, fmt.Errorf("%v: all %d code slots in use: %w", a, len(a.Slots), ErrFull)
	}
	a.Slots[free] = Slot{}
	start, room := a.hole(size)
	if room == 0 {
		return 0, fmt.Errorf("%v: no %d bytes of code left: %w", a, size, ErrFull)
	}
	if size != 0 {
		room = roundUp(size, Granule)
	}
	a.forget(start, room)
	a.Slots[free] = Slot{Key: k, Start: start, Size: room, Kind: kind, State: SlotUsed}
	return free, nil
}

// take marks a slot that its program found again.
func (a *Arena) take(i int) {
	s := &a.Slots[i]
	s.was = s.State
	switch s.State {
	case SlotFree:
		s.State = SlotUsed
	case SlotQuarantined:
		s.State = SlotReused
	}
}

// reclaimable returns a free slot record that still remembers a program.
func (a *Arena) reclaimable() int {
	for i, s := range a.Slots {
		if s.State == SlotFree {
			return i
		}
	}
	return -1
}

// hole returns the first free range of at least size bytes, or with size 0
// the largest. Ranges of freed slots are taken only when nothing else is
// left, so that their programs find them again.
func (a *Arena) hole(size uint32) (start, room uint32) {
	for _, keep := range []bool{true, false} {
		at := uint32(0)
		for {
			end, next := a.nextSlot(at, keep)
			if n := end - at; n >= max(size, a.minBlock()) && n > room {
				start, room = at, n
				if size != 0 {
					return start, room
				}
			}
			if next == 0 {
				break
			}
			at = next
		}
		if room != 0 {
			break
		}
	}
	return start, room
}

// minBlock is the least room worth compiling a guard into.
func (a *Arena) minBlock() uint32 {
	if a.Header.apart != 0 {
		return Granule
	}
	return 256
}

// nextSlot returns where the first occupied slot at or after at starts, and
// where it ends; 0 when there is none.
func (a *Arena) nextSlot(at uint32, keepFree bool) (start, end uint32) {
	start = a.Header.code
	for _, s := range a.Slots {
		if s.Size == 0 || (s.State == SlotFree && !keepFree) {
			continue
		}
		if s.Start >= at && s.Start < start {
			start, end = s.Start, s.Start+s.Size
		}
	}
	return start, end
}

// forget drops the records of free slots that overlap a range just taken.
func (a *Arena) forget(start, room uint32) {
	for i, s := range a.Slots {
		if s.State == SlotFree && s.Size != 0 && s.Start < start+room && start < s.Start+s.Size {
			a.Slots[i] = Slot{}
		}
	}
}

// freeGuard returns the guard record to use with slot s: one it had before,
// else one never used, else any free one; −1 when all are in use.
func (a *Arena) freeGuard(s int) int {
	never, any := -1, -1
	for i, g := range a.Guards {
		if g.State != Free {
			continue
		}
		switch {
		case g.Site != 0 && g.Slot == s:
			return i
		case g.Site == 0 && never < 0:
			never = i
		case any < 0:
			any = i
		}
	}
	if never >= 0 {
		return never
	}
	return any
}

func roundUp(n, to uint32) uint32 { return (n + to - 1) / to * to }
