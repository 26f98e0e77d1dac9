package pie

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Early is one prepatch for a process that has not run yet.
type Early struct {
	Prepatch *Prepatch
	Options  Options
}

// GuardExec guards a process that is about to start another program, before the
// first instruction of it: thread tid stands inside execve(2), held there by
// somebody else. allow lets it go on and is called once, as soon as the thread is
// seized, or cannot be. Libraries that the program is linked with are mapped when
// the guards go in; what it loads later is not.
//
// When within is over the program goes on whether it is guarded or not; released
// is called then, if it was held, and the guards go into the running process. A
// caller that cannot bear a longer hold, come what may, must kill this process
// from outside: that lets go of it, too.
func (e *Engine) GuardExec(ctx context.Context, tid int, allow func(), within time.Duration, released func(), all []Early) []EarlyReport {
	defer e.begin()()
	begin := time.Now()
	if end, err := e.tracer.Keep(ctx); err == nil {
		defer end()
	}
	held, err := e.tracer.Hold(ctx, tid)
	allow()
	n := newcomer{e: e, held: held, pid: tid, all: all}
	defer n.close()
	if err == nil {
		defer held.Release()
		timer := time.AfterFunc(within-time.Since(begin), func() {
			n.letGo.Store(int64(time.Since(begin)))
			_ = held.Release()
			released()
		})
		defer timer.Stop()
		n.pid = held.Pid()
		n.end = begin.Add(within)
		err = n.await(ctx)
	}
	var out []EarlyReport
	for i := range all {
		r := EarlyReport{ID: all[i].Prepatch.ID, ProcessReport: ProcessReport{Pid: n.pid, State: StateUnguarded}}
		if err != nil {
			r.Err = explain(err, fmt.Sprintf("pid %d", n.pid))
		} else {
			n.insert(ctx, i, &r)
		}
		if at := n.letGo.Load(); at != 0 {
			r.Window = time.Since(begin) - time.Duration(at)
		}
		if n.late && r.Err == nil {
			r.Notes = append(r.Notes, lateNote)
		}
		out = append(out, r)
	}
	return out
}

// EarlyReport is what became of one prepatch in a process that has not run yet.
type EarlyReport struct {
	ProcessReport
	ID     string
	Window time.Duration // how long it ran before it was guarded; 0 when it did not run
	Err    error         // a *Refusal, or what failed; nil when it is guarded
}

// lateNote is about a program without RELRO: when the dynamic linker is done with
// it does not show.
const lateNote = "guarded at its first system call: what it did before was not looked at"

// newcomer is a process on its way from its exec to its guards.
type newcomer struct {
	e    *Engine
	held *tracee.Held
	pid  int
	all  []Early
	w    *tracee.Process // nil before its exec
	exe  *binfile.File
	end  time.Time // it is let go of then
	late bool
	// unlinked: its dynamic linker has not run, and no guard is known to need that.
	unlinked bool
	// letGo is when the program went on before it was guarded, in nanoseconds from the
	// begin; 0 while it is held.
	letGo atomic.Int64
}

func (n *newcomer) close() {
	if n.w != nil {
		n.w.Close()
	}
}

// await waits for the new program and, where guards need them, for its libraries.
func (n *newcomer) await(ctx context.Context) (err error) {
	if err := n.held.Await(ctx, time.Until(n.end)); err != nil {
		return err
	}
	if n.w, err = n.e.tracer.Open(n.pid); err != nil {
		return err
	}
	if n.unlinked = n.standsAlone(); n.unlinked {
		return nil
	}
	if err := n.inVain(); err != nil {
		return err
	}
	return n.link(ctx)
}

// link lets the dynamic linker work. When the time is over meanwhile, the program goes
// on, and can be guarded as it runs.
func (n *newcomer) link(ctx context.Context) (err error) {
	n.unlinked = false
	n.late, err = n.held.RunLoader(ctx, n.w, n.e.linkerOf(n.w), time.Until(n.end))
	if errors.Is(err, tracee.ErrNoExec) {
		return nil
	}
	return err
}

