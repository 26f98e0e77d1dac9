package plan

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// allot books the guard's place, and the entrance of a site whose jump is a punned one; it
// refuses bytes that another prepatch has replaced in another way.
func allot(in *Input, g GuardInput, site Site) (arena.Place, arena.Entrance, error) {
	if err := checkOverlap(in.Space.Arenas(), site); err != nil {
		return arena.Place{}, arena.Entrance{}, err
	}
	if in.Again {
		return allotAgain(in, g, site)
	}
	a, entrance, err := arenaFor(in.Space, g, site)
	if errors.Is(err, arena.ErrNoPadding) {
		return arena.Place{}, entrance, &Refusal{
			Code: ArenaFull, Err: err, Msg: fmt.Sprintf("%s: nothing can be mapped in the process, and %v", g.Function.Name, err), Instead: paddingInstead,
		}
	}
	if err != nil {
		return arena.Place{}, entrance, &Refusal{
			Code: SiteRange, Err: err, Msg: fmt.Sprintf("%s: no room for PIE's memory within 2 GiB of its image: %v", g.Function.Name, err),
		}
	}
	place, err := a.Allot(need(in, g, site))
	if err != nil {
		return arena.Place{}, entrance, noRoom(g, err)
	}
	return place, entrance, nil
}

// arenaFor is the arena that a guard goes into.
func arenaFor(space *arena.Space, g GuardInput, site Site) (*arena.Arena, arena.Entrance, error) {
	if len(site.Puns) > 0 {
		return space.Entrance(g.Mapped, site.Start, site.Original, site.Puns)
	}
	a, err := space.Near(g.Mapped)
	return a, arena.Entrance{}, err
}

// patchOf is what is written at the site: a jump to the guard, or to the entrance.
func patchOf(s Site, p arena.Place, e arena.Entrance) ([]byte, error) {
	if e.At != 0 {
		return e.Pun.Write(s.Original, e.At)
	}
	return jit.Jump(s.Start, p.Code, jumpLen)
}
