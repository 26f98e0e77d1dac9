package tracee

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/background"
	"github.com/patch-integration-engine/pie/internal/live/thread"
)

// Step is one ptrace request or remote write that has just been made.
type Step struct {
	Name string
	N    int // counts from 1 within a Tracer
}

// Options of a Tracer.
type Options struct {
	// OnStep, when set, is called on the tracer's thread after every ptrace
	// request and every remote write, so that tests can die there.
	OnStep func(Step)
}

// Tracer owns the OS thread that issues every ptrace request, and the
// watchdog. It is safe for concurrent use; one operation runs at a time.
type Tracer struct {
	jobs     chan job
	closed   chan struct{} // Close has been called
	ended    chan struct{} // the thread serves nobody any more, and what it held is closed
	closing  sync.Once
	watchdog *tracerWatchdog
	hand     hand
	state    scratch
	kept     func() // ends a session that outlasts operations; nil when there is none
	host     Host
}

// job runs on the tracer's thread; done is closed after it.
type job struct {
	run  func(*hand)
	done chan struct{}
}

// NewTracer starts the watchdog process and the thread. It waits until the
// watchdog answers, some milliseconds: starting it beside other work would take
// two processors at once, on a small machine those of the program to be guarded.
func NewTracer(o Options) (*Tracer, error) {
	w, err := startWatchdog()
	if err != nil {
		return nil, err
	}
	if err := w.begin(); err != nil {
		w.close()
		return nil, err
	}
	w.end()
	t := &Tracer{
		jobs:     make(chan job),
		closed:   make(chan struct{}),
		ended:    make(chan struct{}),
		watchdog: w,
		hand:     hand{onStep: o.OnStep},
	}
	t.state.allocate()
	thread.LockMemory()
	go t.loop(make(chan struct{}))
	return t, nil
}

// Close ends the thread and the watchdog, after the operation that runs, and waits
// until nothing of them is left: neither a descriptor nor a process.
func (t *Tracer) Close() error {
	t.closing.Do(func() { close(t.closed) })
	<-t.ended
	return nil
}

// loop finds a thread for the tracer, tells found, and serves on it. The
// thread's end detaches every tracee that still runs, without stopping it: that
// is how a thread in uninterruptible sleep is let go of.
//
// Not every thread will do. The runtime never ends the process's first one. And
// one that has started a program is its parent, and would be told of that
// child's stops and end among those of the tracees, and take them from os/exec.
// A thread that will not do is held until another is found.
func (t *Tracer) loop(found chan<- struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() || hasChildren() {
		other := make(chan struct{})
		go t.loop(other)
		<-other
		close(found)
		runtime.UnlockOSThread()
		return
	}
	close(found)
	t.serve()
}

func (t *Tracer) serve() {
	wakeOnTime()
	for {
		select {
		case j := <-t.jobs:
			j.run(&t.hand)
			if t.hand.abandoned {
				t.endKept()
				go t.succeed(unix.Gettid(), j.done)
				return
			}
			close(j.done)
		case <-t.closed:
			t.watchdog.close()
			close(t.ended)
			return
		}
	}
}

// successionTime bounds how long the end of a tracer's thread is waited for.
const successionTime = 4 * stopLimit

// succeed takes over from the tracer's thread tid, which ends, and lets go of whom it
// could not. Until it has ended they may yet stop, and this process be stopped in turn:
// so the watchdog is not called off before. It ends this process when the thread does
// not end; should it have died itself, the caller is not kept waiting for ever.
func (t *Tracer) succeed(tid int, done chan<- struct{}) {
	ended := false
	for end := time.Now().Add(successionTime); !ended && time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		ended = unix.Tgkill(os.Getpid(), tid, 0) != nil
	}
	t.hand.abandoned = false
	t.hand.held.Store(0)
	if ended {
		t.watchdog.end()
	}
	close(done)
	t.loop(make(chan struct{}))
}

// disarm calls the watchdog off, unless somebody is yet to be let go of.
func (t *Tracer) disarm() {
	if !t.hand.abandoned {
		t.watchdog.disarm()
	}
}

// on runs f on the tracer's thread, under the watchdog. Once f has begun it
// is not abandoned: its own deadlines bound it.
func (t *Tracer) on(ctx context.Context, f func(*hand) error) error {
	var err error
	if e := t.serially(ctx, func(h *hand) { err = t.session(h, f) }); e != nil {
		return e
	}
	return err
}

// serially runs do on the tracer's thread, after what runs there.
func (t *Tracer) serially(ctx context.Context, do func(*hand)) error {
	j := job{done: make(chan struct{}), run: do}
	select {
	case t.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-t.closed:
		return ErrClosed
	}
	<-j.done
	return nil
}

