package insert

import (
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Check says what Insert would refuse before it stops any thread: limits, what
// is in already, and the bytes at the sites. Errors are those of Insert.
func Check(p *tracee.Process, pl *plan.Plan) error {
	return newInsertion(nil, p, prepatch{pl.ID(), pl.Hash(), pl.State(), pl.Caps(), pl.Guards(), false}, Options{}).check()
}