// standsAlone tells whether the guards have to do with nothing but the executable, so
// that they can go in before its libraries are there: a third of the time.
func (n *newcomer) standsAlone() bool {
	images, err := n.e.known.files.Images(n.w.Process)
	if err != nil {
		return false
	}
	n.exe = images.Exe().File
	if n.e.known.linked[n.exe] || n.exe.RelocatesText() {
		return false
	}
	for _, x := range n.all {
		if !x.Prepatch.standsAlone() || !n.e.known.readsSafely(n.exe, x.Prepatch.programs) {
			return false
		}
	}
	if !n.w.CanCall() {
		n.e.known.linked[n.exe] = true
		return false
	}
	return true
}

// standsAlone tells whether the guards are in front of functions of the executable, and
// refer to nothing else.
func (p *Prepatch) standsAlone() bool {
	for i, g := range p.compiled.Guards {
		prog := p.programs[i]
		if g.Exe == "" || g.Lib != "" || setsErrno(prog) || len(prog.Unit().Symbols) > 0 {
			return false
		}
	}
	return true
}

// inVain says why none of the prepatches can go in before the program has run, where that
// is known before its libraries are there: it is held for no longer then.
func (n *newcomer) inVain() error {
	if n.exe == nil {
		return nil
	}
	for _, x := range n.all {
		if !slices.ContainsFunc(x.Prepatch.programs, readsTarget) {
			return nil
		}
	}
	sign := n.e.known.sandboxing(n.exe).sign
	if sign == "" {
		return nil
	}
	return refuse(CodeSeccomp, nil, insteadEarly, "pid %d: a guard would read memory by system calls, as %s; and the program %s: %s", n.pid, notYet, sign, laterSandbox)
}

// insert inserts prepatch i.
func (n *newcomer) insert(ctx context.Context, i int, r *EarlyReport) {
	x := n.all[i]
	x.Options.known, x.Options.early = n.e.known, true
	x.Options.blank = i == 0 && n.letGo.Load() == 0
	var err error
	r.ProcessReport, err = n.e.insertInto(ctx, x, &process{pid: n.pid, exe: exePath(n.pid), read: n.w.Process}, n.w)
	if err != nil && n.unlinked && ReasonOf(err) != CodeSeccomp { // its libraries may tell more
		n.e.known.linked[n.exe] = true
		if err = n.link(ctx); err != nil {
			err = explain(err, fmt.Sprintf("pid %d", n.pid))
		} else {
			r.ProcessReport, err = n.e.insertInto(ctx, x, &process{pid: n.pid, exe: r.Exe, read: n.w.Process}, n.w)
		}
	}
	if code := ReasonOf(err); code == CodeBusy || code == CodeStale { // patiently then
		x.Options.blank = false
		var report *Report
		if report, err = insertWith(ctx, n.e.ready, x.Prepatch, Pids(n.pid), x.Options); err == nil {
			r.ProcessReport = report.Processes[0]
		}
	}
	r.Err = err
}

// insertInto inserts into one process that is open for it.
func (e *Engine) insertInto(ctx context.Context, x Early, p *process, w *tracee.Process) (ProcessReport, error) {
	out := ProcessReport{Pid: p.pid, Exe: p.exe, State: StateUnguarded}
	if err := x.Prepatch.expired(); err != nil {
		return out, err
	}
	rs, err := newResolver(ctx, x.Prepatch, x.Options)
	if err != nil {
		return out, err
	}
	defer rs.close()
	in := inserter{p: x.Prepatch, o: x.Options, resolver: rs, tracer: e.ready, report: &Report{}}
	return in.into(ctx, p, w, out)
}

// linkerOf finds what the dynamic linker of a program that has just been executed has
// for debuggers. Beside the program nothing else is mapped then.
func (e *Engine) linkerOf(w *tracee.Process) (signs tracee.Linker) {
	images, err := e.known.files.Images(w.Process)
	if err != nil {
		return signs
	}
	for _, im := range images.Images {
		symbols, err := im.File.DynSymbols()
		if im.IsExe || err != nil {
			continue
		}
		for _, s := range symbols {
			switch {
			case !s.Defined:
			case s.Name == "_dl_debug_state" && s.Type == elf.STT_FUNC:
				signs.Ready = s.Value.Addr(im.Bias)
			case s.Name == "_r_debug" && s.Type == elf.STT_OBJECT:
				const state = 24 // struct r_debug, link.h: r_version int, r_map, r_brk, r_state
				signs.State = s.Value.Addr(im.Bias) + state
			}
		}
	}
	return signs
}
