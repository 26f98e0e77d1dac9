package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/target"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// States of a Process.
const (
	Guarded = "guarded"
	Off     = "off"     // guarded, and switched off by an operator or by itself
	Fixed   = "fixed"   // runs the vendor's fix
	Refused = "refused" // cannot be guarded; Error says why
	Waiting = "waiting" // has not loaded the library yet
)

// key names one prepatch in one process.
type key struct {
	pid   int
	start uint64
	id    string
}

// Process is one prepatch in one process, as the agent left it.
type Process struct {
	ID     string        `json:"id"`
	Pid    int           `json:"pid"`
	Exe    string        `json:"exe"`
	State  string        `json:"state"`
	Code   pie.Code      `json:"code,omitempty"`
	Error  string        `json:"error,omitempty"`
	Held   bool          `json:"held"`                // until it was guarded: it never ran unguarded
	Hold   time.Duration `json:"hold_ns,omitempty"`   // how long its exec was held by the gate
	Window time.Duration `json:"window_ns,omitempty"` // from its exec to its guard; 0: not known, or held
	Since  time.Time     `json:"since"`

	asked   time.Time // when its guards' reads were last settled (reads.go)
	settled int       // how often they were since it was guarded
	young   bool      // they are to be settled soon
	seen    time.Time // when it was last found as it should be
	put     bool      // its guards were put in then, and not found
	stale   bool      // it has executed a program since
	atRisk  bool      // its guards' reads are, and were to be settled for that
}

// selector returns the processes a rule is about.
func (r *rule) selector() (*target.Selector, error) {
	spec := r.Where
	spec.Runs = r.prepatch.executables()
	return target.New(spec)
}

// pass brings every process that a rule is about to what the rule says, and
// forgets those that have ended.
func (a *Agent) pass(ctx context.Context) {
	begin, now := time.Now(), a.now()
	seen := map[key]bool{}
	for _, r := range a.rules {
		if a.suspended[r.ID] {
			continue
		}
		sel, err := r.selector()
		if err != nil {
			a.log.Error("a rule cannot be followed", "prepatch", r.ID, "line", r.Line, "error", err)
			continue
		}
		pids, err := sel.Select(ctx)
		if err != nil && !errors.Is(err, target.ErrNone) {
			a.log.Error("listing processes", "error", err)
			continue
		}
		if a.retire(ctx, r, pids, now) {
			continue
		}
		for _, pid := range pids {
			if ctx.Err() != nil {
				return
			}
			a.hear(ctx)
			if k, ok := a.keyOf(pid, r.ID); ok {
				seen[k] = true
				if a.suspended[r.ID] {
					continue // an operator has just taken it over
				}
				a.keep(ctx, r, k, time.Time{})
			}
		}
	}
	for k, p := range a.kept {
		if !seen[k] && p.Since.Before(begin) { // not of those that the gate told of meanwhile
			delete(a.kept, k)
		}
	}
}

// keyOf pins a process for the agent's records.
func (a *Agent) keyOf(pid int, id string) (key, bool) {
	p, err := proc.Open(pid)
	if err != nil {
		return key{}, false
	}
	defer p.Close()
	return key{pid, p.Start(), id}, true
}

// retire takes a prepatch out whose rule or day is over.
func (a *Agent) retire(ctx context.Context, r *rule, pids []int, now time.Time) bool {
	why := r.overAt(now)
	if why == "" && r.over != "" {
		r.over, r.since = "", time.Now()
		a.log.Warn("kept up again: the clock was set back", "prepatch", r.ID, "line", r.Line)
		a.rehold()
	}
	if why == "" {
		return false
	}
	if r.over == "" {
		r.over = why
		a.log.Info("retired", "prepatch", r.ID, "line", r.Line, "reason", why)
		a.rehold()
	}
	if len(pids) == 0 {
		return true
	}
	report, err := a.changer.remove(ctx, r.ID, pids)
	if err != nil && pie.ReasonOf(err) != pie.CodeNotIn && pie.ReasonOf(err) != pie.CodeNoProcess {
		a.log.Error("taking a retired prepatch out", "prepatch", r.ID, "error", err)
	}
	if report != nil {
		for _, p := range report.Processes {
			a.log.Info("taken out", "prepatch", r.ID, "pid", p.Pid, "exe", p.Exe, "error", p.Error)
		}
	}
	return true
}

// keep brings one process to what a rule says. execed is when it started its
// program, zero when that was not seen.
func (a *Agent) keep(ctx context.Context, r *rule, k key, execed time.Time) {
	known := a.kept[k]
	if known != nil && !known.stale && known.State != Waiting && !retryable(known) && known.State != Guarded && known.State != Off {
		return
	}
	report, err := a.changer.insert(ctx, r.prepatch, k.pid, pie.Options{Mode: r.Mode, Partial: r.Partial, Build: a.c.Version})
	if ctx.Err() != nil {
		return
	}
	p := &Process{ID: r.ID, Pid: k.pid, State: Guarded, Since: time.Now()}
	switch {
	case err != nil:
		p.State, p.Code, p.Error = stateOf(err), pie.ReasonOf(err), err.Error()
		p.Exe = exeOf(k.pid)
	default:
		done := report.Processes[0]
		p.Exe = done.Exe
		switch {
		case done.State == pie.StateGone:
			delete(a.kept, k)
			return
		case done.State != pie.StateGuarded:
			p.State, p.Code, p.Error = Refused, done.Reason, done.Error
		case done.Changed:
			a.Stats.pause(done.Pause)
			p.put = true
			if p.Window = windowOf(k.pid, execed, r.since); execed.IsZero() && known.guarded() {
				p.Window = time.Since(known.seen) // at most
			}
			a.Stats.window(p.Window)
		default:
			p.State = a.follow(ctx, r, k, p)
		}
	}
	if p.Code == pie.CodeNoProcess || p.Code == pie.CodeKernelThread || p.State == Refused && exeOf(k.pid) == "" {
		delete(a.kept, k)
		return // it has ended, or is about to: what its memory seems to hold means nothing
	}
	a.note(k, p)
}

