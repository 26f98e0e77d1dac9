package pie

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// SettleReads has the guards of a prepatch that is in read memory as an insertion made now
// would choose: those that were put in before the first instruction of their program, and
// read by system calls, by plain loads; those whose signal handlers the program has
// replaced by its own, by system calls. They get other code without a moment in which a
// call is not looked at. Mode, trial and counters go on as they were, and a process whose
// guards need no other code is left as it is.
//
// A process that cannot get what it ought to have is in the report with the reason; its
// guards are as they were. With CodeSeccomp the reason is that a sandbox, entered or likely
// to be, may end it for their reads.
func (e *Engine) SettleReads(ctx context.Context, p *Prepatch, sel Select, o Options) (*Report, error) {
	defer e.begin()()
	o.known, o.again = e.known, true
	rs, err := newResolver(ctx, p, o)
	if err != nil {
		return nil, err
	}
	defer rs.close()
	c := change{id: p.ID, do: func(ctx context.Context, t *tracee.Tracer, q *process, w *tracee.Process, _ string, out *ProcessReport) error {
		return settling{p, rs, t, q, w, out}.run(ctx)
	}}
	return c.run(ctx, e.tracer, sel)
}

// settling is SettleReads in one process.
type settling struct {
	p   *Prepatch
	rs  *resolver
	t   *tracee.Tracer
	q   *process
	w   *tracee.Process
	out *ProcessReport
}

func (s settling) run(ctx context.Context) error {
	if err := insert.Settle(s.t, s.w); err != nil {
		return err
	}
	already, err := alreadyIn(s.q, s.p)
	if err != nil {
		return err
	}
	if already == nil || already.Quiet {
		return nil // partly in, which is another's to put right; or one that reads nothing
	}
	rs := s.rs
	switch byTable := readsBy(already, jit.Table); {
	case !byTable && already.Flags&arena.FlagEarly == 0:
		return nil // somebody has chosen it so, or what was asked of the process then
	case byTable:
		err := insert.HandlersStand(ctx, s.t, s.w)
		if why := whyCopied(err); why != "" {
			rs = rs.copying(why)
		} else if err != nil {
			return err
		}
	}
	err = s.replace(ctx, rs)
	for other, _ := rs.otherwise(err); other != nil; other, _ = rs.otherwise(err) {
		rs = other
		err = s.replace(ctx, rs)
	}
	return err
}

// readsBy tells whether a guard's reads survive a bad address in this way.
func readsBy(in *observe.Prepatch, m jit.FaultMode) bool {
	return slices.ContainsFunc(in.Guards, func(g observe.Guard) bool { return g.FaultMode == m })
}

// replace gives other code to the guards that are to have it as rs resolves them.
func (s settling) replace(ctx context.Context, rs *resolver) error {
	space, err := insert.Space(s.w, rs.o.Build)
	if err != nil {
		return err
	}
	r, err := rs.resolve(s.q, s.w, space)
	if err != nil || len(r.plan.Guards()) == 0 {
		return err
	}
	done, err := insert.Replace(ctx, s.t, s.w, r.plan, insert.Options{TableIfSafe: r.mayCopy})
	if errors.Is(err, insert.ErrNotIn) {
		return nil // it was taken out meanwhile
	}
	if err != nil {
		return err
	}
	s.out.Changed, s.out.Pause = true, max(s.out.Pause, done.Pause)
	for _, g := range r.plan.Guards() {
		s.out.Notes = append(s.out.Notes, fmt.Sprintf("%s reads by %s now", g.Function, faultWords(g.Faults)))
	}
	return nil
}
