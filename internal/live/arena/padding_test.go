package arena

import (
	"bytes"
	"errors"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

const (
	textEnd = testBase + 0x5000 // of a text segment's last page
	dataEnd = testBase + 0x9000
)

// padded is a space in which nothing can be mapped, with so many unused bytes.
func padded(text, data int) *Space {
	s := NewSpace(nil, nil, testInfo())
	s.UsePadding([]Range{{address.Addr(textEnd - text), textEnd}}, []Range{{address.Addr(dataEnd - data), dataEnd}})
	return s
}

// image is what is guarded beside the padding.
var image = Range{testBase, testBase + 0x9000}

func filledPadding(t testing.TB, text, data int) *Arena {
	t.Helper()
	a, err := padded(text, data).Near(image)
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Allot(Need{Guard: "G", Site: testBase + 0x100, Site0: []byte{1, 2, 3, 4, 5}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Fit(p, 100); err != nil {
		t.Fatal(err)
	}
	g := &a.Guards[p.Index]
	g.State, g.Prepatch, g.Link = In, 0, 64
	g.Original, g.Patch = []byte{1, 2, 3, 4, 5}, []byte{0xe9, 0, 0, 0, 0}
	a.Prepatches[0] = Prepatch{State: In, ID: "P-1", Guards: 1}
	return a
}

// An arena in padding lies in the bytes it was given, is read back from its anchor and its
// state, and clears them all.
func TestPaddingArena(t *testing.T) {
	for _, room := range [][2]int{{160, 960}, {161, 991}, {4064, 4096}, {900, 2500}, {4095, 1000}} {
		a := filledPadding(t, room[0], room[1])
		l, ok := a.Padding()
		if !ok || l.Code.Start < address.Addr(textEnd-room[0]) || l.Anchor().End != textEnd || l.State.Start < address.Addr(dataEnd-room[1]) || l.State.End > dataEnd {
			t.Errorf("%v: %v", room, l)
		}
		if back, ok := DecodeAnchor(textEnd, l.EncodeAnchor()); !ok || back != l {
			t.Errorf("%v: the anchor says %v, %v", room, back, ok)
		}
		got, err := Decode(l.State.Start, a.Encode())
		if err != nil {
			t.Fatalf("%v: %v", room, err)
		}
		if is, ok := got.Padding(); !ok || is != l || got.Prepatches[0].ID != "P-1" || got.Empty() {
			t.Errorf("%v: read back: %v, %+v", room, is, got)
		}
		assertApart(t, got)
		cleared := 0
		for _, w := range l.Clear() {
			if w.At.Page() != w.At.Add(int64(len(w.Bytes))-1).Page() || !bytes.Equal(w.Bytes, make([]byte, len(w.Bytes))) {
				t.Errorf("%v: a write of %d bytes at %v", room, len(w.Bytes), w.At)
			}
			cleared += len(w.Bytes)
		}
		if want := int(l.Code.End-l.Code.Start+l.State.End-l.State.Start) + AnchorSize; cleared != want {
			t.Errorf("%v: %d bytes are cleared, of %d", room, cleared, want)
		}
	}
}

// assertApart checks that no two tables of an arena in padding share a byte, and that all
// are in its state.
func assertApart(t testing.TB, a *Arena) {
	t.Helper()
	g := a.Header.geometry
	taken := make([]bool, g.state)
	for _, x := range []table{{0, 1, headerSize}, g.controls, g.counters, g.slots, g.prepatches, g.guards, {g.handler, 1, handlerSize}} {
		for off := x.off; off < x.row(int(x.count)); off++ {
			if taken[off] {
				t.Fatalf("byte %d of the state is in two tables", off)
			}
			taken[off] = true
		}
	}
	for i := range a.Guards {
		if at, shards, size := a.Counters(i); at%64 != 0 || shards != 1 || size != jit.QuietCountersSize || a.Control(i)%64 != 0 {
			t.Errorf("guard %d: counters at %v, %d of %d bytes, control block at %v", i, at, shards, size, a.Control(i))
		}
	}
}

// Where room is short that is said, with what is needed.
func TestPaddingShort(t *testing.T) {
	for _, room := range [][2]int{{150, 4000}, {4000, 900}, {0, 0}} {
		_, err := padded(room[0], room[1]).Near(image)
		var short *PaddingError
		if !errors.As(err, &short) || !errors.Is(err, ErrNoPadding) || short.Code != room[0] || short.State != room[1] {
			t.Errorf("%v: %v", room, err)
		}
	}
	far := Range{testBase + 3<<30, testBase + 3<<30 + 4096}
	if _, err := padded(4000, 4000).Near(far); !errors.Is(err, ErrNoPadding) {
		t.Errorf("out of reach: %v", err)
	}
	a := filledPadding(t, 400, 4096)
	n := 0
	for ; n < 10; n++ {
		p, err := a.Allot(Need{Guard: "G", Site: testBase + 0x200 + address.Addr(n)})
		if err != nil {
			if !errors.Is(err, ErrFull) {
				t.Error(err)
			}
			break
		}
		if a.Fit(p, 100) != nil {
			break
		}
	}
	if n != 1 { // 320 bytes of code, of which the first guard has 128
		t.Errorf("%d further guards fit", n)
	}
}

// FuzzDecodeAnchor: whatever the end of a page holds, what is read from it lies in one page
// of code and one of state.
func FuzzDecodeAnchor(f *testing.F) {
	f.Add(Padding{Range{textEnd - 96, textEnd - 32}, Range{dataEnd - 1024, dataEnd}}.EncodeAnchor(), true)
	f.Add(make([]byte, AnchorSize), false)
	f.Fuzz(func(t *testing.T, b []byte, reseal bool) {
		if reseal && len(b) == AnchorSize {
			b = order.AppendUint32(bytes.Clone(b[:AnchorSize-4]), checksum(b[:AnchorSize-4]))
		}
		p, ok := DecodeAnchor(textEnd, b)
		if !ok {
			return
		}
		for _, r := range []Range{{p.Code.Start, p.Anchor().End}, p.State} {
			if r.Start >= r.End || r.End-r.Start > 4096 || r.Start.Page() != (r.End-1).Page() {
				t.Errorf("%+v", p)
			}
		}
	})
}
