// Package canary guards a part of a group of processes first, watches it, and
// goes on to the rest, or takes everything out again and tells why.
//
// The first to be guarded are the processes without children in the group: those
// do a server's work, and a mistake there stays there. While it watches, every
// guard is on trial: if pie dies, rejections end by themselves.
package canary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Plan is how a canary goes.
type Plan struct {
	Steps  []Step
	Wait   time.Duration // how long each step is watched
	Health Health
	Limits Limits
	Tell   func(string) // what is being done, one line each
}

// Failed says why a canary was given up. Everything it had inserted was taken
// out again, unless Left names processes.
type Failed struct {
	Step   Step
	Why    string
	Out    int   // processes it was taken out of
	Left   []int // pids that still have it
	Remove error // why
}

func (e *Failed) Error() string { return fmt.Sprintf("at step %s: %s", e.Step, e.Why) }

// Run inserts p step by step. The report is of all steps. A *Failed says what
// went wrong; other errors changed nothing.
func Run(ctx context.Context, p *pie.Prepatch, sel pie.Select, o pie.Options, c Plan) (*pie.Report, error) {
	if err := c.Health.check(ctx); err != nil {
		return nil, fmt.Errorf("the health check says no already before anything is done: %w", err)
	}
	r := &run{p: p, sel: sel, o: o, plan: c, total: &pie.Report{ID: p.ID, Mode: o.Mode}}
	if r.o.Trial == 0 {
		r.o.Trial = 2*c.Wait*time.Duration(len(c.Steps)) + time.Minute
	}
	for i, s := range c.Steps {
		if err := r.step(ctx, i, s); err != nil {
			return nil, err
		}
	}
	if o.Trial != 0 {
		return r.total, nil
	}
	return r.total, r.keep(ctx)
}

// keep ends the trial. What turned itself off since the last look is switched on again,
// for good.
func (r *run) keep(ctx context.Context) error {
	_, err := pie.Keep(ctx, r.p.ID, pie.Pids(r.pids()...))
	if r.total.TrialEnd = nil; err != nil {
		return err
	}
	if why := r.lookAtGuards(ctx, r.counts(ctx)); why != "" {
		return r.giveUp(ctx, r.plan.Steps[len(r.plan.Steps)-1], why, nil)
	}
	return nil
}

// run is one canary.
type run struct {
	p     *pie.Prepatch
	sel   pie.Select
	o     pie.Options
	plan  Plan
	total *pie.Report
	mine  []int  // pids it has inserted into
	had   []int  // pids that had the prepatch before the first step
	start counts // before the first step
}

func (r *run) tell(format string, args ...any) {
	if r.plan.Tell != nil {
		r.plan.Tell(fmt.Sprintf(format, args...))
	}
}

// pids are the processes that have the prepatch.
func (r *run) pids() []int {
	var out []int
	for _, p := range r.total.Processes {
		if p.State == pie.StateGuarded {
			out = append(out, p.Pid)
		}
	}
	return out
}

// step guards what the step adds, and watches.
func (r *run) step(ctx context.Context, i int, s Step) error {
	all, err := r.sel(ctx)
	if err != nil {
		return r.giveUp(ctx, s, err.Error(), err)
	}
	before := measure(ctx, all, r.plan.Wait)
	if i == 0 {
		before := statusOf(ctx, all)
		r.start, r.had = sum(r.p.ID, before), having(r.p.ID, before)
	}
	report, err := r.insert(ctx, s)
	if err != nil {
		return r.giveUp(ctx, s, err.Error(), err)
	}
	r.add(report)
	for _, p := range report.Processes {
		if p.State == pie.StateUnguarded {
			return r.giveUp(ctx, s, fmt.Sprintf("pid %d: %s", p.Pid, p.Error), nil)
		}
	}
	r.tell("step %s: %d of %d processes guarded, watched for %v", s, len(r.pids()), len(all), r.plan.Wait)
	if why := r.watch(ctx, before); why != "" {
		return r.giveUp(ctx, s, why, nil)
	}
	return nil
}

