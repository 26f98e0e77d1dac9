package arena

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// ErrNotArena means that bytes do not open with an arena's magic.
var ErrNotArena = errors.New("not an arena of pie")

// CorruptError means that a state region has the magic of an arena and cannot
// be one: another format, or overwritten.
type CorruptError struct {
	Base address.Addr
	Msg  string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("arena at %v: %s", e.Base, e.Msg)
}

// Limits on what Decode believes of another build's geometry.
const (
	maxRegion = 1 << 20
	maxRows   = 256
)

// HasMagic reports whether b opens like an arena's state region.
func HasMagic(b []byte) bool { return len(b) >= len(magic) && bytes.Equal(b[:len(magic)], magic[:]) }

// Decode reads the state region that starts at state in a process. The error
// is ErrNotArena or a *CorruptError.
func Decode(state address.Addr, b []byte) (*Arena, error) {
	if !HasMagic(b) {
		return nil, ErrNotArena
	}
	a, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) (*Arena, error) {
		return nil, &CorruptError{state, fmt.Sprintf(format, args...)}
	}
	if a.State().Start != state {
		return bad("its header is that of an arena at %v", a.Base)
	}
	if uint64(len(b)) < uint64(a.Header.state) {
		return bad("%d bytes of state where the header says %d", len(b), a.Header.state)
	}
	if what := a.Header.geometry.check(a.Header.apart != 0); what != "" {
		return bad("%s", what)
	}
	a.raw = bytes.Clone(b[:a.Header.state])
	g := a.Header.geometry
	for i := range int(g.slots.count) {
		a.Slots = append(a.Slots, decodeSlot(g.slots.cut(b, i)))
	}
	for i := range int(g.prepatches.count) {
		a.Prepatches = append(a.Prepatches, decodePrepatch(g.prepatches.cut(b, i)))
	}
	for i := range int(g.guards.count) {
		a.Guards = append(a.Guards, decodeGuard(g.guards.cut(b, i)))
		a.Controls = append(a.Controls, bytes.Clone(g.controls.cut(b, i)))
	}
	a.Handler = decodeHandler(b[g.handler : g.handler+handlerSize])
	if what := a.check(); what != "" {
		return bad("%s", what)
	}
	return a, nil
}

func decodeHeader(b []byte) (*Arena, error) {
	r := reader{b: b[min(len(b), len(magic)):]}
	a := &Arena{}
	a.Header.Version = r.u32()
	size := r.u32()
	a.Base = address.Addr(r.u64())
	bad := func(format string, args ...any) (*Arena, error) {
		return nil, &CorruptError{a.Base, fmt.Sprintf(format, args...)}
	}
	if a.Header.Version != formatVersion {
		return bad("format version %d, this pie reads version %d: use the pie that inserted it", a.Header.Version, formatVersion)
	}
	if size != headerSize || len(b) < headerSize {
		return bad("a header of %d bytes", size)
	}
	if order.Uint32(b[headerSize-4:]) != checksum(b[:headerSize-4]) {
		return bad("the header's checksum is wrong")
	}
	g := &a.Header.geometry
	for _, p := range []*uint32{&g.code, &g.state, &g.shared, &a.Header.Creator} {
		*p = r.u32()
	}
	a.Header.TSCHz, a.Header.TSC, a.Header.Created = r.u64(), r.u64(), r.time()
	for _, t := range []*table{&g.controls, &g.slots, &g.prepatches, &g.guards, &g.counters, &g.events} {
		t.off, t.count, t.size = r.u32(), r.u32(), r.u32()
	}
	g.ringHead, g.shardSize, g.handler = r.u32(), r.u32(), r.u32()
	a.Header.Build = r.text(buildMax)
	a.Header.apart = int64(r.u64())
	if r.short {
		return bad("the header is cut short")
	}
	return a, nil
}

// cut returns row i; check has proven that it lies in b.
func (t table) cut(b []byte, i int) []byte {
	at := t.row(i)
	return b[at : at+t.size]
}

func decodeSlot(b []byte) Slot {
	r := reader{b: b}
	var s Slot
	copy(s.Key[:], r.take(len(s.Key)))
	s.Start, s.Size = uint32(r.u16())*Granule, uint32(r.u16())*Granule
	s.Kind, s.State = SlotKind(r.u8()), SlotState(r.u8())
	r.u16()
	s.Content = r.u64()
	return s
}

func decodePrepatch(b []byte) Prepatch {
	r := reader{b: b}
	var p Prepatch
	p.ID = r.text(idMax)
	copy(p.Hash[:], r.take(len(p.Hash)))
	p.Inserted = r.time()
	p.Guards, p.Flags, p.State = int(r.u16()), Flags(r.u16()), State(r.u8())
	return p
}

func decodeGuard(b []byte) Guard {
	r := reader{b: b}
	var g Guard
	g.State, g.Order = State(r.u8()), int(r.u8())
	g.Prepatch, g.Body, g.Slot = int(int16(r.u16())), int(r.u16()), int(r.u16())
	g.Site, g.SiteOff = address.Addr(r.u64()), address.Off(r.u64())
	g.Image.Dev, g.Image.Inode = r.u64(), r.u64()
	n, note := min(int(r.u8()), MaxPatch), min(int(r.u8()), noteMax)
	g.FaultMode = r.u8()
	g.Inner = int(r.u8())
	g.Link = int(r.u16())
	g.Base.Refused = uint64(r.u16())
	g.Original = bytes.Clone(r.take(MaxPatch)[:n])
	g.Patch = bytes.Clone(r.take(MaxPatch)[:n])
	g.Image.BuildID = bytes.Clone(r.take(noteMax)[:note])
	c := &g.Base
	for _, p := range []*uint64{&c.Calls, &c.Rejects, &c.Audited, &c.Faults, &c.Fuel, &c.Logs} {
		*p = r.u64()
	}
	g.Function, g.Image.Name = r.text(funcMax), r.text(imageMax)
	return g
}

func decodeHandler(b []byte) Handler {
	r := reader{b: b}
	return Handler{
		Slot:  int(r.u16()) - 1,
		Block: bytes.Clone(b[handlerRecord : handlerRecord+jit.FaultsSize]),
	}
}
