package pie

import (
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// addState says what state the guards have, and what the process has of it.
func addState(in *plan.Input, p *Prepatch, w *tracee.Process) error {
	for _, prog := range p.programs {
		u := prog.Unit()
		in.State = max(in.State, u.State)
		in.SharedState = in.SharedState || u.Caps&bpf.CapShared != 0
	}
	if in.State == 0 {
		return nil
	}
	var err error
	in.Blocks, err = insert.Blocks(w)
	return err
}
