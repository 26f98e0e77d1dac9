package pie

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

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
	held, err := e.tracer.Hold(ctx, tid)
	allow()
	late, pid := false, tid
	var letGo atomic.Int64 // when the program went on before it was guarded, in nanoseconds from begin
	if err == nil {
		defer held.Release()
		timer := time.AfterFunc(within-time.Since(begin), func() {
			letGo.Store(int64(time.Since(begin)))
			_ = held.Release()
			released()
		})
		defer timer.Stop()
		pid = held.Pid()
		late, err = e.awaitProgram(ctx, held, begin.Add(within))
	}
	var out []EarlyReport
	for _, x := range all {
		r := EarlyReport{ID: x.Prepatch.ID, ProcessReport: ProcessReport{Pid: pid, State: StateUnguarded}}
		if err != nil {
			r.Err = explain(err, fmt.Sprintf("pid %d", pid))
		} else {
			r.insert(ctx, e, x)
		}
		if at := letGo.Load(); at != 0 {
			r.Window = time.Since(begin) - time.Duration(at)
		}
		if late && r.Err == nil {
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

func (r *EarlyReport) insert(ctx context.Context, e *Engine, x Early) {
	x.Options.known, x.Options.early = e.known, true
	report, err := insertWith(ctx, e.ready, x.Prepatch, Pids(r.Pid), x.Options)
	if r.Err = err; err == nil {
		r.ProcessReport = report.Processes[0]
	}
}

// lateNote is about a program without RELRO: when the dynamic linker is done with
// it does not show.
const lateNote = "guarded at its first system call: what it did before was not looked at"

// awaitProgram waits for the new program, and for its libraries. When the time is
// over while these are being linked, the program goes on, and can be guarded as
// it runs.
func (e *Engine) awaitProgram(ctx context.Context, held *tracee.Held, end time.Time) (late bool, err error) {
	if err := held.Await(ctx, time.Until(end)); err != nil {
		return false, err
	}
	w, err := tracee.Open(held.Pid())
	if err != nil {
		return false, err
	}
	defer w.Close()
	late, err = held.RunLoader(ctx, w, e.linkerOf(w), time.Until(end))
	if errors.Is(err, tracee.ErrNoExec) {
		return false, nil
	}
	return late, err
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
