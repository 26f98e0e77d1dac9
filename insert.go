package pie

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Insert puts a prepatch into the selected processes, parents first, and
// selects again until no new process appears. A process that has it already is
// left alone.
//
// The error is a *Refusal when nothing was changed anywhere. A Report comes
// without error also when some of its processes are not guarded.
//
// Who guards a child of its own must not wait(2) for it meanwhile: such a wait,
// (*exec.Cmd).Wait too, takes the stops that the tracer waits for.
func Insert(ctx context.Context, p *Prepatch, sel Select, o Options) (*Report, error) {
	engine := sync.OnceValues(NewEngine)
	go engine() // its watchdog process starts while the first target is looked at
	defer func() {
		if e, err := engine(); err == nil {
			e.Close()
		}
	}()
	return insertWith(ctx, func() (*tracee.Tracer, error) {
		e, err := engine()
		if err != nil {
			return nil, err
		}
		return e.tracer, nil
	}, p, sel, o)
}

// insertWith does the work of Insert. tracer is asked for once a process is to be changed.
func insertWith(ctx context.Context, tracer func() (*tracee.Tracer, error), p *Prepatch, sel Select, o Options) (*Report, error) {
	if err := p.expired(); err != nil {
		return nil, err
	}
	pids, err := selected(ctx, sel)
	if err != nil {
		return nil, err
	}
	KeepOff(pids...)
	rs, err := newResolver(ctx, p, o)
	if err != nil {
		return nil, err
	}
	in := inserter{p: p, o: o, resolver: rs, tracer: tracer, report: &Report{ID: p.ID, Mode: o.Mode, Caps: p.Caps}}
	defer in.resolver.close()
	seen := map[int]bool{}
	for range maxRounds {
		if !in.round(ctx, pids, seen) {
			break
		}
		if pids, err = selected(ctx, sel); err != nil {
			break // all that matched have ended
		}
	}
	in.report.leaveOut(pids)
	return in.finish()
}

// inserter is one call of Insert.
type inserter struct {
	p        *Prepatch
	o        Options
	resolver *resolver
	tracer   func() (*tracee.Tracer, error)
	report   *Report
	errs     []error
}

// round inserts into the processes not seen before; false when there is none.
func (in *inserter) round(ctx context.Context, pids []int, seen map[int]bool) bool {
	fresh := false
	for _, pid := range pids {
		if seen[pid] {
			continue
		}
		seen[pid], fresh = true, true
		if ctx.Err() != nil {
			in.note(ProcessReport{Pid: pid, Exe: exePath(pid)}, ctx.Err())
			continue
		}
		in.step("guarding pid %d", pid)
		var r ProcessReport
		err := patiently(ctx, func() (err error) {
			r, err = in.one(ctx, pid)
			return err
		})
		if err != nil && ctx.Err() != nil {
			err = ctx.Err() // whatever the interruption made fail
		}
		in.note(r, err)
	}
	return fresh && ctx.Err() == nil
}

func (in *inserter) step(format string, args ...any) {
	if in.o.Progress != nil {
		in.o.Progress(fmt.Sprintf(format, args...))
	}
}

// note adds one process to the report.
func (in *inserter) note(r ProcessReport, err error) {
	if err != nil {
		in.errs = append(in.errs, err)
		r.fail(err)
	}
	in.report.Changed = in.report.Changed || r.Changed
	in.report.Processes = append(in.report.Processes, r)
}

// fail says in the report why a process is as it was.
func (r *ProcessReport) fail(err error) {
	r.State = StateUnguarded
	r.Error = err.Error()
	var refusal *Refusal
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		r.Error, r.Reason, r.Instead = "interrupted before anything was changed in it", CodeInterrupted, "run the same command again"
	case errors.As(err, &refusal):
		r.Error, r.Details, r.Reason, r.Instead = refusal.Msg, refusal.Details, refusal.Code, refusal.Instead
		if refusal.Code == CodeNoProcess {
			r.State = StateGone
		}
	}
}

// one inserts into one process.
func (in *inserter) one(ctx context.Context, pid int) (ProcessReport, error) {
	out := ProcessReport{Pid: pid, Exe: exePath(pid)}
	p, err := openProcess(pid)
	if err != nil {
		return out, err
	}
	defer p.close()
	all, err := observe.Status(p.read)
	already, err := alreadyAmong(p, in.p, all, err)
	if err != nil {
		return out, err
	}
	if already != nil {
		out.State = StateGuarded
		out.noteAlready(already)
		in.compare(&out, already)
		in.settle(ctx, p, already, &out)
		return out, nil
	}
	w, err := p.attachableOn(&in.resolver.known.host)
	if err != nil {
		return out, err
	}
	defer w.Close()
	if lostAmong(in.p.ID, all) {
		if err := in.takeOutRest(ctx, p, w); err != nil {
			return out, err
		}
		out.Notes = append(out.Notes, "it was in before, and a library that it guarded was unloaded since: it was taken out, and put in anew")
	}
	return in.into(ctx, p, w, out)
}

