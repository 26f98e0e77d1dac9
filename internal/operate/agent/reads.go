package agent

import (
	"context"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/target"
)

// How guards read memory is chosen for a process as it is at that moment. Before its first
// instruction a program may yet install signal handlers, so that a guard reads by system
// calls; once it runs, plain loads will do, and a sandbox that it enters then does no harm.
// And a program that puts handlers of its own in the place of PIE's needs the system calls
// again. So the choice is made anew: soon after the start of a program, which installs what
// it installs then, and once a minute. Guards get other code meanwhile without a moment in
// which a call is not looked at (pie.Engine.SettleReads).

// readsEvery is how often a process is asked, which stops one thread for a moment.
const readsEvery = time.Minute

// soon is when that is done after a program was guarded at its start.
var soon = [...]time.Duration{time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second}

// readsSlowly tells whether a guard of a prepatch may read by system calls.
func readsSlowly(in pie.PrepatchStatus) bool {
	for _, g := range in.Guards {
		if g.Faults == "copy" {
			return true
		}
	}
	return false
}

// settleYoung settles the reads of the guards of programs that have just started.
func (a *Agent) settleYoung(ctx context.Context) {
	for k, p := range a.kept {
		if !p.young || p.State != Guarded || time.Since(p.Since) < soon[p.settled] {
			continue
		}
		if now, ok := a.keyOf(k.pid, k.id); !ok || now != k {
			delete(a.kept, k)
			continue
		}
		for _, r := range a.active() {
			if r.ID == k.id {
				a.settleReads(ctx, r, p, k.pid)
				break
			}
		}
		if p.settled++; p.settled == len(soon) {
			p.young, p.settled = false, 0
		}
		a.hear(ctx)
	}
}

// settleReads settles the reads of the guards of a process, and of those that it has started
// meanwhile, which have its guards.
func (a *Agent) settleReads(ctx context.Context, r *rule, p *Process, pid int) {
	p.asked = time.Now()
	pids := []int{pid}
	if sel, err := target.New(target.Spec{Pids: pids}); err == nil {
		if family, err := sel.Select(ctx); err == nil {
			pids = family
		}
	}
	report, err := a.changer.settleReads(ctx, r.prepatch, pids, pie.Options{Partial: r.Partial, Build: a.c.Version})
	switch code := pie.ReasonOf(err); {
	case ctx.Err() != nil, code == pie.CodeNotIn, code == pie.CodeNoProcess, code == pie.CodeGone:
		return
	case code == pie.CodeSeccomp:
		a.cannotRead(ctx, r, pids, err.Error())
		return
	case err != nil:
		a.log.Warn("how guards read memory could not be chosen anew", "prepatch", r.ID, "pids", pids, "error", err)
		return
	}
	for _, done := range report.Processes {
		switch {
		case done.Reason == pie.CodeSeccomp:
			a.cannotRead(ctx, r, []int{done.Pid}, done.Error)
		case done.Changed:
			a.Stats.pause(done.Pause)
			a.log.Info("guards read memory in another way now", "prepatch", r.ID, "pid", done.Pid, "exe", done.Exe, "now", done.Notes)
		}
	}
}

// cannotRead is about processes in which no way to read is safe for a guard. One that would
// read by system calls is taken out, since a sandbox may end the program for them at the
// next guarded call; one that relies on signal handlers that do not stand would end it only
// where it meets memory that cannot be read, and stays.
func (a *Agent) cannotRead(ctx context.Context, r *rule, pids []int, why string) {
	all, err := pie.Status(ctx, pie.Pids(pids...))
	if err != nil {
		return
	}
	for _, s := range all {
		for _, in := range s.Prepatches {
			if in.ID != r.ID {
				continue
			}
			if !readsSlowly(in) || readsByTable(in) {
				a.log.Error("a guard that meets unreadable memory would end the program, and it cannot read otherwise", "prepatch", r.ID, "pid", s.Pid, "reason", why)
				continue
			}
			_, err := a.changer.remove(ctx, r.ID, []int{s.Pid})
			a.log.Error("taken out: a sandbox may end the program for what the guard reads by", "prepatch", r.ID, "pid", s.Pid, "reason", why, "error", err)
			if k, ok := a.keyOf(s.Pid, r.ID); ok && err == nil {
				a.note(k, &Process{ID: r.ID, Pid: s.Pid, Exe: s.Exe, State: Refused, Code: pie.CodeSeccomp, Error: why, Since: time.Now()})
			}
		}
	}
}

func readsByTable(in pie.PrepatchStatus) bool {
	for _, g := range in.Guards {
		if g.Faults == "table" {
			return true
		}
	}
	return false
}
