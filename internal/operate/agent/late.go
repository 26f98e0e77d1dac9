package agent

import (
	"context"
	"time"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// Execs are taken down as they are told of and attended to one after another: to guard
// a process takes a thousand times as long as to note that it is there, and who told of it
// must not wait meanwhile, or what it tells next is lost.

// How long an exec of a held file is left to the gate, which tells what becomes of
// it, and how many execs are remembered: meanwhile, and until they are attended to.
const (
	gateTime   = 500 * time.Millisecond
	maxPending = 4096
	maxToDo    = 1 << 16
)

// Starts counts what became of the starts of held programs, once for each prepatch where
// they were come to. Late is LateGuarded and LateEnded and those still to come.
type Starts struct {
	Guarded     int `json:"guarded"`      // before they ran
	Late        int `json:"late"`         // let go of before they were guarded
	LateGuarded int `json:"late_guarded"` // guarded as they ran
	LateEnded   int `json:"late_ended"`   // they ended before, or were not to be guarded
}

// execSeen takes an exec that the kernel told of. One that the gate holds is the
// gate's: two at work on one process would be in each other's way.
func (a *Agent) execSeen(e execution) {
	_, e.late = a.gaveUpOn[e.pid]
	delete(a.gaveUpOn, e.pid)
	id, ok := fileOf(e.pid)
	switch {
	case e.late, !ok, !a.holding(id), len(a.pending) >= maxPending:
		a.putOff(e)
	default:
		a.pending = append(a.pending, e)
	}
}

// gaveUp takes a process that the gate has let go of unguarded.
func (a *Agent) gaveUp(pid int) {
	e := execution{pid: pid, at: time.Now(), late: true}
	for i, p := range a.pending {
		if p.pid == pid {
			e.at = p.at
			a.pending = append(a.pending[:i], a.pending[i+1:]...)
			a.putOff(e)
			return
		}
	}
	if _, before := a.gaveUpOn[pid]; before {
		a.starts.LateEnded++ // that program: it has started another one
	}
	delete(a.gaveUpOn, pid)
	if id, ok := fileOf(pid); a.watch != nil && (!ok || !a.holding(id)) && len(a.gaveUpOn) < maxPending {
		a.gaveUpOn[pid] = e.at // still on its way through its exec: the kernel will tell of it
		return
	}
	a.putOff(e)
}

// lookAgain takes what the gate has not told of.
func (a *Agent) lookAgain() {
	var young []execution
	for _, e := range a.pending {
		if time.Since(e.at) < gateTime {
			young = append(young, e)
			continue
		}
		a.putOff(e)
	}
	a.pending = young
	for pid, at := range a.gaveUpOn {
		if time.Since(at) > gateTime {
			delete(a.gaveUpOn, pid)
			a.putOff(execution{pid: pid, at: at, late: true})
		}
	}
}

// putOff has an exec attended to in its turn.
func (a *Agent) putOff(e execution) {
	if !e.late && a.watch.irrelevant(e.pid) {
		return
	}
	if len(a.toDo) >= maxToDo {
		a.missed = true
		if e.late {
			a.starts.LateEnded++ // or is found by the pass: it is told of either way
		}
		return
	}
	a.toDo = append(a.toDo, e)
}

// always is ready at any time.
var always = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// work is ready when there is an exec to attend to.
func (a *Agent) work() <-chan struct{} {
	if len(a.toDo) == 0 {
		return nil
	}
	return always
}

// attend attends to the exec that has waited for longest.
func (a *Agent) attend(ctx context.Context) {
	e := a.toDo[0]
	if a.toDo = a.toDo[1:]; len(a.toDo) == 0 {
		a.toDo = nil
	}
	guarded := a.execed(ctx, e)
	if e.late && !guarded {
		a.mayHaveForked(a.active()...) // it may have put itself into the background, by a fork
	}
	switch {
	case !e.late:
	case guarded:
		a.starts.LateGuarded++
	default:
		a.starts.LateEnded++
		if endedSince(e) {
			a.log.Info("ended before it was guarded", "pid", e.pid)
		}
	}
}

// endedSince tells whether the process of an exec has ended, and its number is perhaps
// another one's.
func endedSince(e execution) bool {
	p, err := proc.Open(e.pid)
	if err != nil {
		return true
	}
	defer p.Close()
	const tick = 10 * time.Millisecond // of start times
	return startTime(p.Start()).After(e.at.Add(2 * tick))
}

// execed looks at a process that has started another program, and tells whether it has
// a guard.
func (a *Agent) execed(ctx context.Context, e execution) (guarded bool) {
	if a.watch.irrelevant(e.pid) {
		return false
	}
	relevant := false
	for _, r := range a.active() {
		sel, err := r.selector()
		if err != nil {
			continue
		}
		ok, err := sel.Has(e.pid)
		if err != nil || !ok {
			continue
		}
		relevant = true
		a.mayHaveForked(r)
		// What is known may be of this exec, told by the gate meanwhile, or of a program
		// that the process ran before.
		k, ok := a.keyOf(e.pid, r.ID)
		if ok && (a.kept[k] == nil || a.kept[k].Since.Before(e.at)) {
			a.outdate(k)
			a.keep(ctx, r, k, e.at)
		}
		p := a.kept[k]
		guarded = guarded || ok && p != nil && p.State == Guarded
	}
	if !relevant {
		a.watch.setIrrelevant(e.pid)
	}
	return guarded
}

// outdate has what is known of a process be of a program that it does not run any more.
func (a *Agent) outdate(k key) {
	if known := a.kept[k]; known != nil {
		known.stale = true
	}
}

// A program that ran before it was guarded may have forked meanwhile, and its children
// have no guard: a fork is no exec, and nobody tells of it. So the processes of its rule are
// gone through once more, soon after.

// aroundTime is how soon, and how often at most; less often where it takes long, so that
// it is not what the agent does most of the time.
const (
	aroundTime  = 300 * time.Millisecond
	aroundShare = 10
)

// mayHaveForked has the processes of rules gone through.
func (a *Agent) mayHaveForked(rules ...*rule) {
	for _, r := range rules {
		a.around[r.ID] = true
	}
	if a.aroundDue == nil && len(rules) > 0 {
		a.aroundDue = time.After(max(aroundTime, aroundShare*a.aroundTook))
	}
}

// lookAround guards what has been born unguarded.
func (a *Agent) lookAround(ctx context.Context) {
	begin, ids := time.Now(), a.around
	defer func() { a.aroundTook = time.Since(begin) }()
	a.around, a.aroundDue = map[string]bool{}, nil
	for _, r := range a.active() {
		if ids[r.ID] {
			a.guardNewborn(ctx, r)
		}
	}
}

// mostGenerations bounds how often the processes of a rule are listed at a time: each is
// guarded ahead of its children, of which it may have had more until then.
const mostGenerations = 8

func (a *Agent) guardNewborn(ctx context.Context, r *rule) {
	for range mostGenerations {
		sel, err := r.selector()
		if err != nil {
			return // a pass says so
		}
		pids, err := sel.Select(ctx)
		if err != nil {
			return
		}
		fresh := false
		for _, pid := range pids {
			a.hear(ctx)
			if k, ok := a.keyOf(pid, r.ID); ok && a.kept[k] == nil && ctx.Err() == nil {
				fresh = true
				a.keep(ctx, r, k, time.Time{})
			}
		}
		if !fresh {
			return
		}
	}
}
