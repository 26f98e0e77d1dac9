package insert

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/clock"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Space returns what a plan for p allocates from: the arenas p has and the
// gaps between its mappings. What a pie that was killed has left unfinished,
// and no site leads to, is free in it. build names this pie in new arenas.
func Space(p observe.Process, build string) (*arena.Space, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	arenas, err := observe.ArenasIn(p, maps)
	if err != nil {
		return nil, err
	}
	for _, a := range arenas {
		freeLeftovers(p, a)
	}
	c, err := clock.New()
	if err != nil {
		return nil, err
	}
	space := arena.NewSpace(arenas, usedBy(maps, heapRoom), arena.Info{
		Build: build, Creator: p.Pid(), TSCHz: c.Hz, TSC: c.TSC, Created: c.Time,
	})
	space.UseClose(usedBy(maps, leastHeapRoom))
	return space, nil
}

// heapRoom is kept free above the heap, which grows upwards (brk(2)), and stackRoom
// below the stack, which grows downwards, in bytes. What can be in few places only may
// come nearer to the heap: malloc maps memory elsewhere where brk fails.
const (
	heapRoom      = 1 << 30
	leastHeapRoom = 128 << 20
	stackRoom     = 128 << 20
)

// usedBy are the mappings, and what heap and stack are to grow into.
func usedBy(maps []proc.Mapping, heapRoom address.Addr) []arena.Range {
	used := make([]arena.Range, 0, len(maps))
	for _, m := range maps {
		r := arena.Range{Start: m.Start, End: m.End}
		switch m.Path {
		case "[heap]":
			r.End += heapRoom
		case "[stack]":
			r.Start -= min(r.Start, stackRoom)
		}
		used = append(used, r)
	}
	return used
}

// freeLeftovers frees the records of prepatches none of whose guards is in, also
// of those whose own record is free already: a removal ended in between. The code of
// a guard that was never in is free; that of one that was may have threads in it.
func freeLeftovers(p observe.Process, a *arena.Arena) {
	for i := range a.Prepatches {
		guards := a.GuardsOf(i)
		reached := false
		for _, j := range guards {
			s, _ := observe.Site(p, a, j)
			reached = reached || s == observe.SiteIn || s == observe.SiteAltered
		}
		if reached {
			continue
		}
		for _, j := range guards {
			if a.Guards[j].State == arena.Prepared {
				a.Abandon(j)
			} else {
				a.Release(j, false)
			}
		}
		a.Prepatches[i].State = arena.Free
	}
	a.AbandonSlots()
}

// present says whether the prepatch is in p: nil when it is not at all, else
// ErrAlreadyIn, ErrOtherVersion or ErrPartial.
func present(p observe.Process, maps []proc.Mapping, id string, hash [32]byte) error {
	all, err := observe.StatusIn(p, maps)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.ID != id || !x.Reached() {
			continue
		}
		switch {
		case x.State != observe.StateIn:
			err = ErrPartial
		case x.Hash != hash:
			err = ErrOtherVersion
		default:
			return fmt.Errorf("pid %d: %s: %w", p.Pid(), id, ErrAlreadyIn)
		}
	}
	if err != nil {
		return fmt.Errorf("pid %d: %s: %w", p.Pid(), id, err)
	}
	return nil
}

// IsIn reports whether err says that there was nothing to do.
func IsIn(err error) bool { return errors.Is(err, ErrAlreadyIn) }
