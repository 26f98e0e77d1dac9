package arena

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

const testBase = 0x7f00_0000_0000

func testInfo() Info {
	return Info{Build: "test build", Creator: 4711, TSCHz: 2_500_000_000, TSC: 99, Created: time.Unix(1_790_000_000, 5)}
}

// filled returns an arena with one prepatch of two guards on two sites.
func filled(t testing.TB) *Arena {
	t.Helper()
	a := New(testBase, testInfo())
	a.Prepatches[3] = Prepatch{
		State: In, ID: "CVE-2024-31228", Hash: [32]byte{1, 2}, Inserted: time.Unix(1_790_000_001, 0), Guards: 2, Flags: FlagTrial,
	}
	for i, site := range []address.Addr{testBase + 1<<20, testBase + 1<<21} {
		p, err := a.Allot(Need{Program: [32]byte{1, 2}, Guard: "Match", Variant: "b", Site: site, Site0: []byte{1, 2, 3, 4, 5}})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Fit(p, 200); err != nil {
			t.Fatal(err)
		}
		g := &a.Guards[p.Index]
		g.Prepatch, g.Function, g.SiteOff, g.Order = 3, "stringmatchlen", 0x1234, 0
		g.State = []State{In, Prepared}[i]
		g.Image = Image{Name: "redis-server", Dev: 0xfe01, Inode: 77, BuildID: bytes.Repeat([]byte{0xab}, 20)}
		g.Body, g.Link = 3, 96
		g.Original, g.Patch = []byte{1, 2, 3, 4, 5}, []byte{0xe9, 0, 0, 0, 0}
		g.Base = Counts{Calls: 1, Logs: 6}
		a.Controls[p.Index][0] = 2
	}
	h, err := a.AllotCode(SlotHandler, Key{7}, 100)
	if err != nil {
		t.Fatal(err)
	}
	a.Handler = Handler{Slot: h, Block: bytes.Repeat([]byte{3}, jit.FaultsSize)}
	return a
}

func TestEncodeDecode(t *testing.T) {
	a := filled(t)
	b := a.Encode()
	if len(b) != StateSize {
		t.Fatalf("state of %d bytes, want %d", len(b), StateSize)
	}
	got, err := Decode(a.State().Start, b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Prepatches[3], a.Prepatches[3]) {
		t.Errorf("prepatch: got %+v, want %+v", got.Prepatches[3], a.Prepatches[3])
	}
	for i := range 2 {
		if !reflect.DeepEqual(got.Guards[i], a.Guards[i]) {
			t.Errorf("guard %d: got %+v, want %+v", i, got.Guards[i], a.Guards[i])
		}
	}
	if !reflect.DeepEqual(got.Slots, a.Slots) || !reflect.DeepEqual(got.Header, a.Header) || !reflect.DeepEqual(got.Handler, a.Handler) {
		t.Error("slots, header or handler differ after a round trip")
	}
	if !bytes.Equal(got.Encode(), b) {
		t.Error("encoding what was decoded gives other bytes")
	}
}

// Records that were written for a change that was given up are taken back whole, the
// handler's among them: it names a slot that is free again.
func TestRevert(t *testing.T) {
	empty := New(testBase, testInfo())
	state := empty.Encode()
	a, err := Decode(empty.State().Start, state)
	if err != nil {
		t.Fatal(err)
	}
	before := a.Snapshot()
	h, err := a.AllotCode(SlotHandler, Key{7}, 100)
	if err != nil {
		t.Fatal(err)
	}
	a.Handler.Slot = h
	write := func(records []Record) {
		for _, r := range records {
			copy(state[r.Off:], r.Bytes)
			a.Wrote(r)
		}
	}
	write(a.Changes())
	write(a.Revert(before))
	again, err := Decode(empty.State().Start, state)
	if err != nil {
		t.Fatal(err)
	}
	if again.Handler.Slot != -1 || !bytes.Equal(state, before) {
		t.Errorf("handler in slot %d, or other bytes than before", again.Handler.Slot)
	}
}

// The records of guards can be written ahead of all others that have changed.
func TestGuardChanges(t *testing.T) {
	state := filled(t).Encode()
	a, err := Decode(testBase+CodeSize, state)
	if err != nil {
		t.Fatal(err)
	}
	a.Prepatches[3].State, a.Guards[0].State, a.Slots[0].State = Leaving, Leaving, SlotQuarantined
	got := a.GuardChanges()
	if len(got) != 1 || !reflect.DeepEqual(got[0], a.EncodeGuard(0)) || len(a.Changes()) != 3 {
		t.Errorf("%d records of guards, %d in all: %+v", len(got), len(a.Changes()), got)
	}
}

