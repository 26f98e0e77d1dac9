package plan

import (
	"errors"

	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// guardAt is a guard in an arena.
type guardAt struct {
	arena *arena.Arena
	index int
}

// errSame says that a guard has the code that it is to have.
var errSame = errors.New("its reads are as they are to be")

// allotAgain books the place of other code for a guard that is in: of several guards of
// the prepatch at one site, the first that has not had its turn yet.
func allotAgain(in *Input, g GuardInput, site Site) (arena.Place, arena.Entrance, error) {
	for _, a := range in.Space.Arenas() {
		for _, i := range a.GuardsAt(site.Start) {
			rec, at := a.Guards[i], guardAt{a, i}
			if rec.State != arena.In || in.again[at] || rec.Prepatch < 0 || a.Prepatches[rec.Prepatch].ID != in.ID || a.Prepatches[rec.Prepatch].Hash != in.Hash {
				continue
			}
			in.again[at] = true
			if rec.FaultMode == uint8(g.Faults) {
				return arena.Place{}, arena.Entrance{}, errSame
			}
			place, err := a.AllotAgain(i, need(in, g, site))
			if err != nil {
				return arena.Place{}, arena.Entrance{}, noRoom(g, err)
			}
			entrance := a.EntranceOf(i, site.Puns)
			return place, entrance, nil
		}
	}
	return arena.Place{}, arena.Entrance{}, &Refusal{
		Code: GuardPlace, Msg: "guard " + g.Name + " for " + g.Function.Name + " is not in at this site, and cannot get other code",
		Instead: "remove the prepatch and insert it again",
	}
}