// session runs f in a session: the one that is kept, or one of its own.
func (t *Tracer) session(h *hand, f func(*hand) error) error {
	if t.kept != nil {
		return f(h)
	}
	end, err := t.beginSession()
	if err != nil {
		return err
	}
	defer end()
	return f(h)
}

// beginSession makes the process fit to stop threads, until end is called on the same
// thread: the watchdog watches, the keyboard cannot stop it, no collection of garbage
// begins, and it goes before others. One that runs is waited for.
func (t *Tracer) beginSession() (end func(), err error) {
	if err := t.guardSession(); err != nil {
		return nil, fmt.Errorf("nothing was stopped: %w", err)
	}
	back := background.Foreground()
	calm := hurry()
	return func() {
		calm()
		back()
		if !t.hand.abandoned {
			t.watchdog.end()
		}
	}, nil
}

// Keep begins a session that lasts until end is called, over all operations in between:
// to begin one takes some hundred microseconds, as often as not more than what is done
// in it. It is for who makes several operations within milliseconds: garbage is not
// collected meanwhile. Should a thread have to be abandoned, the session ends with it. One
// within another that is kept is that.
func (t *Tracer) Keep(ctx context.Context) (end func(), err error) {
	end = func() {}
	e := t.serially(ctx, func(*hand) {
		if t.kept == nil {
			t.kept, err = t.beginSession()
			end = func() { _ = t.serially(context.Background(), func(*hand) { t.endKept() }) }
		}
	})
	if err = errors.Join(e, err); err != nil {
		return nil, err
	}
	return end, nil
}

func (t *Tracer) endKept() {
	if t.kept != nil {
		t.kept()
		t.kept = nil
	}
}

// guardSession wakes the watchdog, or a new one if it has died.
func (t *Tracer) guardSession() error {
	if t.watchdog.begin() == nil {
		return nil
	}
	t.watchdog.close()
	w, err := startWatchdog()
	if err != nil {
		return err
	}
	t.watchdog = w
	return w.begin()
}

// Write writes b at addr in one go without stopping anybody: one aligned word
// of PIE's own data, such as a mode; never code. ErrPageBoundary.
func (t *Tracer) Write(p *Process, addr address.Addr, b []byte) error {
	if spansPages(addr, len(b)) {
		return fmt.Errorf("pid %d: %d bytes at %v: %w", p.Pid(), len(b), addr, ErrPageBoundary)
	}
	return t.on(context.Background(), func(h *hand) error {
		m, err := p.openMemory()
		if err != nil {
			return err
		}
		defer m.close()
		return m.write(h, addr, b)
	})
}

// How long one operation waits for threads to stop before it lets all go
// again, and how long system calls in a stopped thread may take in addition:
// together below the watchdog's stopLimit.
const (
	stopTime = 250 * time.Millisecond
	callTime = 150 * time.Millisecond
)

// On a machine without idle CPUs a runnable thread may not get to its stop
// within stopTime. It is let go of, and tried again.
const (
	stopAttempts    = 4
	betweenAttempts = 50 * time.Millisecond
)

// attempts calls try until it reaches the caller's function, or is refused for
// another reason than ErrBusy. The last reason is returned, also when ctx ends.
func attempts(ctx context.Context, try func() (reached bool, err error)) error {
	var last error
	for range stopAttempts {
		reached, err := try()
		if reached || !errors.Is(err, ErrBusy) {
			if last != nil && ctx.Err() != nil && !reached {
				return last
			}
			return err
		}
		last = err
		select {
		case <-time.After(betweenAttempts):
		case <-ctx.Done():
			return last
		}
	}
	return last
}

// scratch is memory that operations use while threads are stopped, allocated
// and touched once.
type scratch struct {
	xstate, frame, look, zero []byte
	filter                    []unix.SockFilter // of seccomp
	tasks                     []task
	dents                     []byte // of a directory being listed
	pids, tids, strangers     []int
	pidsLast                  bool // a pid is not given again within strangersTime
}

func (s *scratch) allocate() {
	// A state that fills this may be longer; the length must be a multiple of 8.
	s.pidsLast = pidsLast()
	s.xstate = make([]byte, (frameMax-frameXState-4)&^7)
	s.frame = make([]byte, frameMax)
	s.look = make([]byte, frameMax)
	s.zero = make([]byte, frameMax)
	s.filter = make([]unix.SockFilter, maxFilter)
	s.dents = make([]byte, direntsSize)
}

func (s *scratch) remote() remote {
	return remote{xstate: s.xstate, frame: s.frame, look: s.look, zero: s.zero, filter: s.filter}
}
