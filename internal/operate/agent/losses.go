package agent

import (
	"context"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie"
)

// Of an exec the kernel tells, and the guards that went with the old program are put in
// again at once. Of other losses nobody tells: of a library that is unloaded and loaded
// anew, of an exec that was missed, of a signal that a thread has blocked since. They show
// where the counts are read, every logInterval, and need not wait for the next pass.

// makeUp has what a reading of all guarded processes shows to be lost put in again. It says
// so as keep does.
func (a *Agent) makeUp(ctx context.Context, read []pie.ProcessStatus) {
	has := map[int]pie.ProcessStatus{}
	for _, s := range read {
		has[s.Pid] = s
	}
	for _, r := range a.active() {
		for k, p := range a.kept {
			if k.id != r.ID || !p.guarded() || ctx.Err() != nil {
				continue
			}
			switch s, there := has[k.pid]; {
			case !there || isLost(s, r.ID):
				a.keep(ctx, r, k, time.Time{})
			case !s.ReadsAtRisk:
				p.atRisk = false
			case !p.atRisk: // once; the passes go on trying
				p.atRisk = true
				a.settleReads(ctx, r, p, k.pid)
			}
			a.hear(ctx)
		}
	}
}

// isLost tells whether a process has none of a prepatch's guards, or not all any more.
func isLost(s pie.ProcessStatus, id string) bool {
	for _, in := range s.Prepatches {
		if in.ID == id {
			return slices.ContainsFunc(in.Guards, func(g pie.GuardStatus) bool { return g.Lost })
		}
	}
	return true
}