// settle gives a prepatch that is in already reads that hold, where the program has put
// signal handlers of its own over PIE's since: nothing but a call tells, and the next guard
// to meet unreadable memory would end the program.
func (in *inserter) settle(ctx context.Context, p *process, already *observe.Prepatch, out *ProcessReport) {
	if already.Quiet || !readsBy(already, jit.Table) {
		return
	}
	err := func() error {
		w, err := p.attachableOn(&in.resolver.known.host)
		if err != nil {
			return err
		}
		defer w.Close()
		tracer, err := in.tracer()
		if err != nil {
			return err
		}
		if err := insert.HandlersStand(ctx, tracer, w); whyCopied(err) == "" {
			return err // they stand, or could not be asked about
		}
		rs := *in.resolver
		rs.o.again = true
		return settling{in.p, &rs, tracer, p, w, out}.run(ctx)
	}()
	if err != nil {
		out.Notes = append(out.Notes, fmt.Sprintf("whether PIE's signal handlers are still there could not be found out, or its guards not be given other reads: %v; run the same command again, or pie remove %s and insert it anew", err, in.p.ID))
	}
}

// takeOutRest takes out what is left of a prepatch that lost guards with their library,
// unless there is nothing to guard in their place.
func (in *inserter) takeOutRest(ctx context.Context, p *process, w *tracee.Process) error {
	if err := in.resolver.findAll(p); err != nil {
		return err
	}
	tracer, err := in.tracer()
	if err != nil {
		return err
	}
	_, err = insert.Remove(ctx, tracer, w, in.p.ID, originalOf(p))
	return explain(err, p.String())
}

// into inserts into a process that is open for it; out is what is known already.
func (in *inserter) into(ctx context.Context, p *process, w *tracee.Process, out ProcessReport) (ProcessReport, error) {
	rs := in.resolver
	r, done, err := in.place(ctx, rs, p, w)
	for other, note := rs.otherwise(err); other != nil; other, note = rs.otherwise(err) {
		if rs = other; note != "" {
			out.Notes = append(out.Notes, note)
		}
		r, done, err = in.place(ctx, rs, p, w)
	}
	if errors.Is(err, tracee.ErrSeccomp) {
		why := err
		if r, done, err = in.place(ctx, rs.withoutCalls(), p, w); err != nil && !insert.IsIn(err) {
			err = neither(why, err)
		}
	}
	if insert.IsIn(err) {
		out.State = StateGuarded
		return out, nil
	}
	if err != nil {
		return out, err
	}
	if r.quiet {
		out.Notes = append(out.Notes, quietNote)
	}
	out.State, out.Changed, out.Pause = StateGuarded, true, done.Pause
	if in.o.placed != nil {
		in.o.placed(p.pid, r)
	}
	copies := r.copies()
	out.Copies = &copies
	if !done.TrialEnd.IsZero() {
		in.report.TrialEnd = &done.TrialEnd
	}
	for i, g := range r.plan.Guards() {
		out.Notes = append(append(out.Notes, g.Where.Warnings...), r.guards[i].notes...)
		for _, c := range r.guards[i].function.Copies {
			out.Notes = append(out.Notes, "not covered: "+c)
		}
	}
	in.noteExecuted(&out, p.read)
	return out, nil
}

// whyCopied says why an insertion that was refused may be made with copied reads; empty
// where it may not.
func whyCopied(err error) string {
	var alt *insert.AltStackError
	var replaced *insert.ReplacedHandlerError
	switch {
	case errors.As(err, &alt):
		return fmt.Sprintf("its handler for %s runs on an alternate stack, which may be too small for a fault of the guard", signalName(alt.Signal))
	case errors.As(err, &replaced):
		return fmt.Sprintf("it has put a handler for %s of its own in the place of PIE's", signalName(replaced.Signal))
	}
	return ""
}

