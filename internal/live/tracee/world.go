package tracee

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
)

// World is a stopped process: every task that shares its address space. It is
// valid only inside StopWorld's function.
type World struct {
	p       *Process
	h       *hand
	memory  memory
	avoid   []Range
	crowd   crowd
	scratch *scratch
	forked  []int
	first   func(*World) error // is shown those that sleep, before the others are stopped
	halted  bool               // all stand still
	mayRush bool               // the watchdog gets the CPU from a tracer that rushes
	rushing bool
	lost    error // why the whole stop must be given up
	view    []Thread
	// mainEnded: the main thread had ended before the stop, others run on.
	mainEnded bool
}

// Thread is one stopped thread.
type Thread struct {
	Tid int
	// PC is the instruction it goes on with: the system call instruction itself
	// when the kernel will make an interrupted call again.
	PC address.Addr
	// SP is the stack pointer: signal frames of the thread lie above it.
	SP address.Addr
	// Asleep: in uninterruptible sleep with an interrupt pending. It runs no
	// user instruction before the next resume, but its PC cannot be moved.
	Asleep bool
	// Shown: it stands where it stood when first was shown the threads that sleep.
	Shown bool
}

// Stop reports on a StopWorld that has ended.
type Stop struct {
	Threads int
	// Pause is the longest time a thread that was on a CPU, or waiting for one,
	// was kept from it. (If all slept: the Window.)
	Pause time.Duration
	// Window is the time from the first interrupt to the last resume: how late a
	// thread that slept may have been woken.
	Window time.Duration
	// Forked are children born by fork during the stop. They run again, with a
	// copy of the memory as it was at their birth.
	Forked []int
}

// StopWorld stops every task that shares p's memory, runs do on the tracer's
// thread, and resumes all. avoid is what do will write: a thread in
// uninterruptible sleep counts as stopped when its PC lies outside.
//
// do may call its argument only, and must neither allocate nor wait for
// anything: everything it needs is prepared before. If it returns an error,
// all is resumed as it is and the error returned: undoing what it wrote is
// do's own business. ErrGone, ErrBusy, ErrFrozen, *TracedError, *PermissionError.
func (t *Tracer) StopWorld(ctx context.Context, p *Process, avoid []Range, do func(*World) error) (report Stop, err error) {
	return t.StopSleepersFirst(ctx, p, avoid, nil, do)
}

// StopSleepersFirst is StopWorld, but that first is called when those threads stand
// still that were on no CPU, and before those are stopped that feel it: what takes long
// to read belongs there. It is called only if there are such threads. It must
// change nothing; its error ends the stop.
func (t *Tracer) StopSleepersFirst(ctx context.Context, p *Process, avoid []Range, first, do func(*World) error) (report Stop, err error) {
	err = attempts(ctx, func() (reached bool, err error) {
		if err := p.Check(); err != nil {
			return false, err
		}
		report, reached, err = t.tryStopWorld(ctx, p, avoid, first, do)
		return reached, err
	})
	return report, err
}

// tryStopWorld makes one attempt; reached tells whether first or do was called.
func (t *Tracer) tryStopWorld(ctx context.Context, p *Process, avoid []Range, first, do func(*World) error) (report Stop, reached bool, err error) {
	err = t.on(ctx, func(h *hand) error {
		unlock, err := p.hold()
		if err != nil {
			return err
		}
		defer unlock()
		m, err := p.openMemory()
		if err != nil {
			return err
		}
		defer m.close()
		w := &World{p: p, h: h, memory: m, avoid: avoid, crowd: crowd{tasks: t.state.tasks[:0]}, scratch: &t.state}
		if first != nil {
			w.first = func(w *World) error {
				reached = true
				return first(w)
			}
		}
		report, err = t.stopWorld(ctx, w, func(w *World) error {
			reached = true
			return do(w)
		})
		t.state.tasks = w.crowd.tasks
		return err
	})
	return report, reached, err
}

