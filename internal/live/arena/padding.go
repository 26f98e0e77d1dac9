package arena

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// Where no system call can be made in a process, nothing can be mapped in it. An arena
// then lies in bytes that its files leave unused: code in the rest of the last page of
// a text segment, everything else in the rest of the last page of a data segment. It has
// the tables of any other, with fewer rows; no event ring; and counters of the process's
// own, as its pages are private. The code is a quiet guard's (jit.Layout.Quiet).
//
// At the end of the text page an anchor says where both are, so that the mappings of
// code lead to it. The anchor is written first and cleared last: what stands in padding is
// always named. All of it was zero before, and is again when the last guard has left.

// Padding is where an arena in unused bytes is. Each range lies in one page.
type Padding struct {
	Code  Range // r-x; the anchor stands behind it, at the end of the page
	State Range // rw-, private
}

// AnchorSize is the size of an anchor, in bytes.
const AnchorSize = 32

// paddingUnit is what the sizes of both ranges, and the start of the state, are a multiple
// of: a control block never spans two cache lines.
const paddingUnit = 64

var anchorMagic = [8]byte{'P', 'I', 'E', 'a', 'n', 'c', 'h', 0x9d}

// Anchor is where the anchor is.
func (p Padding) Anchor() Range { return Range{p.Code.End, p.Code.End.Add(AnchorSize)} }

// EncodeAnchor returns the anchor's bytes.
func (p Padding) EncodeAnchor() []byte {
	w := writer{make([]byte, 0, AnchorSize)}
	w.bytes(anchorMagic[:])
	w.u64(uint64(p.State.Start))
	w.u32(uint32(p.State.End - p.State.Start))
	w.u32(uint32(p.Code.End - p.Code.Start))
	w.pad(AnchorSize - 4)
	w.u32(checksum(w.b))
	return w.b
}

// DecodeAnchor reads what may be an anchor, at the end of a page that ends at end; ok is
// false when it is none. Both ranges are sound, and may be anywhere.
func DecodeAnchor(end address.Addr, b []byte) (p Padding, ok bool) {
	if len(b) != AnchorSize || [8]byte(b[:8]) != anchorMagic || order.Uint32(b[AnchorSize-4:]) != checksum(b[:AnchorSize-4]) {
		return Padding{}, false
	}
	r := reader{b: b[8:]}
	state, stateSize, codeSize := address.Addr(r.u64()), r.u32(), r.u32()
	if codeSize > page || stateSize > page || state > highest {
		return Padding{}, false
	}
	p.Code.End = end - AnchorSize
	p.Code.Start = p.Code.End - address.Addr(codeSize)
	p.State = Range{state, state.Add(int64(stateSize))}
	return p, p.sound()
}

// sound reports whether each range is in one page, and of a size that an arena can have.
func (p Padding) sound() bool {
	inPage := func(r Range) bool {
		return r.Start < r.End && r.Start.Page() == (r.End-1).Page() && (r.End-r.Start)%paddingUnit == 0
	}
	return inPage(Range{p.Code.Start, p.Code.End}) && p.Code.Start.Page() == (p.Anchor().End-1).Page() &&
		inPage(p.State) && p.State.Start%paddingUnit == 0
}

// Write is bytes for an address. It never crosses a page.
type Write struct {
	At    address.Addr
	Bytes []byte
}

// Clear returns the writes that make everything zero again, in their order.
func (p Padding) Clear() []Write {
	var out []Write
	for _, r := range []Range{p.Code, p.State, p.Anchor()} {
		out = append(out, Write{r.Start, make([]byte, r.End-r.Start)})
	}
	return out
}

// NewInPadding returns an empty arena in p, which TrimPadding returned.
func NewInPadding(p Padding, in Info) (*Arena, error) {
	g, ok := paddingGeometry(uint32(p.Code.End-p.Code.Start), uint32(p.State.End-p.State.Start))
	if !ok || !p.sound() {
		return nil, fmt.Errorf("%d bytes at %v: %w", p.State.End-p.State.Start, p.State.Start, ErrNoPadding)
	}
	a := newArena(p.Code.Start, in, g, int64(p.State.Start-p.Code.Start))
	a.Mapped = HasAll
	return a, nil
}

// Padding is where the arena is; ok is false for one that has mappings of its own.
func (a *Arena) Padding() (p Padding, ok bool) {
	return Padding{a.Code(), a.State()}, a.Header.apart != 0
}

// Empty reports whether no prepatch has a record in it.
func (a *Arena) Empty() bool {
	for _, p := range a.Prepatches {
		if p.State != Free {
			return false
		}
	}
	return true
}

// Bytes of state that an arena in padding takes, and that each of its guards does.
const (
	paddingFixed = headerSize + handlerSize
	paddingGuard = controlSize + jit.QuietCountersSize + guardSize + 2*slotSize + prepatchSize
)