// guarded tells whether a process was.
func (p *Process) guarded() bool { return p != nil && p.State == Guarded }

// note records what became of a process, and logs what is new: also that it had lost its
// guards, as one does that executes itself, and has them again.
func (a *Agent) note(k key, p *Process) {
	known := a.kept[k]
	p.seen = p.Since
	again := known.guarded() && p.guarded() && (known.stale || p.put)
	if known != nil && !known.stale && !again && known.State == p.State && known.Error == p.Error {
		known.seen = p.seen
		return
	}
	if known.guarded() && !known.stale && !again {
		p.Held, p.Hold, p.Window = known.Held, known.Hold, known.Window
	}
	p.young = p.young || p.State == Guarded && (p.Held || p.Window > 0)
	a.kept[k] = p
	attrs := []any{"prepatch", p.ID, "pid", p.Pid, "exe", p.Exe}
	if again {
		attrs = append(attrs, "again", true)
	}
	switch {
	case p.State == Guarded && p.Held:
		a.log.Info("guarded before it ran", attrs...)
	case p.State == Guarded && p.Window > 0:
		a.log.Info("guarded", append(attrs, "unguarded_ms", p.Window.Milliseconds())...)
	case p.State == Guarded, p.State == Off, p.State == Fixed, p.State == Waiting:
		a.log.Info(p.State, attrs...)
	case p.Code == pie.CodeOther:
		a.log.Error("guarded by other content of the same prepatch; it is taken out by pie remove, and put in anew when the policy is read again", append(attrs, "code", p.Code)...)
	default:
		a.log.Error("not guarded", append(attrs, "code", p.Code, "error", p.Error)...)
	}
	if p.State == Fixed {
		a.log.Info("the fixed build runs: the rule is not needed for it any more", attrs...)
	}
}

// stateOf says what a refusal means.
func stateOf(err error) string {
	switch pie.ReasonOf(err) {
	case pie.CodeFixed:
		return Fixed
	case pie.CodeNoImage:
		return Waiting
	}
	return Refused
}

// retryable tells refusals that pass by themselves: a thread that blocks signals, for which a
// program that may enter a sandbox is refused, may do so for a while only. Where errno is
// shows only once the C library is linked: a program that has just started may not be that
// far, and one in the midst of its exec has no code yet.
func retryable(p *Process) bool {
	return slices.Contains([]pie.Code{pie.CodeBusy, pie.CodeFrozen, pie.CodeStale, pie.CodeTraced, pie.CodeHeadroom, pie.CodePartly, pie.CodeInterrupted, pie.CodeNoSyscall, pie.CodeNoErrno, pie.CodeNoText, pie.CodeSeccomp}, p.Code)
}

// follow sets a guard that was found in a process to the mode of its rule, unless
// somebody has switched it off, or it is on trial.
func (a *Agent) follow(ctx context.Context, r *rule, k key, p *Process) string {
	pid := k.pid
	all, err := pie.Status(ctx, pie.Pids(pid))
	if err != nil || len(all) == 0 {
		return Guarded
	}
	for _, in := range all[0].Prepatches {
		switch {
		case in.ID != r.ID:
		case in.Mode == pie.ModeOff || in.Stopped != "":
			return Off
		case in.TrialEnd != nil && time.Now().After(*in.TrialEnd):
			return Off
		case in.TrialEnd == nil && in.Mode != r.Mode:
			if _, err := a.changer.setMode(ctx, r.ID, r.Mode, pid); err != nil {
				a.log.Error("setting the mode", "prepatch", r.ID, "pid", pid, "error", err)
			} else {
				a.log.Info("mode set as the policy says", "prepatch", r.ID, "pid", pid, "mode", string(r.Mode))
			}
		default:
			p.young = in.Early && readsSlowly(in)
			if known := a.kept[k]; known != nil && !known.stale && time.Since(known.asked) >= readsEvery {
				a.settleReads(ctx, r, known, pid)
			}
		}
	}
	return Guarded
}

// windowOf is how long a process ran before it was guarded: since its execution, or
// else since its start, if its rule was there then.
func windowOf(pid int, execed, ruled time.Time) time.Duration {
	if !execed.IsZero() {
		return time.Since(execed)
	}
	p, err := proc.Open(pid)
	if err != nil {
		return 0
	}
	defer p.Close()
	started := startTime(p.Start())
	if started.Before(ruled) {
		return 0 // it was there first
	}
	return time.Since(started)
}

// awaitLibraries tries again with processes that had not loaded a library.
func (a *Agent) awaitLibraries(ctx context.Context) {
	for k, p := range a.kept {
		if p.State != Waiting {
			continue
		}
		if now, ok := a.keyOf(k.pid, k.id); !ok || now != k {
			delete(a.kept, k)
			continue
		}
		for _, r := range a.active() {
			if r.ID == k.id {
				a.keep(ctx, r, k, time.Time{})
			}
		}
	}
}