// chosenTries bounds how often processes are chosen anew because all of those chosen had
// ended: workers of some servers live for seconds.
const chosenTries = 10

// insert guards the processes of a step, as the selection is now.
func (r *run) insert(ctx context.Context, s Step) (*pie.Report, error) {
	for try := 1; ; try++ {
		sel := r.sel
		if s.share != 1 {
			all, err := r.sel(ctx)
			if err != nil {
				return nil, err
			}
			sel = pie.Pids(leavesFirst(all)[:s.of(len(all))]...)
		}
		report, err := pie.Insert(ctx, r.p, sel, r.o)
		if pie.ReasonOf(err) != pie.CodeNoProcess || try == chosenTries {
			return report, err
		}
	}
}

// add notes what a step did.
func (r *run) add(report *pie.Report) {
	r.total.Changed = r.total.Changed || report.Changed
	if report.TrialEnd != nil {
		r.total.TrialEnd = report.TrialEnd
	}
	for _, p := range report.Processes {
		if p.Changed {
			r.mine = append(r.mine, p.Pid)
		}
		i := slices.IndexFunc(r.total.Processes, func(o pie.ProcessReport) bool { return o.Pid == p.Pid })
		switch {
		case i < 0:
			r.total.Processes = append(r.total.Processes, p)
		case !r.total.Processes[i].Changed:
			r.total.Processes[i] = p
		}
	}
}

// giveUp takes out what this canary put in. With nothing in, cause is the error.
func (r *run) giveUp(ctx context.Context, s Step, why string, cause error) error {
	if len(r.mine) == 0 {
		if cause == nil {
			cause = errors.New(why)
		}
		return cause
	}
	if ctx.Err() != nil {
		why = "interrupted"
	}
	r.tell("step %s: %s: taking it out again", s, why)
	f := &Failed{Step: s, Why: why}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	report, err := pie.Remove(ctx, r.p.ID, pie.Pids(r.toTakeOut(ctx)...))
	if err != nil && pie.ReasonOf(err) != pie.CodeNotIn && pie.ReasonOf(err) != pie.CodeNoProcess {
		f.Left, f.Remove = r.mine, err
		return f
	}
	if report != nil {
		for _, p := range report.Processes {
			switch p.State {
			case pie.StateUnguarded:
				f.Out++
			case pie.StateGuarded:
				f.Left, f.Remove = append(f.Left, p.Pid), errors.New(p.Error)
			}
		}
	}
	return f
}

// toTakeOut are the processes that this canary has inserted into, and children that
// they forked meanwhile, which have the guard, too. What others guarded before, with
// its children, is left alone.
func (r *run) toTakeOut(ctx context.Context) []int {
	all, err := r.sel(ctx)
	if err != nil {
		return r.mine
	}
	out := slices.Clone(r.mine)
	for _, pid := range all {
		if !r.wasIn(pid) {
			out = append(out, pid)
		}
	}
	return out
}

// wasIn tells whether a process has the prepatch from before, or from a parent that has.
func (r *run) wasIn(pid int) bool {
	for range maxAncestors {
		switch {
		case slices.Contains(r.mine, pid):
			return false
		case slices.Contains(r.had, pid):
			return true
		}
		if pid = parentOf(pid); pid <= 1 {
			break
		}
	}
	return false
}

// maxAncestors bounds a walk to the top of the process tree.
const maxAncestors = 256

// parentOf is the pid of a process's parent, 0 when it cannot be told.
func parentOf(pid int) int {
	parent, _, err := proc.Stat(pid)
	if err != nil {
		return 0
	}
	return parent
}

// leavesFirst orders processes so that those without children among them come
// first, and a process before its parent.
func leavesFirst(pids []int) []int {
	parent := map[int]int{}
	for _, pid := range pids {
		parent[pid] = parentOf(pid)
	}
	depth := func(pid int) (d int) {
		for at := parent[pid]; at != 0 && d < len(pids); at = parent[at] {
			d++
		}
		return d
	}
	out := slices.Clone(pids)
	slices.SortStableFunc(out, func(a, b int) int { return depth(b) - depth(a) })
	return out
}
