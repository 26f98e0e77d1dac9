package arena

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

func TestGap(t *testing.T) {
	image := Range{0x5555_5555_4000, 0x5555_5560_0000}
	full := Range{image.Start - Reach - 1<<20, image.Start}
	above := Range{image.End, image.End + Reach}
	tests := []struct {
		name  string
		used  []Range
		image Range
		none  bool
	}{
		{"nothing else mapped", []Range{image}, image, false},
		{"neighbour just below", []Range{{image.Start - 0x10000, image.Start}, image}, image, false},
		{"everything below is taken", []Range{full, image}, image, false},
		{"everything within reach is taken", []Range{full, image, above}, image, true},
		{"the neighbours above and all below are taken", []Range{full, image, {image.End, image.End + 1<<30}, {image.End + 1<<30, image.End + 1<<30 + 1}}, image, false},
		{"a hole that is too small", []Range{{full.Start, image.Start - Span}, image, above}, image, true},
		{"a hole that is just large enough", []Range{{full.Start, image.Start - 2*Span - 2*guardGap}, {image.Start - Span, image.Start}, image}, image, false},
		{"an executable at its link address", []Range{{0x400000, 0x900000}}, Range{0x400000, 0x900000}, false},
		{"nothing below the executable", []Range{{lowest, 0x900000}}, Range{0x400000, 0x900000}, false},
		{"nothing below the executable, and a heap", []Range{{lowest, 0x900000}, {0x900000, 0x900000 + Reach}}, Range{0x400000, 0x900000}, true},
		{"an image of 2 GiB", nil, Range{1 << 40, 1<<40 + 1<<31}, true},
		{"an empty image", nil, Range{1 << 40, 1 << 40}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base, err := Gap(tt.used, tt.image)
			if tt.none {
				if !errors.Is(err, ErrNoGap) {
					t.Fatalf("got %v, %v; want ErrNoGap", base, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := Range{base, base + Span}
			for _, u := range tt.used {
				if u.Overlaps(got) {
					t.Errorf("%v overlaps %v", got, u)
				}
			}
			if !reaches(base, tt.image) || base < lowest || base != base.Page() || got.Overlaps(tt.image) {
				t.Errorf("%v for image %v", got, tt.image)
			}
		})
	}
}

func TestAllotIsStable(t *testing.T) {
	a := New(testBase, testInfo())
	need := Need{Program: [32]byte{9}, Guard: "G", Variant: "b", Site: testBase + 1<<20, Site0: []byte{1, 2, 3, 4, 5}}
	first := book(t, a, need, 300)
	if first.Code%Granule != 0 {
		t.Errorf("misaligned: %+v", first)
	}
	for range 1000 {
		release(a, first.Index)
		if again := book(t, a, need, 300); again.Code != first.Code || again.Index != first.Index {
			t.Fatalf("the same program got %+v, before %+v", again, first)
		}
	}
}

// Two guards on one site share nothing.
func TestAllotOnOneSite(t *testing.T) {
	a := New(testBase, testInfo())
	need := Need{Guard: "G", Site: testBase + 1<<20, Site0: []byte{1, 2, 3, 4, 5}}
	p := book(t, a, need, 100)
	need.Program = [32]byte{1}
	q := book(t, a, need, 100)
	if p.Code == q.Code || p.Control == q.Control || p.Counters == q.Counters {
		t.Errorf("%+v\n%+v", p, q)
	}
}

// Whatever is inserted and removed, live slots never overlap, quarantined ones
// are never handed to another program, and a full arena says so.
func TestAllotNeverOverlaps(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		a := New(testBase, testInfo())
		var live []int
		for step := range 400 {
			if len(live) > 0 && r.IntN(3) == 0 {
				i := r.IntN(len(live))
				g := &a.Guards[live[i]]
				g.State = Free
				a.Slots[g.Slot].State = []SlotState{SlotFree, SlotQuarantined}[r.IntN(2)]
				live = append(live[:i], live[i+1:]...)
				continue
			}
			p, err := a.Allot(Need{Program: [32]byte{byte(step), byte(r.IntN(2))}, Site: testBase + 1<<20 + address.Addr(step%5), Site0: []byte{1}})
			if err == nil {
				err = a.Fit(p, 1+r.IntN(p.Room))
			}
			if err != nil {
				if !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
				break
			}
			a.Guards[p.Index].Prepatch = 0
			live = append(live, p.Index)
			assertDisjoint(t, a)
		}
	}
}

func assertDisjoint(t *testing.T, a *Arena) {
	t.Helper()
	for i, s := range a.Slots {
		for j, o := range a.Slots[:i] {
			if s.Size > 0 && o.Size > 0 && s.Start < o.Start+o.Size && o.Start < s.Start+s.Size {
				t.Fatalf("slots %d and %d overlap: %+v %+v", i, j, s, o)
			}
		}
		if s.Start+s.Size > CodeSize {
			t.Fatalf("slot %d ends outside: %+v", i, s)
		}
	}
}

func TestNearUsesWhatIsThere(t *testing.T) {
	exe, lib := Range{0x5555_5555_4000, 0x5555_5560_0000}, Range{0x7fff_f000_0000, 0x7fff_f010_0000}
	s := NewSpace(nil, []Range{exe, lib}, testInfo())
	a, err := s.Near(exe)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Near(lib)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Near(exe)
	if err != nil || again != a || b == a || len(s.Arenas()) != 2 {
		t.Errorf("arenas %v %v %v, error %v", a, b, again, err)
	}
}

// Code has the number of event slots in its instructions: in a ring of another
// size it would write beyond the ring's end.
func TestNearLeavesAnotherBuildsArenaAlone(t *testing.T) {
	exe := Range{0x5555_5555_4000, 0x5555_5560_0000}
	theirs := New(0x5555_5550_0000, testInfo())
	theirs.Header.events.count = eventSlots / 2
	theirs.Mapped = HasAll
	s := NewSpace([]*Arena{theirs}, []Range{exe, theirs.Range()}, testInfo())
	a, err := s.Near(exe)
	if err != nil || a == theirs || a.Range().Overlaps(theirs.Range()) {
		t.Errorf("arena %v beside %v, error %v", a, theirs, err)
	}
}

// A removal that was killed between the records of a prepatch and of its guard: the
// guard's is freed with the next look, and its code waits for threads to leave it.
func TestGuardWithoutPrepatchIsLeftBehind(t *testing.T) {
	a := filled(t)
	i := a.GuardsOf(3)[0]
	a.Guards[i].State, a.Prepatches[3].State = Leaving, Free
	a.AbandonSlots()
	if a.Guards[i].State != Free || a.Slots[a.Guards[i].Slot].State != SlotQuarantined {
		t.Errorf("guard %v, slot %+v", a.Guards[i].State, a.Slots[a.Guards[i].Slot])
	}
}

func book(t *testing.T, a *Arena, n Need, size int) Place {
	t.Helper()
	p, err := a.Allot(n)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Fit(p, size); err != nil {
		t.Fatal(err)
	}
	return p
}

// release does to the model what a removal does.
func release(a *Arena, i int) {
	g := &a.Guards[i]
	g.State = Free
	a.Slots[g.Slot].State = SlotQuarantined
}

func seal(b []byte) {
	order.PutUint32(b[headerSize-4:], checksum(b[:headerSize-4]))
}
