package observe

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// Chain returns the guards that a call of the site goes through, in order:
// found, the bytes at the site, lead to the first, and each one's link to the next.
// It is empty when found is no jump to a guard of a. The error is an
// *arena.CorruptError where the chain does not end, or leads elsewhere; the guards up
// to there come with it.
func Chain(p Process, a *arena.Arena, site address.Addr, found []byte) ([]int, error) {
	at := a.GuardsAt(site)
	to, _ := jit.ReadJump(site, found)
	next := guardAt(a, at, to, a.Start)
	if next < 0 {
		_, to = Entrance(p, a, site, found)
		next = guardAt(a, at, to, a.Start)
	}
	if next < 0 {
		return nil, nil
	}
	var chain []int
	for range at {
		chain = append(chain, next)
		b := make([]byte, jit.LinkSize)
		if _, err := p.ReadAt(b, a.Link(next)); err != nil {
			return chain, fmt.Errorf("pid %d: link at %v: %w", p.Pid(), a.Link(next), err)
		}
		to, ok := jit.ReadLink(a.Link(next), b)
		if ok && to == 0 {
			return chain, nil
		}
		if next = guardAt(a, at, to, a.Body); !ok || next < 0 {
			return chain, &arena.CorruptError{Base: a.Base, Msg: fmt.Sprintf("the link after guard %d of %v leads to no other", chain[len(chain)-1], site)}
		}
	}
	return chain, &arena.CorruptError{Base: a.Base, Msg: "the guards of a site follow one another in a circle"}
}

// Entrance returns where the punned jump found at a site leads, an entrance of a, and where
// a call goes from there; 0 where it is none.
func Entrance(p Process, a *arena.Arena, site address.Addr, found []byte) (at, to address.Addr) {
	at, ok := jit.ReadPunned(site, found)
	if !ok || a.EntranceSlot(at) < 0 {
		return 0, 0
	}
	b := make([]byte, jit.LinkSize)
	if _, err := p.ReadAt(b, at); err != nil {
		return 0, 0
	}
	if to, ok = jit.ReadJump(at, b); !ok {
		return 0, 0
	}
	return at, to
}

// guardAt returns which of the guards is entered at to, or −1.
func guardAt(a *arena.Arena, guards []int, to address.Addr, entry func(int) address.Addr) int {
	for _, j := range guards {
		if entry(j) == to {
			return j
		}
	}
	return -1
}
