package tracee

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// A process is held from before its exec until it is guarded, so that not one
// instruction of its program runs before. Somebody else, a fanotify permission
// event, keeps the thread inside execve(2) while Hold seizes it, which stops
// nobody. Once the thread may go on, the kernel replaces the memory, maps program
// and dynamic linker, and reports PTRACE_EVENT_EXEC on its way back to user mode:
// there Await finds it. A PTRACE_INTERRUPT moves it on to an ordinary event stop,
// still before the first instruction; Attach and StopWorld take it as it stands
// there and leave it so. Release lets it go.
//
// A dynamically linked program is mapped then, its libraries are not. RunLoader
// lets the dynamic linker work until it is about to run the libraries' initializers
// and the program: then everything is mapped and relocated (loader.go).
//
// The death of the tracer lets go of a held process at any of these steps.
//
// Preconditions: the watchdog bounds the stops of Attach and StopWorld, not the
// time between them. Who holds a process must be watched by another process
// that kills it when the hold lasts too long.

// ErrNoExec says that a thread to be held did not start another program in time.
var ErrNoExec = errors.New("the thread did not start a program in time")

// Held is a process that is held at the first instruction of its program, or a
// thread on its way there.
type Held struct {
	t        *Tracer
	tid      int // as Hold found it: exec by another thread than the first changes it
	group    int
	released bool // the tracer's thread alone looks at it
}

// Hold seizes thread tid, which stands inside execve(2). A tracer holds one
// process at a time. ErrGone, *TracedError, *PermissionError.
func (t *Tracer) Hold(ctx context.Context, tid int) (*Held, error) {
	group, err := threadGroup(tid)
	if err != nil {
		return nil, err
	}
	err = t.on(ctx, func(h *hand) error {
		if errno := h.seize(tid, unix.PTRACE_O_TRACEEXEC); errno != 0 {
			return seizeHeldError(tid, group, errno)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Held{t: t, tid: tid, group: group}, nil
}

// threadGroup returns the process of a thread: Tgid in /proc/TID/status.
func threadGroup(tid int) (int, error) {
	st, err := taskStatus(tid, tid)
	if err != nil {
		return 0, fmt.Errorf("thread %d: %w", tid, ErrGone)
	}
	return st.Tgid, nil
}

func seizeHeldError(tid, group int, errno unix.Errno) error {
	p, err := proc.Open(group)
	if err != nil {
		return fmt.Errorf("seizing thread %d: %w", tid, ErrGone)
	}
	defer p.Close()
	switch st, err := p.Status(); {
	case err != nil || st.State == 'Z' || st.State == 'X': // a thread that is ending says EPERM
		return fmt.Errorf("seizing thread %d of pid %d: %w", tid, group, ErrGone)
	case st.Tracer != 0:
		return &TracedError{PID: group, By: st.Tracer}
	}
	return fmt.Errorf("seizing thread %d of pid %d: %w", tid, group, lostOr(errno))
}

// Pid returns the process that is held.
func (held *Held) Pid() int { return held.group }

// lostOr takes ESRCH for the end of the process: a held one has one thread.
func lostOr(errno unix.Errno) error {
	if errno == unix.ESRCH {
		return ErrGone
	}
	return errno
}

// Await waits until the process stands at the first instruction of its new
// program. ErrNoExec when that does not come to pass within limit; then the
// thread is let go of.
func (held *Held) Await(ctx context.Context, limit time.Duration) error {
	return held.t.on(ctx, func(h *hand) error {
		begin := time.Now()
		execed := false
		for {
			tid, ws := held.poll(h)
			switch {
			case tid != 0 && !ws.Stopped():
				held.released = true
				return fmt.Errorf("pid %d: %w", held.group, ErrGone)
			case tid != 0:
				done, err := held.advance(h, tid, ws, &execed)
				if done || err != nil {
					return err
				}
			case time.Since(begin) > limit || ctx.Err() != nil:
				held.released, h.abandoned = true, true
				return fmt.Errorf("pid %d: %w", held.group, ErrNoExec)
			default:
				h.restAtMost(min(limit-time.Since(begin), longestRest), 1, time.Since(begin))
			}
		}
	})
}

// poll asks for a stop of the process, whose thread has its leader's number
// after the exec.
func (held *Held) poll(h *hand) (int, unix.WaitStatus) {
	tid, ws, _ := h.poll(held.group)
	if tid == 0 && held.tid != held.group {
		tid, ws, _ = h.poll(held.tid)
	}
	return tid, ws
}

// advance takes a stop of the thread one step towards the one that is wanted.
func (held *Held) advance(h *hand, tid int, ws unix.WaitStatus, execed *bool) (done bool, err error) {
	why, sig := whyStopped(ws)
	switch {
	case why == stopExec:
		*execed = true
		if errno := h.interrupt(tid); errno != 0 {
			return false, fmt.Errorf("pid %d: interrupting it: %w", tid, lostOr(errno))
		}
		_ = h.cont(tid, 0)
	case why == stopEvent && *execed:
		if errno := h.setOptions(tid, attachOptions); errno != 0 {
			return false, fmt.Errorf("pid %d: holding it: %w", tid, lostOr(errno))
		}
		h.held.Store(int64(tid))
		return true, nil
	case why == stopEvent: // stopped by job control before its exec: not ours to hold
		held.released = true
		_ = h.detach(tid, 0)
		return false, fmt.Errorf("pid %d: stopped by a signal: %w", held.group, ErrNoExec)
	default:
		_ = h.cont(tid, sig)
	}
	return false, nil
}

// RunLoader lets the dynamic linker of a held process map and relocate its
// libraries. late is set when the end of that did not show (without signs, by a program
// that has no RELRO segment): then the process is held at its entry, or at its first
// system call outside of the dynamic linker. A static program is left as it is.
// ErrNoExec when it takes longer than limit; then the process is let go of. So it is
// when it was let go of before.
func (held *Held) RunLoader(ctx context.Context, p *Process, signs Linker, limit time.Duration) (late bool, err error) {
	l, err := findLoader(p)
	if err != nil || l.linker == nil {
		return false, err
	}
	l.signs = signs
	err = held.t.on(ctx, func(h *hand) error {
		if held.released {
			return fmt.Errorf("pid %d: let go of before its dynamic linker was done: %w", held.group, ErrNoExec)
		}
		tid := int(h.held.Load())
		if tid == 0 {
			return fmt.Errorf("pid %d: %w", held.group, ErrGone)
		}
		held.released = true // until it stands still again
		h.held.Store(0)
		late, err = l.run(ctx, h, tid, limit)
		if err != nil {
			return fmt.Errorf("pid %d: in its dynamic linker: %w", held.group, err)
		}
		h.held.Store(int64(tid))
		held.released = false
		return nil
	})
	return late, err
}

// Release lets the process go on. It may be called again, and while another
// operation of the tracer is under way: then it waits for the end of that. What
// is done afterwards finds a process that runs.
func (held *Held) Release() error {
	return held.t.on(context.Background(), func(h *hand) error {
		if held.released {
			return nil
		}
		held.released = true
		tid := int(h.held.Swap(0))
		if tid == 0 { // never awaited: running, or inside its exec
			h.abandoned = true
			return nil
		}
		if errno := h.detach(tid, 0); errno != 0 && errno != unix.ESRCH {
			return fmt.Errorf("pid %d: letting it go: %w", tid, errno)
		}
		return nil
	})
}
