package arena

import (
	"errors"
	"fmt"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// Arena is one arena, as encoded in a state region.
type Arena struct {
	Base       address.Addr
	Header     Header
	Slots      []Slot
	Prepatches []Prepatch
	Guards     []Guard
	Controls   [][]byte // raw control blocks, by guard
	Handler    Handler
	Mapped     Regions // which regions the process has

	raw []byte // the state region as the process has it
}

// Regions is a set of regions.
type Regions uint8

// The regions of an arena; a process that a dying pie left half-way has some.
const (
	HasState Regions = 1 << iota
	HasCode
	HasShared
	HasAll = HasState | HasCode | HasShared
)

// Header says who made the arena, when, and where its tables are.
type Header struct {
	Version uint32
	Build   string    // of the pie that made it, at most 31 bytes
	Creator uint32    // the process it was made in; its children inherit it
	TSCHz   uint64    // frequency of the time stamp counter
	TSC     uint64    // the counter at Created
	Created time.Time // with TSC, converts event times
	// apart is where the state starts, from the base: 0 where the regions are mapped
	// for the arena, each behind the other; else it is one in padding.
	apart int64
	geometry
}

// geometry is where the tables of an arena stand: offsets from the start of
// the state region, or, for counters and events, of the shared region.
type geometry struct {
	code, state, shared                 uint32
	controls, slots, prepatches, guards table
	counters                            table // one row a guard: its shards
	events                              table // rows of the ring, after its head
	ringHead                            uint32
	shardSize                           uint32
	handler                             uint32
}

// table is count rows of size bytes from off.
type table struct{ off, count, size uint32 }

func (t table) row(i int) uint32 { return t.off + uint32(i)*t.size }

// Info is what New records about its maker.
type Info struct {
	Build   string
	Creator int
	TSCHz   uint64
	TSC     uint64
	Created time.Time
}

// ErrFull means that an arena has no room for another guard.
var ErrFull = errors.New("arena is full")

// New returns an empty arena at base, with this build's geometry.
func New(base address.Addr, in Info) *Arena { return newArena(base, in, ownGeometry(), 0) }

func newArena(base address.Addr, in Info, g geometry, apart int64) *Arena {
	a := &Arena{
		Base: base,
		Header: Header{
			Version: formatVersion, Build: in.Build, Creator: uint32(in.Creator),
			TSCHz: in.TSCHz, TSC: in.TSC, Created: in.Created, apart: apart, geometry: g,
		},
		Slots:      make([]Slot, g.slots.count),
		Prepatches: make([]Prepatch, g.prepatches.count),
		Guards:     make([]Guard, g.guards.count),
		Controls:   make([][]byte, g.guards.count),
		raw:        make([]byte, g.state),
	}
	a.Handler = Handler{Slot: -1, Block: make([]byte, jit.FaultsSize)}
	for i := range a.Controls {
		a.Controls[i] = make([]byte, controlSize)
	}
	return a
}

// Code is the range of the code region.
func (a *Arena) Code() Range {
	return Range{a.Base, a.Base.Add(int64(a.Header.code))}
}

// State is the range of the private data region.
func (a *Arena) State() Range {
	s := a.Code().End
	if a.Header.apart != 0 {
		s = a.Base.Add(a.Header.apart)
	}
	return Range{s, s.Add(int64(a.Header.state))}
}

// Shared is the range of the shared region; in padding the counters are in the state.
func (a *Arena) Shared() Range {
	if a.Header.apart != 0 {
		return a.State()
	}
	s := a.State().End
	return Range{s, s.Add(int64(a.Header.shared))}
}

// Range is the whole arena; of one in padding, its code.
func (a *Arena) Range() Range {
	if a.Header.apart != 0 {
		return a.Code()
	}
	return Range{a.Base, a.Shared().End}
}

// Control is the address of guard i's control block.
func (a *Arena) Control(i int) address.Addr {
	return a.State().Start.Add(int64(a.Header.controls.row(i)))
}

// Counters is the address of guard i's shards, and their number and size.
func (a *Arena) Counters(i int) (at address.Addr, shards, size int) {
	g := a.Header.geometry
	return a.Shared().Start.Add(int64(g.counters.row(i))), int(g.counters.size / g.shardSize), int(g.shardSize)
}

// Ring is the address of the event ring, the size of its head, and the number
// and size of its slots: none in padding.
func (a *Arena) Ring() (at address.Addr, head, slots, size int) {
	g := a.Header.geometry
	return a.Shared().Start.Add(int64(g.events.off - g.ringHead)), int(g.ringHead), int(g.events.count), int(g.events.size)
}

// SlotAddr is where slot i's code starts.
func (a *Arena) SlotAddr(i int) address.Addr { return a.Base.Add(int64(a.Slots[i].Start)) }

// SlotRange is the range of slot i.
func (a *Arena) SlotRange(i int) Range {
	s := a.SlotAddr(i)
	return Range{s, s.Add(int64(a.Slots[i].Size))}
}

// PrepatchByID returns the index of the prepatch in use with this id, or −1.
func (a *Arena) PrepatchByID(id string) int {
	for i, p := range a.Prepatches {
		if p.State != Free && p.ID == id {
			return i
		}
	}
	return -1
}

// GuardsOf returns the indices of the guards of prepatch i.
func (a *Arena) GuardsOf(i int) []int {
	var out []int
	for j, g := range a.Guards {
		if g.State != Free && g.Prepatch == i {
			out = append(out, j)
		}
	}
	return out
}

// GuardsAt returns the indices of the guards in use at a site, in their order.
func (a *Arena) GuardsAt(site address.Addr) []int {
	var out []int
	for order := 0; order < len(a.Guards); order++ {
		for j, g := range a.Guards {
			if g.State != Free && g.Site == site && g.Order == order {
				out = append(out, j)
			}
		}
	}
	return out
}

// Start is where guard i's block starts: the site's jump leads there when the
// guard is the first.
func (a *Arena) Start(i int) address.Addr { return a.SlotAddr(a.Guards[i].Slot) }

// Body is where the guard ahead of guard i leads to.
func (a *Arena) Body(i int) address.Addr { return a.Start(i).Add(int64(a.Guards[i].Body)) }

// Link is the address of guard i's link, jit.LinkSize bytes.
func (a *Arena) Link(i int) address.Addr { return a.Start(i).Add(int64(a.Guards[i].Link)) }

func (a *Arena) String() string { return fmt.Sprintf("arena at %v", a.Base) }

// Release frees guard i's record and its slot. clean says that no thread can be
// in it. What the guard was stays readable, so that old events keep their names.
func (a *Arena) Release(i int, clean bool) {
	g := &a.Guards[i]
	g.State = Free
	a.Slots[g.Slot].State = SlotQuarantined
	if clean && a.Slots[g.Slot].Kind != SlotCaller {
		a.Slots[g.Slot].State = SlotFree
	}
	a.closeEntrance(i, clean)
}

// Quarantined reports whether some slot waits for threads to leave it.
func (a *Arena) Quarantined() bool {
	for _, s := range a.Slots {
		if s.Kind != SlotCaller && (s.State == SlotQuarantined || s.State == SlotReused) {
			return true
		}
	}
	return false
}

// EndQuarantine notes that no thread is in the arena's code.
func (a *Arena) EndQuarantine() {
	for i := range a.Slots {
		s := &a.Slots[i]
		if s.Kind == SlotCaller {
			continue // where a thread's pc is says nothing of what it returns to
		}
		switch s.State {
		case SlotQuarantined:
			s.State = SlotFree
		case SlotReused:
			s.State = SlotUsed
		}
	}
}

// Abandon frees what a pie that died while preparing has left: guard i's
// record, which no site ever led to.
func (a *Arena) Abandon(i int) {
	a.Guards[i].State = Free
	a.AbandonSlots()
}

// AbandonSlots frees the slots in use that no guard refers to. They go back to
// what they were before they were prepared. A guard that was leaving, and whose
// prepatch's record is free already, has left: its site was restored before.
func (a *Arena) AbandonSlots() {
	for i, g := range a.Guards {
		if g.State == Leaving && a.Prepatches[g.Prepatch].State == Free {
			a.Release(i, false)
		}
	}
	used := map[int]bool{}
	for i, g := range a.Guards {
		if g.State != Free {
			used[g.Slot] = true
			used[a.entranceOf(i)] = true
		}
	}
	for i := range a.Slots {
		s := &a.Slots[i]
		switch {
		case used[i] || a.inHandler(i):
		case s.State == SlotUsed:
			s.State = SlotFree // no site ever led there
		case s.State == SlotReused:
			s.State = SlotQuarantined
		}
	}
}

// Unreached reports whether no site ever led into the arena: nothing of the
// program has run its code or can know its address.
func (a *Arena) Unreached() bool {
	for _, g := range a.Guards {
		if g.State != Free || g.Site != 0 {
			return false
		}
	}
	return !a.Quarantined() && a.table() == 0
}

// Forget drops the record of guard i, which was never in, as if it had never
// been made.
func (a *Arena) Forget(i int) {
	a.Guards[i] = Guard{}
	a.AbandonSlots()
}

// inHandler reports whether slot i is the handler, or its table.
func (a *Arena) inHandler(i int) bool {
	return a.HasHandler() && (i == a.Handler.Slot || a.Slots[i].Kind == SlotTable && a.table() == a.SlotAddr(i))
}

// HasHandler reports whether table mode's handler stands in the arena, with a
// table.
func (a *Arena) HasHandler() bool { return a.Handler.Slot >= 0 && a.table() != 0 }

// table is where the fault block says that the table is.
func (a *Arena) table() address.Addr {
	if len(a.Handler.Block) < jit.FaultsTable+8 {
		return 0
	}
	return address.Addr(order.Uint64(a.Handler.Block[jit.FaultsTable:]))
}

// Was returns the state that slot i was in before Allot took it.
func (a *Arena) Was(i int) SlotState { return a.Slots[i].was }
