package arena

import (
	"crypto/sha256"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// The jump of most sites leads to the first guard of the site, wherever that is. A punned
// one (jit.Pun) can lead to some addresses only, often to a single one. There stands an
// entrance, a jump to the first guard: the site's bytes stay as they are while guards
// come and go behind them, and an arena is made around it where there is none.

// Entrance is where a punned jump leads.
type Entrance struct {
	At  address.Addr // jit.LinkSize bytes in one page
	Pun jit.Pun
}

// entranceKey names the entrance of a site.
func entranceKey(site address.Addr, original []byte) Key {
	h := sha256.New()
	fmt.Fprintf(h, "entrance\x00%d\x00%x", site, original)
	return Key(h.Sum(nil)[:16])
}

// Entrance books the entrance of a site with these bytes, and returns the arena that has
// it: one that the process has, or a new one around an address that a pun leads to.
// image is what the arena is to be in reach of.
func (s *Space) Entrance(image Range, site address.Addr, original []byte, puns []jit.Pun) (*Arena, Entrance, error) {
	if s.padded {
		return nil, Entrance{}, fmt.Errorf("a jump over a short instruction needs memory mapped: %w", ErrNoGap)
	}
	key := entranceKey(site, original)
	var near []*Arena
	for _, a := range s.arenas {
		if a.Header.apart == 0 && a.fitsCode() && reaches(a.Base, image) {
			near = append(near, a)
		}
	}
	for _, a := range near {
		if i := a.slotOf(key, SlotEntrance); i >= 0 {
			if e, ok := entranceIn(puns, a.SlotRange(i)); ok {
				a.take(i)
				return a, e, nil
			}
		}
	}
	for _, a := range near {
		if a.hasRoom() {
			if e, ok := a.newEntrance(key, puns); ok {
				return a, e, nil
			}
		}
	}
	for _, among := range placesAround(image) {
		for _, p := range puns {
			base, ok := s.gapAround(image, p, among)
			if !ok {
				continue
			}
			a := New(base, s.info)
			if e, ok := a.newEntrance(key, puns); ok {
				s.add(a)
				return a, e, nil
			}
		}
	}
	return nil, Entrance{}, fmt.Errorf("none of the addresses that a jump over the instruction at %v can lead to is free: %w", site, ErrNoGap)
}

// slotOf returns the slot of this key and kind, or −1.
func (a *Arena) slotOf(k Key, kind SlotKind) int {
	for i, s := range a.Slots {
		if s.Size != 0 && s.Key == k && s.Kind == kind {
			return i
		}
	}
	return -1
}

// hasRoom reports whether an entrance and a guard behind it could still be booked.
func (a *Arena) hasRoom() bool {
	free := 0
	for _, s := range a.Slots {
		if s.Size == 0 || s.State == SlotFree {
			free++
		}
	}
	for _, g := range a.Guards {
		if g.State == Free {
			_, room := a.hole(0)
			return free >= 2 && room > 2*Granule
		}
	}
	return false
}

// newEntrance books an entrance at the first address of the code that is not in use.
func (a *Arena) newEntrance(key Key, puns []jit.Pun) (Entrance, bool) {
	record := a.freeSlot()
	if record < 0 {
		return Entrance{}, false
	}
	for _, p := range puns {
		for at := a.Base; ; {
			to, ok := p.Next(at)
			if !ok || to.Add(jit.LinkSize) > a.Code().End {
				break
			}
			r := entranceSlot(to)
			if blocked, ok := a.inUse(r); ok {
				at = max(blocked.End, to+1)
				continue
			}
			e, ok := entranceIn(puns, r)
			if !ok || r.End > a.Code().End {
				at = to + 1
				continue
			}
			start, size := uint32(r.Start-a.Base), uint32(r.End-r.Start)
			a.Slots[record] = Slot{}
			a.forget(start, size)
			a.Slots[record] = Slot{Key: key, Start: start, Size: size, Kind: SlotEntrance, State: SlotUsed}
			return e, true
		}
	}
	return Entrance{}, false
}

// freeSlot returns a slot record that may be used anew, or −1.
func (a *Arena) freeSlot() int {
	for i, s := range a.Slots {
		if s.Size == 0 {
			return i
		}
	}
	return a.reclaimable()
}

// inUse returns a slot that is not free and overlaps r.
func (a *Arena) inUse(r Range) (Range, bool) {
	for i, s := range a.Slots {
		if s.Size != 0 && s.State != SlotFree && a.SlotRange(i).Overlaps(r) {
			return a.SlotRange(i), true
		}
	}
	return Range{}, false
}

// entranceSlot is the slot of an entrance at to: whole granules.
func entranceSlot(to address.Addr) Range {
	start := to &^ (Granule - 1)
	end := (to.Add(jit.LinkSize) + Granule - 1) &^ (Granule - 1)
	return Range{start, end}
}

// entranceIn is the entrance in a slot. Another pie finds the same one.
func entranceIn(puns []jit.Pun, slot Range) (Entrance, bool) {
	for _, p := range puns {
		to, ok := p.Next(slot.Start)
		if ok && to.Add(jit.LinkSize) <= slot.End && to.Page() == to.Add(jit.LinkSize-1).Page() {
			return Entrance{to, p}, true
		}
	}
	return Entrance{}, false
}

// gapSteps bounds the addresses that gapAround looks at for one pun.
const gapSteps = 4096

// entrancePages are where, in a new arena's code, the page of its entrance may be, in bytes
// from its base. First so that entrances of functions near by, on both sides, find room
// there, too, and that the largest hole, where the guard goes, begins in this page.
var entrancePages = [...]address.Addr{28 << 10, 0, CodeSize - 4096}

// placesAround are where entrances of an image may be, the best first: below it, then
// above where the heap, of which a process that has just started has none, begins and
// grows, then anywhere.
func placesAround(image Range) []Range {
	const heap = 1 << 30
	if image.End <= image.Start || uint64(image.End-image.Start) >= Reach {
		return nil
	}
	floor := address.Addr(lowest + guardGap + CodeSize)
	if image.End > Reach+floor {
		floor = image.End - Reach
	}
	top := min(image.Start+Reach, highest)
	return []Range{{floor, image.Start}, {image.End + heap, top}, {floor, top}}
}

// gapAround finds where a new arena fits, whose code holds an address among those that p
// leads to, and that reaches all of image, and back.
func (s *Space) gapAround(image Range, p jit.Pun, among Range) (address.Addr, bool) {
	from := among.Start
	for range gapSteps {
		to, ok := p.Next(from)
		if !ok || to >= among.End {
			return 0, false
		}
		from = to + 1
		if to.Page() != to.Add(jit.LinkSize-1).Page() {
			continue
		}
		for _, page := range entrancePages {
			base := to.Page() - page
			hit, taken := s.inTheWay(base)
			switch {
			case taken:
				from = max(from, hit.End) // nothing fits around an address inside it
			case reaches(base, image) && base+Span+guardGap <= highest:
				return base, true
			case base > image.End:
				return 0, false // further up is further away
			}
		}
		from = max(from, to.Page()+4096)
	}
	return 0, false
}

// inTheWay returns a range that an arena at base would come too near to. Arenas may be
// close to one another: nothing of them grows.
func (s *Space) inTheWay(base address.Addr) (Range, bool) {
	for _, u := range s.close {
		room := address.Addr(guardGap)
		if s.inArena(u) {
			room = 4096
		}
		if u.Overlaps(Range{base - room, base + Span + room}) {
			return u, true
		}
	}
	return Range{}, false
}

func (s *Space) inArena(r Range) bool {
	for _, a := range s.arenas {
		if a.Range().Start <= r.Start && r.End <= a.Range().End {
			return true
		}
	}
	return false
}

// entranceOf returns the slot of the entrance to guard i's site, or −1 where it has none.
func (a *Arena) entranceOf(i int) int {
	g := &a.Guards[i]
	if g.Inner == 0 {
		return -1
	}
	return a.slotOf(entranceKey(g.Site, g.Original), SlotEntrance)
}

// EntranceOf returns the entrance to guard i's site, which these puns may lead to; none for
// a site that has none.
func (a *Arena) EntranceOf(i int, puns []jit.Pun) Entrance {
	slot := a.entranceOf(i)
	if slot < 0 {
		return Entrance{}
	}
	e, _ := entranceIn(puns, a.SlotRange(slot))
	return e
}

// EntranceSlot returns the slot of entrances in which one may stand at at, or −1.
func (a *Arena) EntranceSlot(at address.Addr) int {
	for i, s := range a.Slots {
		r := a.SlotRange(i)
		if s.Kind == SlotEntrance && s.Size != 0 && r.Start <= at && at.Add(jit.LinkSize) <= r.End {
			return i
		}
	}
	return -1
}

// closeEntrance frees the slot of the entrance to guard i's site, which left, if no other
// guard is there. clean says that no thread can be in it.
func (a *Arena) closeEntrance(i int, clean bool) {
	slot := a.entranceOf(i)
	if slot < 0 || len(a.GuardsAt(a.Guards[i].Site)) > 0 {
		return
	}
	a.Slots[slot].State = SlotQuarantined
	if clean {
		a.Slots[slot].State = SlotFree
	}
}
