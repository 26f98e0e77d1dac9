package pie

import (
	"context"
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Repair finishes or undoes what a pie that was killed left half-done in the
// selected processes, children first, and reads back that nothing is left. What
// is in everywhere stays in; what is in at some places only, or was being
// removed, is taken out. Repair itself may be killed and called again.
//
// The report has the processes in which something was left: none when all is
// well. Notes say what was done.
func Repair(ctx context.Context, sel Select) (*Report, error) {
	t, err := tracee.NewTracer(tracee.Options{})
	if err != nil {
		return nil, fmt.Errorf("preparing to write into processes: %w", err)
	}
	defer t.Close()
	report := &Report{Processes: []ProcessReport{}}
	var unreadable error
	looked := 0
	err = inRounds(ctx, sel, true, func(pid int) bool {
		looked++
		out, found, err := repairOne(ctx, t, pid)
		if err != nil {
			out.fail(err)
			unreadable = err
		}
		if found {
			report.Changed = report.Changed || out.Changed
			report.Processes = append(report.Processes, out)
		}
		return out.Changed
	})
	if err != nil {
		return nil, err
	}
	if looked == 1 && unreadable != nil && !report.Changed {
		return nil, unreadable
	}
	return report, nil
}

// repairOne repairs one process; found is false when nothing was left in it.
func repairOne(ctx context.Context, t *tracee.Tracer, pid int) (out ProcessReport, found bool, err error) {
	p, err := openProcess(pid)
	if err != nil {
		return out, false, err
	}
	defer p.close()
	out = ProcessReport{Pid: pid, Exe: p.exe, State: StateUnguarded}
	left, err := observe.Leftovers(p.read)
	var corrupt *arena.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return out, true, explain(err, p.String())
	case err != nil:
		return out, false, explain(err, p.String())
	case len(left) == 0:
		return out, false, nil
	}
	w, err := p.attachable()
	if err != nil {
		return out, true, err
	}
	defer w.Close()
	err = patiently(ctx, func() error {
		done, err := insert.Repair(ctx, t, w, originalOf(p))
		for _, d := range done.Deeds {
			out.Notes = append(out.Notes, fmt.Sprintf("%v: %s", d.Left, d.Done))
		}
		out.Changed = out.Changed || len(done.Deeds) > 0
		out.Pause = max(out.Pause, done.Pause)
		out.KiB = done.StaysKB
		return explain(err, p.String())
	})
	if all, serr := observe.Status(p.read); serr == nil && len(all) > 0 {
		out.State = StateGuarded
	}
	return out, true, err
}

// leftovers says what a killed pie left in a process, one line each.
func leftovers(left []observe.Leftover) []string {
	var lines []string
	for _, l := range left {
		lines = append(lines, l.String())
	}
	return lines
}