// A record written alone lands where the whole encoding has it, and never
// crosses a page: a killed writer leaves it old or new.
func TestRecordsStandInOnePage(t *testing.T) {
	a := filled(t)
	whole := a.Encode()
	records := []Record{a.EncodeHeader(), a.EncodeHandler(), a.EncodeBlock()}
	for i := range a.Slots {
		records = append(records, a.EncodeSlot(i))
	}
	for i := range a.Prepatches {
		records = append(records, a.EncodePrepatch(i))
	}
	for i := range a.Guards {
		records = append(records, a.EncodeGuard(i), a.EncodeControl(i))
	}
	covered := make([]bool, StateSize)
	for _, r := range records {
		if !bytes.Equal(whole[r.Off:r.Off+len(r.Bytes)], r.Bytes) {
			t.Errorf("record at %d differs from the whole", r.Off)
		}
		if r.Off/4096 != (r.Off+len(r.Bytes)-1)/4096 {
			t.Errorf("record at %d of %d bytes crosses a page", r.Off, len(r.Bytes))
		}
		for i := range r.Bytes {
			if covered[r.Off+i] {
				t.Fatalf("two records share byte %d", r.Off+i)
			}
			covered[r.Off+i] = true
		}
	}
}

func TestFirstInsertionTouchesOnePageOfState(t *testing.T) {
	a := New(testBase, testInfo())
	last := 0
	for _, r := range []Record{a.EncodeHeader(), a.EncodeControl(0), a.EncodeSlot(1), a.EncodePrepatch(0), a.EncodeGuard(0)} {
		last = max(last, r.Off+len(r.Bytes))
	}
	if last > 4096 {
		t.Errorf("the first guard's records end at byte %d of the state", last)
	}
}

func TestDecodeRefuses(t *testing.T) {
	a := filled(t)
	good := a.Encode()
	state := a.State().Start
	tests := []struct {
		name string
		edit func(a *Arena)
	}{
		{"slot outside the code", func(a *Arena) { a.Slots[0].Start = CodeSize }},
		{"slot that ends outside", func(a *Arena) { a.Slots[0].Start = CodeSize - Granule }},
		{"unknown slot state", func(a *Arena) { a.Slots[0].State = 9 }},
		{"guard with a slot that does not exist", func(a *Arena) { a.Guards[0].Slot = MaxSlots }},
		{"guard with another kind of slot", func(a *Arena) { a.Guards[0].Slot = a.Handler.Slot }},
		{"guard of no prepatch", func(a *Arena) { a.Guards[0].Prepatch = MaxPrepatches }},
		{"unknown state", func(a *Arena) { a.Guards[0].State = 77 }},
		{"no original bytes", func(a *Arena) { a.Guards[0].Original = nil }},
		{"site in the kernel", func(a *Arena) { a.Guards[0].Site = 0xffff_ffff_8000_0000 }},
		{"order beyond all guards", func(a *Arena) { a.Guards[0].Order = 200 }},
		{"handler in no slot", func(a *Arena) { a.Handler.Slot = 999 }},
		{"table that ends outside", func(a *Arena) { a.Header.slots.count = 255 }},
		{"sum that overflows", func(a *Arena) { a.Header.guards.off = 0xffff_ff00 }},
		{"rows too short", func(a *Arena) { a.Header.guards.size = 8 }},
		{"no rows", func(a *Arena) { a.Header.guards.count = 0 }},
		{"region of odd size", func(a *Arena) { a.Header.shared = 5000 }},
		{"giant region", func(a *Arena) { a.Header.state = 1 << 31 }},
		{"shards of no size", func(a *Arena) { a.Header.shardSize = 0 }},
		{"ring head beyond its ring", func(a *Arena) { a.Header.ringHead = 1 << 20 }},
		{"link outside its slot", func(a *Arena) { a.Guards[0].Link = int(a.Slots[a.Guards[0].Slot].Size) }},
		{"link misaligned", func(a *Arena) { a.Guards[0].Link = 92 }},
		{"body behind the link", func(a *Arena) { a.Guards[0].Body = 104 }},
		{"another version", func(a *Arena) { a.Header.Version = formatVersion - 1 }},
		{"another base", func(a *Arena) { a.Base += 4096 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(good)
			x := filled(t)
			tt.edit(x)
			put := func(r Record) {
				if r.Off+len(r.Bytes) <= len(b) {
					copy(b[r.Off:], r.Bytes)
				}
			}
			put(x.EncodeHeader())
			if x.Header.geometry == ownGeometry() {
				put(x.EncodeSlot(0))
				put(x.EncodeGuard(0))
				put(x.EncodeHandler())
			}
			var corrupt *CorruptError
			if _, err := Decode(state, b); !errors.As(err, &corrupt) {
				t.Errorf("got %v, want a CorruptError", err)
			}
		})
	}
	t.Run("checksum", func(t *testing.T) {
		b := bytes.Clone(good)
		b[40] ^= 1
		var corrupt *CorruptError
		if _, err := Decode(state, b); !errors.As(err, &corrupt) {
			t.Errorf("got %v, want a CorruptError", err)
		}
	})
	t.Run("other memory", func(t *testing.T) {
		if _, err := Decode(state, make([]byte, StateSize)); !errors.Is(err, ErrNotArena) {
			t.Errorf("got %v, want ErrNotArena", err)
		}
	})
	for n := 0; n < len(good); n += 13 {
		if _, err := Decode(state, good[:n]); err == nil {
			t.Fatalf("%d of %d bytes decode", n, len(good))
		}
	}
}

