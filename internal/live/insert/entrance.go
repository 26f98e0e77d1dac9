package insert

import (
	"bytes"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
)

// Where a site's jump is a punned one, what leads to the first guard of the site is its
// entrance. It is written with the guard's code, before a site leads there, or as a link
// is, in the stopped world, where threads may be in what was removed. A thread at the
// entrance has entered the function and done nothing yet: it may go to any guard that is
// the first.

// opens reports whether guard k of the insertion is the first of a site with an entrance.
func (in *insertion) opens(k int) bool {
	g := in.pp.guards[k]
	return g.Entrance != 0 && !in.pp.again && in.firstAt(k) && len(in.others(g)) == 0
}

// entranceBlocks are the entrances in a to new guards that are the first of their sites.
func (in *insertion) entranceBlocks(a *arena.Arena) ([]block, error) {
	var out []block
	for k, g := range in.pp.guards {
		if g.Place.Arena != a || !in.opens(k) {
			continue
		}
		jump, err := jit.Jump(g.Entrance, g.Place.Code, jit.LinkSize)
		if err != nil {
			return nil, err
		}
		out = append(out, block{at: g.Entrance, bytes: jump, slot: a.EntranceSlot(g.Entrance), link: 0})
	}
	return out, nil
}

// siteEdits have the calls of guard k's site, which has no guard, go to it.
func (in *insertion) siteEdits(k int) ([]edit, error) {
	g := in.pp.guards[k]
	site := edit{g.Site, g.Original, g.Patch, g.Function, g.Vacated, g.Moves, g.Entrance != 0}
	if g.Entrance == 0 {
		return []edit{site}, nil
	}
	jump, err := jit.Jump(g.Entrance, g.Place.Code, jit.LinkSize)
	if err != nil {
		return nil, err
	}
	has := make([]byte, len(jump))
	if _, err := in.p.ReadAt(has, g.Entrance); err != nil {
		return nil, fmt.Errorf("pid %d: entrance at %v: %w", in.p.Pid(), g.Entrance, err)
	}
	if bytes.Equal(has, jump) {
		return []edit{site}, nil
	}
	return []edit{{at: g.Entrance, old: has, new: jump, function: g.Function}, site}, nil
}

// leadTo has the calls of a site go to code at to instead of from: by its jump, found
// there, or at its entrance.
func leadTo(p observe.Process, a *arena.Arena, site address.Addr, found []byte, from, to address.Addr) (edit, error) {
	at, old := site, found
	if entrance, _ := observe.Entrance(p, a, site, found); entrance != 0 {
		was, err := jit.Jump(entrance, from, jit.LinkSize)
		if err != nil {
			return edit{}, err
		}
		at, old = entrance, was
	}
	jump, err := jit.Jump(at, to, len(old))
	return edit{at: at, old: old, new: jump}, err
}
