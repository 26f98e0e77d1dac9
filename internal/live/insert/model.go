package insert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/clock"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/plan"
)

// model fills the arenas' records and control blocks with what will be: all
// of it as prepared.
func (in *insertion) model() error {
	for _, a := range in.arenas {
		i, err := in.prepatchRecord(a)
		if err != nil {
			return err
		}
		for _, g := range in.pp.guards {
			if g.Place.Arena != a {
				continue
			}
			if err := in.guardRecord(a, i, g); err != nil {
				return err
			}
		}
	}
	if in.pp.again {
		if err := in.findLinks(); err != nil {
			return err
		}
	}
	if err := in.planFaults(); err != nil {
		return err
	}
	return in.controls()
}

func (in *insertion) prepatchRecord(a *arena.Arena) (int, error) {
	if in.pp.again {
		return a.PrepatchByID(in.pp.id), nil // stands has seen it
	}
	n := 0
	for _, g := range in.pp.guards {
		if g.Place.Arena == a {
			n++
		}
	}
	for i := range a.Prepatches {
		if a.Prepatches[i].State != arena.Free {
			continue
		}
		a.Prepatches[i] = arena.Prepatch{
			State: arena.Prepared, ID: in.pp.id, Hash: in.pp.hash, Inserted: time.Now(), Guards: n, Flags: in.flags(),
		}
		return i, nil
	}
	return 0, fmt.Errorf("pid %d: %v: all %d prepatch records in use: %w", in.p.Pid(), a, len(a.Prepatches), arena.ErrFull)
}

func (in *insertion) flags() arena.Flags {
	var f arena.Flags
	if in.o.Mode == jit.ModeAudit {
		f |= arena.FlagAudit
	}
	if in.o.Trial > 0 {
		f |= arena.FlagTrial
	}
	if in.o.Partial {
		f |= arena.FlagPartial
	}
	if in.o.Early {
		f |= arena.FlagEarly
	}
	return f | abilities(in.pp.caps)
}

// abilities are the flags that say what a prepatch may do.
func abilities(c bpf.Caps) (f arena.Flags) {
	for cap, flag := range map[bpf.Caps]arena.Flags{
		bpf.CapRewrite: arena.FlagRewrites, bpf.CapWrite: arena.FlagWrites, bpf.CapCall: arena.FlagCalls, bpf.CapExit: arena.FlagExits,
	} {
		if c&cap != 0 {
			f |= flag
		}
	}
	return f
}

func (in *insertion) guardRecord(a *arena.Arena, pp int, g plan.Guard) error {
	i := g.Place.Index
	if in.pp.again {
		in.spareRecord(a, g)
		return nil
	}
	place := 0
	for _, j := range a.GuardsAt(g.Site) {
		if j != i {
			place = max(place, a.Guards[j].Order+1)
		}
	}
	base := arena.Counts{}
	if a.Mapped&arena.HasShared != 0 {
		var err error
		if base, err = observe.Counts(in.p, a, i); err != nil {
			return err
		}
	}
	old := a.Guards[i]
	a.Guards[i] = arena.Guard{
		State: arena.Prepared, Prepatch: pp, Order: place, Function: g.Function, Image: g.Image,
		Site: g.Site, SiteOff: g.SiteOff, Original: g.Original, Patch: g.Patch,
		Slot: old.Slot, Body: g.Code.Body, Link: g.Code.Link, FaultMode: uint8(g.Faults), Base: base,
	}
	if g.Entrance != 0 {
		a.Guards[i].Inner = int(g.Vacated - g.Site)
	}
	a.Slots[old.Slot].Content = arena.ContentHash(g.Code.Bytes)
	return nil
}

// controls fills the control blocks: mode, trial, clock.
func (in *insertion) controls() error {
	if in.pp.again {
		return nil
	}
	c, err := clock.New()
	if err != nil {
		return err
	}
	for _, g := range in.pp.guards {
		a, i := g.Place.Arena, g.Place.Index
		b := make([]byte, jit.ControlSize)
		base := a.Guards[i].Base
		le := binary.LittleEndian
		le.PutUint32(b[jit.ControlMode:], uint32(in.o.Mode))
		if in.o.Trial > 0 {
			le.PutUint64(b[jit.ControlTrialEnd:], c.After(in.o.Trial))
			le.PutUint32(b[jit.ControlMaxReject:], share(in.o.MaxReject))
			in.report.TrialEnd = time.Now().Add(in.o.Trial)
		}
		le.PutUint64(b[jit.ControlCalls0:], base.Calls)
		le.PutUint64(b[jit.ControlRejects0:], base.Rejects)
		le.PutUint64(b[jit.ControlClockTSC:], c.TSC)
		le.PutUint64(b[jit.ControlClockNS:], c.Mono)
		le.PutUint64(b[jit.ControlClockMult:], c.Mult())
		a.Controls[i] = b
	}
	return nil
}

// share is a share of calls as the control block has it: per 65,536, rounded
// up so that a share that is not 0 never means no limit.
func share(s float64) uint32 {
	switch {
	case !(s > 0):
		return 0
	case s >= 1:
		return 1 << 16
	}
	return uint32(s*(1<<16)) + 1
}

// block is bytes of code that prepare writes.
type block struct {
	at    address.Addr
	bytes []byte
	slot  int // whose code it is
	link  int // offset of the guard's link in bytes; −1 where there is none
}

// blocks are the guards in a, with their links set so that each site's new guards
// follow one another and the last goes back to the function.
func (in *insertion) blocks(a *arena.Arena) ([]block, error) {
	var out []block
	for k, g := range in.pp.guards {
		if g.Place.Arena != a {
			continue
		}
		link, err := in.link(k)
		if err != nil {
			return nil, err
		}
		code := bytes.Clone(g.Code.Bytes)
		copy(code[g.Code.Link:], link)
		out = append(out, block{g.Place.Code, code, a.Guards[g.Place.Index].Slot, g.Code.Link})
	}
	led, err := in.entranceBlocks(a)
	if err != nil {
		return nil, err
	}
	out = append(out, led...)
	return append(out, in.faultBlocks(a)...), nil
}

// link is guard k's link: to the next new guard of its site, or back.
func (in *insertion) link(k int) ([]byte, error) {
	g := in.pp.guards[k]
	if in.pp.again {
		return in.links[k], nil
	}
	at := g.Place.Code.Add(int64(g.Code.Link))
	for _, o := range in.pp.guards[k+1:] {
		if o.Site == g.Site {
			return jit.Link(at, bodyOf(o))
		}
	}
	return jit.Link(at, 0)
}

// bodyOf is where a guard ahead of g leads to.
func bodyOf(g plan.Guard) address.Addr { return g.Place.Code.Add(int64(g.Code.Body)) }

// firstAt reports whether guard k is the first new one of its site.
func (in *insertion) firstAt(k int) bool {
	for _, o := range in.pp.guards[:k] {
		if o.Site == in.pp.guards[k].Site {
			return false
		}
	}
	return true
}

// missing cuts from b what the process has already. ok is false when b differs
// from code that threads may be in. The link of such code is left as it is: it
// changes in the stopped world.
func (b block) missing(has []byte, state arena.SlotState) (parts []block, ok bool) {
	if bytes.Equal(has, b.bytes) {
		return nil, true
	}
	if state == arena.SlotFree {
		return []block{b}, true
	}
	same := bytes.Clone(has)
	if b.link >= 0 {
		copy(same[b.link:], b.bytes[b.link:b.link+jit.LinkSize])
	}
	return nil, bytes.Equal(same, b.bytes)
}