// Random damage, with the header's checksum set right again: Decode refuses it
// or gives an arena in which nothing points outside.
func TestDecodeOfDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	good := filled(t).Encode()
	accepted := 0
	for range 4_000 {
		b := bytes.Clone(good)
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		seal(b)
		if a, err := Decode(testBase+CodeSize, b); err == nil {
			accepted++
			assertInside(t, a)
		}
	}
	if accepted == 0 || accepted == 4_000 {
		t.Errorf("%d of 4000 accepted", accepted)
	}
}

// assertInside checks that every address and row computed from an arena lies
// in it.
func assertInside(t *testing.T, a *Arena) {
	t.Helper()
	inside := func(r Range, at address.Addr, n int) {
		if at < r.Start || n < 0 || at.Add(int64(n)) > r.End {
			t.Fatalf("%d bytes at %v outside %v", n, at, r)
		}
	}
	for i := range a.Guards {
		at, n, size := a.Counters(i)
		inside(a.Shared(), at, n*size)
		inside(a.State(), a.Control(i), controlSize)
		if a.Guards[i].State != Free {
			inside(a.Code(), a.Start(i), 1)
			inside(a.Code(), a.Body(i), 1)
			inside(a.Code(), a.Link(i), jit.LinkSize)
			_ = a.Prepatches[a.Guards[i].Prepatch]
		}
	}
	at, head, slots, size := a.Ring()
	inside(a.Shared(), at, head+slots*size)
	for i := range a.Slots {
		inside(a.Code(), a.SlotAddr(i), int(a.Slots[i].Size))
	}
	a.Encode()
	a.Changes()
}

// Every page that is written is one the program did not have before.
func TestFirstGuardTouchesTwoPagesOfShared(t *testing.T) {
	a := New(testBase, testInfo())
	ring, head, count, size := a.Ring()
	counters, n, each := a.Counters(0)
	end := max(ring.Add(int64(head+count*size)), counters.Add(int64(n*each)))
	if end > a.Shared().Start.Add(2*4096) {
		t.Errorf("the ring and the first guard's counters end at byte %d of the shared region", end-a.Shared().Start)
	}
}

// Another build's arena, with tables of other sizes and places, reads the same.
func TestOtherGeometry(t *testing.T) {
	a := filled(t)
	g := &a.Header.geometry
	g.state = 16 << 10
	g.prepatches = table{10 << 10, 20, 128}
	g.guards.count = 10
	a.raw = make([]byte, g.state)
	for len(a.Prepatches) < 20 {
		a.Prepatches = append(a.Prepatches, Prepatch{})
	}
	a.Guards, a.Controls = a.Guards[:10], a.Controls[:10]
	got, err := Decode(a.State().Start, a.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if got.Prepatches[3].ID != "CVE-2024-31228" || len(got.Prepatches) != 20 || !reflect.DeepEqual(got.Guards[1], a.Guards[1]) {
		t.Errorf("%+v", got)
	}
	if got.Shared().Start != a.Base+CodeSize+16<<10 {
		t.Errorf("shared region at %v", got.Shared().Start)
	}
}

// FuzzDecode feeds Decode what a hostile process can write. Whatever it
// accepts, every address and row computed from it lies in the arena.
func FuzzDecode(f *testing.F) {
	f.Add(filled(f).Encode(), true)
	f.Add(New(testBase, testInfo()).Encode(), true)
	f.Add([]byte("PIEarna\x9d"), false)
	f.Fuzz(func(t *testing.T, b []byte, reseal bool) {
		if reseal && len(b) >= headerSize {
			b = bytes.Clone(b)
			seal(b)
		}
		a, err := Decode(testBase+CodeSize, b)
		if err != nil {
			return
		}
		assertInside(t, a)
	})
}
