package arena

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// framePuns are the ways to jump over push %rbp in front of mov %rsp,%rbp: to one address.
func framePuns(site address.Addr) (original []byte, puns []jit.Pun) {
	original = []byte{0x55, 0x48, 0x89, 0xe5, 0x48}
	return original, jit.Puns(site, original, 1, func(int) bool { return false })
}

var smallImage = Range{0x400000, 0x700000}

func entrance(t *testing.T, s *Space, site address.Addr) (*Arena, Entrance) {
	t.Helper()
	original, puns := framePuns(site)
	a, e, err := s.Entrance(smallImage, site, original, puns)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Code().Contains(e.At) || a.EntranceSlot(e.At) < 0 || !reaches(a.Base, smallImage) {
		t.Fatalf("the entrance at %v is not in %v", e.At, a)
	}
	return a, e
}

// put makes a guard at a site with an entrance.
func put(t *testing.T, a *Arena, site address.Addr, guard string) int {
	t.Helper()
	p, err := a.Allot(Need{Program: [32]byte{1}, Guard: guard, Site: site})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Fit(p, 200); err != nil {
		t.Fatal(err)
	}
	g := &a.Guards[p.Index]
	g.Original, _ = framePuns(site)
	g.Patch, g.Inner, g.State, g.Prepatch, g.Link = g.Original, 1, In, 0, 8
	return p.Index
}

// The guards of a site share its entrance, which is free when the last has left; another
// pie finds the same again.
func TestEntranceLifetime(t *testing.T) {
	site := address.Addr(0x4d1900)
	s := NewSpace(nil, []Range{smallImage}, Info{})
	a, e := entrance(t, s, site)
	first := put(t, a, site, "A")
	if b, f := entrance(t, s, site); b != a || f != e {
		t.Fatalf("another guard's entrance is at %v, not %v", f.At, e.At)
	}
	second := put(t, a, site, "B")
	slot := a.EntranceSlot(e.At)
	a.AbandonSlots()
	a.Release(first, true)
	if a.Slots[slot].State != SlotUsed {
		t.Errorf("a guard is left, and its entrance is %v", a.Slots[slot].State)
	}
	a.Release(second, false)
	if a.Slots[slot].State != SlotQuarantined || !a.Quarantined() {
		t.Errorf("a thread may be in the entrance, and it is %v", a.Slots[slot].State)
	}
	a.EndQuarantine()
	if a.Slots[slot].State != SlotFree {
		t.Errorf("nobody is in the entrance, and it is %v", a.Slots[slot].State)
	}
	a.Prepatches[0].State = In
	back, err := Decode(a.State().Start, a.Encode())
	if err != nil {
		t.Fatal(err)
	}
	back.Mapped = HasAll
	if b, f := entrance(t, NewSpace([]*Arena{back}, []Range{smallImage, back.Range()}, Info{}), site); b != back || f != e {
		t.Errorf("another pie's entrance is at %v in %v, not %v in %v", f.At, b, e.At, a)
	}
}

// Entrances never overlap one another or a guard's code, and each is where its site's jump leads.
func TestEntrancesOfManySites(t *testing.T) {
	s := NewSpace(nil, []Range{smallImage}, Info{})
	if _, err := s.Near(smallImage); err != nil {
		t.Fatal(err)
	}
	seen := map[address.Addr]bool{}
	near, tight, none := address.Addr(0x440000), 0, 0
	for k := range 32 {
		site := 0x401000 + address.Addr(rand.IntN(0x10000))*32
		if k < 12 { // functions of one package: their entrances are in one arena
			site = near + address.Addr(rand.IntN(512)-256)*64
		}
		original, puns := framePuns(site)
		a, e, err := s.Entrance(smallImage, site, original, puns)
		if errors.Is(err, ErrNoGap) {
			if none++; k < 12 {
				tight++
			}
			continue // the address is in an arena's data, or a guard's code
		} else if err != nil {
			t.Fatalf("site %d at %v: %v", k, site, err)
		}
		patch, err := e.Pun.Write(original, e.At)
		if err != nil {
			t.Fatal(err)
		}
		if to, ok := jit.ReadPunned(site, patch); !ok || to != e.At {
			t.Errorf("the jump of %v leads to %v, its entrance is at %v", site, to, e.At)
		}
		if e.At.Page() != e.At.Add(jit.LinkSize-1).Page() {
			t.Errorf("the entrance at %v spans two pages", e.At)
		}
		if k == 0 {
			near = site
		}
		if !seen[site] && a.hasRoom() {
			put(t, a, site, "A")
		}
		seen[site] = true
	}
	t.Logf("%d of 32 have no room beside the others, %d of 12 near by, %d arenas", none, tight, len(s.Arenas()))
	if none > 16 || tight > 4 {
		t.Errorf("%d of 32 have no room", none)
	}
	for i, a := range s.Arenas() {
		for j, b := range s.Arenas() {
			if i != j && a.Range().Overlaps(b.Range()) {
				t.Errorf("%v and %v overlap", a, b)
			}
		}
		checkSlots(t, a)
	}
}

func checkSlots(t *testing.T, a *Arena) {
	t.Helper()
	for i, s := range a.Slots {
		for j := range a.Slots {
			if i != j && s.Size > 0 && a.Slots[j].Size > 0 && a.SlotRange(i).Overlaps(a.SlotRange(j)) {
				t.Errorf("%v: slots %d and %d overlap", a, i, j)
			}
		}
	}
}

// Where the address that a jump leads to is in use, there is no entrance.
func TestNoEntrance(t *testing.T) {
	site := address.Addr(0x4d1900)
	original, puns := framePuns(site)
	to, ok := puns[0].Next(0)
	if !ok {
		t.Fatal("the jump leads nowhere")
	}
	for _, used := range [][]Range{
		{smallImage, {to - 0x1000, to}},
		{smallImage, {to + 0x1000, to + 0x2000}},
		{smallImage, {0x700000, 1 << 47}},
	} {
		s := NewSpace(nil, used, Info{})
		if a, e, err := s.Entrance(smallImage, site, original, puns); !errors.Is(err, ErrNoGap) || len(s.Arenas()) != 0 {
			t.Errorf("an entrance at %v in %v: %v", e.At, a, err)
		}
	}
}

// A hostile process's record says that a punned jump replaces more than there is.
func TestDecodeInner(t *testing.T) {
	s := NewSpace(nil, []Range{smallImage}, Info{})
	a, _ := entrance(t, s, 0x4d1900)
	i := put(t, a, 0x4d1900, "A")
	a.Prepatches[0].State = In
	a.Guards[i].Inner = 6
	var corrupt *CorruptError
	if _, err := Decode(a.State().Start, a.Encode()); !errors.As(err, &corrupt) {
		t.Errorf("%v", err)
	}
}
