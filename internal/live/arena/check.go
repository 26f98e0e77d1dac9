package arena

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// ownGeometry is the geometry of arenas that this build makes.
func ownGeometry() geometry {
	return geometry{
		code: CodeSize, state: StateSize, shared: SharedSize,
		controls:   table{controlOff, MaxGuards, controlSize},
		slots:      table{slotOff, MaxSlots, slotSize},
		prepatches: table{prepatchOff, MaxPrepatches, prepatchSize},
		guards:     table{guardOff, MaxGuards, guardSize},
		counters:   table{ringHead + eventSlots*eventSize, MaxGuards, shards * shardSize},
		events:     table{ringHead, eventSlots, eventSize},
		ringHead:   ringHead,
		shardSize:  shardSize,
		handler:    handlerOff,
	}
}

// check says what is wrong with a geometry, or "". It proves that every row of
// every table lies in its region and is as long as this build's records, and
// that no sum overflows. padded: the arena is one in padding.
func (g *geometry) check(padded bool) string {
	unit, largest, leastShard := uint32(page), uint32(maxRegion), uint32(shardSize)
	if padded {
		unit, largest, leastShard = paddingUnit, page, jit.QuietCountersSize
	}
	for _, n := range []uint32{g.code, g.state, g.shared} {
		if n == 0 || n > largest || n%unit != 0 {
			return fmt.Sprintf("a region of %d bytes", n)
		}
	}
	tables := []struct {
		name   string
		t      table
		least  uint32 // bytes of a row
		region uint32
	}{
		{"control", g.controls, controlSize, g.state},
		{"slot", g.slots, slotSize, g.state},
		{"prepatch", g.prepatches, prepatchSize, g.state},
		{"guard", g.guards, guardSize, g.state},
		{"counter", g.counters, g.shardSize, g.shared},
		{"event", g.events, eventSize, g.shared},
	}
	for _, x := range tables {
		limit := uint32(maxRows)
		if x.name == "event" {
			limit = maxRegion / eventSize
		}
		if x.t.count == 0 && !(padded && x.name == "event") || x.t.count > limit || x.t.size < x.least || x.t.size > maxRegion {
			return fmt.Sprintf("a %s table of %d rows of %d bytes", x.name, x.t.count, x.t.size)
		}
		if end := uint64(x.t.off) + uint64(x.t.count)*uint64(x.t.size); end > uint64(x.region) {
			return fmt.Sprintf("a %s table that ends at %d of %d bytes", x.name, end, x.region)
		}
	}
	switch {
	case g.controls.count < g.guards.count || g.counters.count < g.guards.count:
		return "fewer control blocks or counters than guards"
	case padded && (g.shared != g.state || g.shardSize != leastShard || g.events.count != 0):
		return "counters or events that padding has no room for"
	case g.shardSize < leastShard || g.counters.size%g.shardSize != 0 || g.shardSize%8 != 0 || g.counters.off%8 != 0:
		return fmt.Sprintf("counter shards of %d bytes", g.shardSize)
	case !padded && g.ringHead < 8 || g.ringHead > g.events.off || g.ringHead%8 != 0 || g.events.off%8 != 0 || g.events.size%8 != 0:
		return fmt.Sprintf("an event ring with a head of %d bytes", g.ringHead)
	case g.handler%8 != 0 || uint64(g.handler)+handlerSize > uint64(g.state):
		return "a handler record outside the state"
	}
	return ""
}

// check says what is wrong with the records of an arena whose geometry is
// sound, or "".
func (a *Arena) check() string {
	for i, s := range a.Slots {
		if uint64(s.Start)+uint64(s.Size) > uint64(a.Header.code) || s.State > SlotReused || s.Kind > SlotEntrance {
			return fmt.Sprintf("slot %d: %d bytes at %#x, kind %d, state %d", i, s.Size, s.Start, s.Kind, s.State)
		}
	}
	for i, p := range a.Prepatches {
		if p.State > Leaving {
			return fmt.Sprintf("prepatch %d: state %d", i, p.State)
		}
	}
	for i := range a.Guards {
		if what := a.checkGuard(i); what != "" {
			return fmt.Sprintf("guard %d: %s", i, what)
		}
	}
	if a.Handler.Slot >= 0 && (a.Handler.Slot >= len(a.Slots) || a.Slots[a.Handler.Slot].Kind != SlotHandler) {
		return fmt.Sprintf("handler in slot %d", a.Handler.Slot)
	}
	return ""
}

func (a *Arena) checkGuard(i int) string {
	g := &a.Guards[i]
	if g.State > Leaving {
		return fmt.Sprintf("state %d", g.State)
	}
	if g.Slot >= len(a.Slots) {
		return fmt.Sprintf("slot %d", g.Slot)
	}
	if g.State == Free {
		return ""
	}
	s := a.Slots[g.Slot]
	switch {
	case g.Prepatch < 0 || g.Prepatch >= len(a.Prepatches):
		return fmt.Sprintf("prepatch %d", g.Prepatch)
	case s.Kind != SlotGuard && s.Kind != SlotCaller:
		return fmt.Sprintf("slot %d is no guard's", g.Slot)
	case g.Body > g.Link || !jit.LinkFits(g.Link) || uint64(g.Link)+jit.LinkSize > uint64(s.Size):
		return fmt.Sprintf("body at %d and link at %d of %d bytes", g.Body, g.Link, s.Size)
	case len(g.Original) == 0 || len(g.Patch) != len(g.Original):
		return "no original bytes"
	case g.Inner > len(g.Original):
		return fmt.Sprintf("%d of %d bytes replaced", g.Inner, len(g.Original))
	case g.Site == 0 || uint64(g.Site) > 1<<47-4096:
		return fmt.Sprintf("site %v", g.Site)
	case g.Order >= len(a.Guards):
		return fmt.Sprintf("order %d", g.Order)
	}
	return ""
}
