package pie

import (
	"context"
	"errors"
	"slices"

	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// AnyID selects every prepatch in a process.
const AnyID = ""

// change is one thing done to a prepatch in each of several processes.
type change struct {
	id string // or AnyID
	// childrenFirst is the order of a removal: a child born meanwhile of a parent
	// that still has the guard would keep it.
	childrenFirst bool
	mode          Mode // for the report
	// do does it to prepatch id in p and notes what came of it in out.
	do func(ctx context.Context, t *tracee.Tracer, p *process, w *tracee.Process, id string, out *ProcessReport) error
}

// alone runs the change with an Engine of its own.
func (c change) alone(ctx context.Context, sel Select) (*Report, error) {
	e, err := NewEngine()
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return c.run(ctx, e.tracer, sel)
}

// run applies the change to every selected process that has the prepatch, and
// to those that were born meanwhile with it. Processes without it are left out
// of the report; a Refusal says that there was none.
func (c change) run(ctx context.Context, t *tracee.Tracer, sel Select) (*Report, error) {
	report := &Report{ID: c.id, Mode: c.mode}
	var errs []error
	var unreadable error
	var looked []int
	err := inRounds(ctx, sel, c.childrenFirst, func(pid int) bool {
		looked = append(looked, pid)
		r, found, err := c.one(ctx, t, pid)
		if !found {
			unreadable = errors.Join(unreadable, err)
			return false
		}
		if err != nil {
			errs = append(errs, err)
			r.fail(err)
		}
		report.Changed = report.Changed || r.Changed
		report.Processes = append(report.Processes, r)
		return r.Changed
	})
	switch {
	case err != nil:
		return nil, err
	case len(report.Processes) == 0 && len(looked) == 1 && unreadable != nil:
		return nil, unreadable
	case len(report.Processes) == 0 && ctx.Err() == nil:
		return nil, notIn(c.id, looked)
	case len(errs) > 0 && len(errs) == len(report.Processes) && !report.Changed && sameReason(errs):
		return nil, errs[0]
	}
	return report, nil
}

func notIn(id string, pids []int) *Refusal {
	what := "prepatch " + id
	if id == AnyID {
		what = "prepatch"
	}
	if len(pids) == 1 {
		return refuse(CodeNotIn, nil, "pie status lists what is in", "no %s is in pid %d (%s)", what, pids[0], baseName(exePath(pids[0])))
	}
	return refuse(CodeNotIn, nil, "pie status lists what is in", "no %s is in any of these processes", what)
}

// one applies the change to one process; found is false when it has no such
// prepatch, and then an error says why that could not be told.
func (c change) one(ctx context.Context, t *tracee.Tracer, pid int) (out ProcessReport, found bool, err error) {
	p, err := openProcess(pid)
	if err != nil {
		return out, false, err
	}
	defer p.close()
	out = ProcessReport{Pid: pid, Exe: p.exe, State: StateGuarded}
	ids, err := idsIn(p, c.id)
	if len(ids) == 0 {
		return out, false, explain(err, p.String())
	}
	w, err := p.attachable()
	if err != nil {
		return out, true, err
	}
	defer w.Close()
	for _, id := range ids {
		err := patiently(ctx, func() error { return explain(c.do(ctx, t, p, w, id, &out), p.String()) })
		if err != nil {
			return out, true, err
		}
	}
	return out, true, nil
}

// idsIn lists the prepatches in p that id means, each once.
func idsIn(p *process, id string) ([]string, error) {
	all, err := observe.Status(p.read)
	var ids []string
	for _, in := range all {
		if (id == AnyID || in.ID == id) && !slices.Contains(ids, in.ID) {
			ids = append(ids, in.ID)
		}
	}
	return ids, err
}