// signalName is SIGALRM, or "signal 40".
func signalName(s unix.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

// place resolves the prepatch as rs does, and inserts it.
func (in *inserter) place(ctx context.Context, rs *resolver, p *process, w *tracee.Process) (*resolved, insert.Report, error) {
	space, err := insert.Space(w, in.o.Build)
	if err != nil {
		return nil, insert.Report{}, explain(err, p.String())
	}
	r, err := rs.resolve(p, w, space)
	if err != nil {
		return nil, insert.Report{}, err
	}
	tracer, err := in.tracer()
	if err != nil {
		return nil, insert.Report{}, err
	}
	o := in.options()
	o.TableIfSafe = r.mayCopy
	done, err := insert.Insert(ctx, tracer, w, r.plan, o)
	if err != nil && !insert.IsIn(err) {
		err = explain(err, p.String())
	}
	return r, done, err
}

// noteAlready counts what an earlier insertion covers. How many copies it left
// uncovered is not in the process.
func (r *ProcessReport) noteAlready(in *observe.Prepatch) {
	if in.Flags&arena.FlagPartial != 0 {
		r.Notes = append(r.Notes, "it was inserted with --partial: some copies of the function are not covered")
		return
	}
	r.Copies = &Copies{Guarded: len(in.Guards), All: len(in.Guards)}
}

// compare says where a process that has the prepatch already does not do what was asked
// for: an insertion changes nothing there, neither the mode nor a trial's end.
func (in *inserter) compare(out *ProcessReport, already *observe.Prepatch) {
	if len(already.Guards) == 0 {
		return
	}
	g, wanted := already.Guards[0], modeName(in.options().Mode)
	if !g.TrialEnd.IsZero() && in.report.TrialEnd == nil {
		in.report.TrialEnd = &g.TrialEnd
	}
	m := modeName(g.Mode)
	over := g.Tripped == jit.TripTrialEnd || m == ModeEnforce && !g.TrialEnd.IsZero() && time.Now().After(g.TrialEnd)
	switch {
	case over && wanted == ModeEnforce:
		out.Mode = ModeOff
		out.Notes = append(out.Notes, fmt.Sprintf("it was in already, its trial is over, and it rejects nothing: pie keep %s --pid %d has it reject again", in.p.ID, out.Pid))
	case m == ModeOff && g.Tripped != jit.TripNone:
		out.Mode = m
		out.Notes = append(out.Notes, fmt.Sprintf("it was in already, and %s turned it off: pie events shows the call; pie mode %s %s --pid %d has it reject again", tripWords(g.Tripped), in.p.ID, wanted, out.Pid))
	case m != wanted:
		out.Mode = m
		out.Notes = append(out.Notes, fmt.Sprintf("it was in already and stays in mode %s: pie mode %s %s --pid %d changes that", m, in.p.ID, wanted, out.Pid))
	}
}

func (in *inserter) options() insert.Options {
	o := insert.Options{Blank: in.o.blank, Early: in.o.early, Mode: jit.ModeEnforce, Trial: in.o.Trial, MaxReject: in.o.MaxReject, Partial: in.o.Partial}
	if in.o.Mode == ModeAudit {
		o.Mode = jit.ModeAudit
	}
	return o
}

// finish decides what the caller gets: one refusal for all when nothing is
// guarded, else the report.
func (in *inserter) finish() (*Report, error) {
	in.report.noteHeirs()
	in.report.noteMode()
	if in.report.Guarded() > 0 || len(in.errs) == 0 {
		return in.report, nil
	}
	if len(in.errs) == 1 || sameReason(in.errs) {
		return nil, in.errs[0]
	}
	return in.report, nil
}

// leaveOut tells of processes that were refused, and are not of the selection any more,
// that they are gone: a server's new child runs the server's program until it executes
// its own, and nobody asked for that one to be guarded. Where none was guarded, why that
// is so is what is to be told.
func (r *Report) leaveOut(selection []int) {
	if r.Guarded() == 0 || len(selection) == 0 {
		return
	}
	for i := range r.Processes {
		p := &r.Processes[i]
		if p.State == StateUnguarded && p.Reason != CodeInterrupted && !slices.Contains(selection, p.Pid) {
			p.State, p.Reason, p.Details, p.Instead = StateGone, CodeNoProcess, nil, ""
			p.Error = fmt.Sprintf("pid %d has ended, or runs another program now", p.Pid)
		}
	}
}

// noteHeirs tells of processes in whose sandbox nothing can be done, and whose parent
// is guarded: there is nothing to do but to wait for their end.
func (r *Report) noteHeirs() {
	guarded := map[int]bool{}
	for _, p := range r.Processes {
		guarded[p.Pid] = p.State == StateGuarded
	}
	for i := range r.Processes {
		p := &r.Processes[i]
		if p.Reason != CodeNoSyscall && p.Reason != CodeSeccomp {
			continue
		}
		for at, n := parentOf(p.Pid), 0; at > 0 && n < len(r.Processes); at, n = parentOf(at), n+1 {
			if guarded[at] {
				p.Instead = fmt.Sprintf("it is unguarded for as long as it lives; pid %d, which it comes from, is guarded, and so is what that starts from now on, sandboxed or not", at)
				break
			}
		}
	}
}

// noteMode says of all what they have in common, where none is in the mode asked for.
func (r *Report) noteMode() {
	if len(r.Processes) == 0 || r.Processes[0].Mode == "" {
		return
	}
	if r.TrialEnd != nil && time.Now().After(*r.TrialEnd) {
		return // which the end says
	}
	for _, p := range r.Processes {
		if p.Mode != r.Processes[0].Mode {
			return
		}
	}
	r.Mode = r.Processes[0].Mode
}

// sameReason reports whether all errors are refusals for one reason.
func sameReason(errs []error) bool {
	first := ReasonOf(errs[0])
	for _, err := range errs {
		if ReasonOf(err) != first {
			return false
		}
	}
	return first != ""
}
