package pie

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/insert"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// In a process whose sandbox kills for the calls that insertion makes, and in one with a
// thread in strict seccomp mode, which is ended also for reading the time stamp counter,
// guards are quiet: they lie in bytes that its files leave unused (arena.Padding), look at
// registers and their own stack alone, and only count. Every other process has guards as
// usual.

// quietInstead is the advice where not even a quiet guard can be had.
const quietInstead = "guard the process that it was forked from: a child inherits guards, and enters its sandbox with them"

// quietNote is what the operator should know of a quiet guard.
const quietNote = "its sandbox allows no system call of PIE's: the guard lies in unused bytes behind its code and data, counts calls and keeps no events"

// withoutCalls resolves as rs does, but for a process in which no system call can be made.
func (rs *resolver) withoutCalls() *resolver {
	c := *rs
	c.o.quiet = true
	return &c
}

// mayBeQuiet refuses what no quiet guard can be, of the process and what was asked for.
func (rs *resolver) mayBeQuiet(p *process) error {
	st, err := p.read.Status()
	switch {
	case err != nil:
		return explain(err, p.String())
	case st.Seccomp == 0 && rs.o.quiet:
		return refuse(CodeSeccomp, nil, quietInstead, "%s: its main thread is in no sandbox, and guards without system calls are looked for only where it is", p)
	case st.Seccomp == 0: // nobody would look for the guard there
		return refuse(CodeSeccomp, nil, "nothing can be guarded in it: guard the process that it works for",
			"%s has a thread in strict seccomp mode, which the kernel ends at once when it reads the time stamp counter, as a guard does for an event", p)
	case rs.o.Trial > 0:
		return refuse(CodeNoTrial, nil, "decide without one: pie insert --trial 0, or --audit to count only",
			"%s is in a sandbox in which a guard can neither make a system call nor be sure to read a clock: it could not tell when its trial is over", p)
	}
	return nil
}

// mayBeQuiet refuses a guard that needs system calls. Faults are signals or calls: a
// handler cannot be installed, and a call would end the process.
func mayBeQuiet(f locate.Function, prog *verify.Program) error {
	what := ""
	switch caps := prog.Unit().Caps; {
	case caps&bpf.CapWrite != 0:
		what = "writes the program's memory"
	case caps&bpf.CapCall != 0:
		what = "calls functions of the program"
	case caps&bpf.CapExit != 0:
		what = "ends the process by a system call"
	case prog.Unit().State > 0:
		what = "keeps state from call to call, for which memory would have to be mapped"
	case readsTarget(prog):
		what = "reads memory through addresses, or may panic, which takes a signal handler or system calls"
	default:
		return nil
	}
	return refuse(CodeSeccomp, nil, "use a guard that looks at numbers among the arguments only, or "+quietInstead,
		"%s in %s: the guard %s, and the sandbox of the process allows nothing of that", f.Name, f.Image.Name(), what)
}

// usePadding has space look for room in the bytes that the process's files leave unused.
func (r *resolved) usePadding(space *arena.Space, w *tracee.Process) {
	heap, err := r.read.HeapStart()
	if err != nil {
		heap = 0
	}
	text, data := r.images.Unused(heap)
	insert.UsePadding(w, space, ranges(text), ranges(data))
}

func ranges(all []locate.Unused) []arena.Range {
	out := make([]arena.Range, len(all))
	for i, u := range all {
		out[i] = arena.Range{Start: u.Start, End: u.End}
	}
	return out
}

// neither says why a process is refused in which no system call can be made, and in which
// this prepatch cannot do without.
func neither(calls, quiet error) error {
	var first, second *Refusal
	if !errors.As(calls, &first) || !errors.As(quiet, &second) {
		return errors.Join(quiet, calls)
	}
	out := *first
	if second.Code == CodeNoTrial {
		return second
	}
	out.Details = append(out.Details, fmt.Sprintf("without any call, in unused bytes, neither: %s [%s]", second.Msg, second.Code))
	return &out
}
