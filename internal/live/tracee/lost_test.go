package tracee

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ESRCH from ptrace says that a thread has ended, or does not stand still. It
// says nothing about the process, which the pidfd alone answers for.

// refuseOnce answers the nth request of a name with errno.
func refuseOnce(tr *Tracer, name string, nth int, errno unix.Errno) (refused *bool) {
	refused = new(bool)
	tr.hand.refuse = func(request string, _ int) unix.Errno {
		if request != name {
			return 0
		}
		if nth--; nth != 0 {
			return 0
		}
		*refused = true
		return errno
	}
	return refused
}

func TestARefusedRequestIsNotTheEndOfTheProcess(t *testing.T) {
	v := startVictim(t, "victim", "epoll", "4")
	p := v.open()
	defer p.Close()
	operations := []struct {
		name     string
		run      func(*Tracer) error
		requests []string
	}{
		{"attach", func(tr *Tracer) error { return tr.Attach(context.Background(), p, mapUnmap) },
			[]string{"seize", "interrupt", "getregs", "getregset", "getsigmask", "setregs", "setsigmask", "syscall", "cont", "detach"}},
		{"world", func(tr *Tracer) error {
			_, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error { return flipAnswer(w, v.answer+2) })
			return err
		}, []string{"seize", "interrupt", "getregs", "detach"}},
	}
	for _, op := range operations {
		for _, request := range op.requests {
			for _, errno := range []unix.Errno{unix.ESRCH, unix.EIO} {
				t.Run(fmt.Sprint(op.name, "/", request, "/", errno), func(t *testing.T) {
					tr := newTracer(t)
					refused := refuseOnce(tr, request, 1, errno)
					err := op.run(tr)
					if errors.Is(err, ErrGone) {
						t.Errorf("the process lives, and is said to be gone: %v", err)
					}
					if errno == unix.ESRCH && err != nil && !errors.Is(err, ErrBusy) {
						t.Errorf("trying again would help, and the error does not say so: %v", err)
					}
					if !*refused {
						t.Errorf("no %s was made", request)
					}
					v.mustProgress()
					tr.hand.refuse = nil
					if err := op.run(tr); err != nil {
						t.Errorf("the next one: %v", err)
					}
					v.mustProgress()
				})
			}
		}
	}
}

// A thread whose requests are answered as if it had ended, but that is still
// there, may run: the world does not count as stopped.
func TestAThreadThatDoesNotAnswerIsNotTakenForDead(t *testing.T) {
	v := startVictim(t, "victim", "compute", "4")
	p := v.open()
	defer p.Close()
	for _, request := range []string{"seize", "interrupt", "getregs"} {
		t.Run(request, func(t *testing.T) {
			tr := newTracer(t)
			tids, err := p.Tasks()
			if err != nil {
				t.Fatal(err)
			}
			tr.hand.refuse = func(name string, tid int) unix.Errno {
				if name == request && tid == tids[len(tids)-1] {
					return unix.ESRCH
				}
				return 0
			}
			_, err = tr.StopWorld(context.Background(), p, nil, func(*World) error {
				t.Error("called while a thread may run")
				return nil
			})
			if !errors.Is(err, ErrBusy) {
				t.Errorf("%v instead of busy", err)
			}
			tr.hand.refuse = nil
			v.mustProgress()
		})
	}
}

// Threads that come and go as fast as the machine can: an operation that meets
// one on its way out tries again, and never calls the process gone.
func TestEndingThreadsAreNotTheEndOfTheProcess(t *testing.T) {
	v := startVictim(t, "victim", "clone", "4")
	p := v.open()
	defer p.Close()
	tr := newTracer(t)
	rounds, busy := 0, 0
	for begin := time.Now(); time.Since(begin) < 1500*time.Millisecond; rounds++ {
		tids, err := p.Tasks()
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{
			attachTo(tr, p, tids[len(tids)-1], mapUnmap),
			tr.Attach(context.Background(), p, mapUnmap),
		} {
			switch {
			case errors.Is(err, ErrBusy):
				busy++
			case err != nil:
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d rounds, %d met a thread that was ending", rounds, busy)
	v.mustProgress()
}