func (t *Tracer) stopWorld(ctx context.Context, w *World, do func(*World) error) (Stop, error) {
	w.mayRush = t.watchdog.above
	w.scratch.strangers = w.scratch.strangers[:0]
	if w.scratch.pidsLast && !w.h.holds(w.p.Pid()) {
		w.scratch.strangers = w.p.strangers(w.scratch.dents, w.scratch.strangers)
	}
	defer w.calm() // when the watchdog is called off, not before
	t.watchdog.arm(w.p.Pid())
	defer t.disarm()
	err := w.gather(ctx)
	if err == nil {
		err = w.halt(ctx)
	}
	if err == nil {
		err = w.checkFrames()
	}
	if err == nil {
		err = do(w)
	}
	report := Stop{Threads: len(w.view), Forked: w.forked}
	report.Pause, report.Window = w.resume()
	return report, err
}

// Threads returns all threads; the slice is the World's own.
func (w *World) Threads() []Thread { return w.view }

// SetPC moves the program counter of thread tid, in the sense of Thread.PC.
func (w *World) SetPC(tid int, pc address.Addr) error {
	t := w.crowd.find(tid)
	if t == nil || t.state != taskStopped || !w.halted {
		return fmt.Errorf("pid %d: moving thread %d: %w", w.p.Pid(), tid, ErrBusy)
	}
	rip := uint64(pc)
	if t.restarts() {
		rip += syscallInsnSize
	}
	if errno := w.h.pokeUser(tid, userRIP, uintptr(rip)); errno != 0 {
		return w.p.threadLost(tid, "moving it", errno)
	}
	t.regs.Rip = rip
	return nil
}

// Blocked returns the signals that a stopped thread blocks; ok is false when it
// cannot be asked: it is asleep. A thread in a signal handler blocks at least that
// signal, unless the handler was installed with SA_NODEFER.
func (w *World) Blocked(tid int) (mask uint64, ok bool) {
	errno := w.h.getSigMask(tid, &mask)
	return mask, errno == 0
}

// Caught returns the signals that the process has handlers for (SigCgt in
// proc_pid_status(5)): all, when that cannot be told.
func (w *World) Caught() uint64 { return w.p.caught(w.scratch.dents) }

// ReadUp fills b from addr upwards. What is not in memory, or not mapped, reads as zero.
func (w *World) ReadUp(b []byte, addr address.Addr) {
	clear(b)
	if len(w.view) > 0 {
		w.memory.readUp(w.view[0].Tid, b, addr)
	}
}

// Mapped tells whether a byte can be read at each of the addresses.
func (w *World) Mapped(at []address.Addr) bool { return w.memory.hasEach(at) }

// Read fills b from the target's memory at addr.
func (w *World) Read(b []byte, addr address.Addr) error { return w.memory.read(b, addr) }

// Write replaces the bytes at addr by b in one write, through any protection.
// ErrPageBoundary if they span two pages, where a killed writer would leave
// half; ErrMismatch if expect is not nil and is not what is there now.
func (w *World) Write(addr address.Addr, b, expect []byte) error {
	if !w.halted {
		return fmt.Errorf("pid %d: writing while threads of it run: %w", w.p.Pid(), ErrBusy)
	}
	if spansPages(addr, len(b)) || len(expect) > len(w.scratch.frame) {
		return fmt.Errorf("pid %d: %d bytes at %v: %w", w.p.Pid(), len(b), addr, ErrPageBoundary)
	}
	if expect != nil {
		there := w.scratch.frame[:len(expect)]
		if err := w.memory.read(there, addr); err != nil {
			return err
		}
		if !bytes.Equal(there, expect) {
			return fmt.Errorf("pid %d: at %v: % x instead of % x: %w", w.p.Pid(), addr, there, expect, ErrMismatch)
		}
	}
	return w.memory.write(w.h, addr, b)
}