// paddingGeometry is the geometry of an arena in padding: as many guards as its state
// has room for, each with a slot of code to spare.
func paddingGeometry(code, state uint32) (geometry, bool) {
	if state < paddingFixed+paddingGuard {
		return geometry{}, false
	}
	n := min((state-paddingFixed)/paddingGuard, MaxGuards)
	g := geometry{code: code, state: state, shared: state, shardSize: jit.QuietCountersSize}
	off := uint32(headerSize)
	place := func(count, size uint32) table {
		t := table{off, count, size}
		off += count * size
		return t
	}
	g.controls = place(n, controlSize)
	g.counters = place(n, jit.QuietCountersSize)
	g.slots = place(2*n, slotSize)
	g.prepatches = place(min(n, MaxPrepatches), prepatchSize)
	g.guards = place(n, guardSize)
	g.events = table{off: off, size: eventSize}
	g.handler = off
	return g, g.check(true) == ""
}

// ErrNoPadding means that the unused bytes behind a process's segments are too few.
var ErrNoPadding = errors.New("not enough unused bytes behind its segments")

// PaddingError says how many unused bytes an image has in reach, and how many are needed.
type PaddingError struct {
	Code, State         int // the most in one place
	NeedCode, NeedState int
}

func (e *PaddingError) Error() string {
	return fmt.Sprintf("behind its code %d bytes are unused and at least %d are needed, behind its data %d and at least %d", e.Code, e.NeedCode, e.State, e.NeedState)
}

// Is makes every PaddingError match ErrNoPadding.
func (e *PaddingError) Is(target error) bool { return target == ErrNoPadding }

// UsePadding makes the space one in which nothing can be mapped: new arenas go into
// unused bytes, text and data, each in one page of a private mapping and all zero. Those
// named first are preferred among equals.
func (s *Space) UsePadding(text, data []Range) {
	s.padded, s.text, s.data = true, text, data
}

// nearPadding is Near where nothing can be mapped.
func (s *Space) nearPadding(image Range) (*Arena, error) {
	for _, a := range s.arenas {
		if p, ok := a.Padding(); ok && a.fitsCode() && p.reaches(image) {
			return a, nil
		}
	}
	short := &PaddingError{NeedCode: leastPadding + AnchorSize, NeedState: int(roundUp(paddingFixed+paddingGuard, paddingUnit))}
	var best Padding
	for _, t := range s.text {
		short.Code = max(short.Code, int(t.End-t.Start))
		for _, d := range s.data {
			short.State = max(short.State, int(d.End-d.Start))
			if p, ok := trim(t, d); ok && p.reaches(image) && p.roomier(best) {
				best = p
			}
		}
	}
	if best == (Padding{}) {
		return nil, short
	}
	a, err := NewInPadding(best, s.info)
	if err != nil {
		return nil, err
	}
	s.arenas = append(s.arenas, a)
	return a, nil
}

// leastPadding is the least room for code, in bytes: the smallest guards take so much.
const leastPadding = 128

// enoughState is how much state is worth looking for, in bytes: for four guards.
const enoughState = 2560

// trim cuts a text and a data padding to what an arena uses of them.
func trim(text, data Range) (p Padding, ok bool) {
	room := uint64(text.End - text.Start)
	if room < leastPadding+AnchorSize || text.End.Page() != text.End {
		return p, false
	}
	p.Code.End = text.End - AnchorSize
	p.Code.Start = p.Code.End - address.Addr((room-AnchorSize)/paddingUnit*paddingUnit)
	p.State.Start = (data.Start + paddingUnit - 1) / paddingUnit * paddingUnit
	if p.State.Start >= data.End {
		return p, false
	}
	p.State.End = p.State.Start + (data.End-p.State.Start)/paddingUnit*paddingUnit
	_, ok = paddingGeometry(uint32(p.Code.End-p.Code.Start), uint32(p.State.End-p.State.Start))
	return p, ok && p.sound()
}

// roomier reports whether p is to be preferred to q: for its code, then for its state.
func (p Padding) roomier(q Padding) bool {
	code, state := p.Code.End-p.Code.Start, min(p.State.End-p.State.Start, enoughState)
	qCode, qState := q.Code.End-q.Code.Start, min(q.State.End-q.State.Start, enoughState)
	return code > qCode || code == qCode && state > qState
}

// reaches reports whether a branch gets from the code to anywhere in image and back, and
// its instructions to the state.
func (p Padding) reaches(image Range) bool {
	low := min(p.Code.Start, p.State.Start, image.Start)
	high := max(p.Anchor().End, p.State.End, image.End)
	return uint64(high-low) < Reach
}
