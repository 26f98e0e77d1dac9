package tracee

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

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
	lost    error // why the whole stop must be given up
	view    []Thread
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
	err = attempts(ctx, func() (reached bool, err error) {
		if err := p.Check(); err != nil {
			return false, err
		}
		report, reached, err = t.tryStopWorld(ctx, p, avoid, do)
		return reached, err
	})
	return report, err
}

// tryStopWorld makes one attempt; reached tells whether do was called.
func (t *Tracer) tryStopWorld(ctx context.Context, p *Process, avoid []Range, do func(*World) error) (report Stop, reached bool, err error) {
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
		return quietly(func() error {
			report, err = t.stopWorld(ctx, w, func(w *World) error {
				reached = true
				return do(w)
			})
			t.state.tasks = w.crowd.tasks
			return err
		})
	})
	return report, reached, err
}

func (t *Tracer) stopWorld(ctx context.Context, w *World, do func(*World) error) (Stop, error) {
	t.watchdog.arm()
	defer t.watchdog.disarm()
	err := w.gather(ctx)
	if err == nil {
		err = w.halt(ctx)
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
	if t == nil || t.state != taskStopped {
		return fmt.Errorf("pid %d: moving thread %d: %w", w.p.Pid(), tid, ErrBusy)
	}
	rip := uint64(pc)
	if t.restarts() {
		rip += syscallInsnSize
	}
	if errno := w.h.pokeUser(tid, userRIP, uintptr(rip)); errno != 0 {
		return fmt.Errorf("pid %d: moving thread %d: %w", w.p.Pid(), tid, goneOr(errno))
	}
	t.regs.Rip = rip
	return nil
}

// Read fills b from the target's memory at addr.
func (w *World) Read(b []byte, addr address.Addr) error { return w.memory.read(b, addr) }

// Write replaces the bytes at addr by b in one write, through any protection.
// ErrPageBoundary if they span two pages, where a killed writer would leave
// half; ErrMismatch if expect is not nil and is not what is there now.
func (w *World) Write(addr address.Addr, b, expect []byte) error {
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

// worldOptions make children of any kind arrive stopped and an exec show.
const worldOptions = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC

// gather seizes every task, which stops nobody, until a pass finds none that
// is new. From then on newborns are seized by the kernel.
func (w *World) gather(ctx context.Context) error {
	begin, others := time.Now(), 0
	if err := w.gatherGroup(w.p.Pid()); err != nil {
		return err
	}
	for ctx.Err() == nil && time.Since(begin) < gatherTime {
		// Other processes in the same memory, once all threads are seized: a
		// child that is born later is seized by the kernel.
		sharing, errno := w.p.sharingMM(w.scratch.dents, w.scratch.pids[:0])
		if errno != 0 {
			return fmt.Errorf("listing /proc: %w", errno)
		}
		w.scratch.pids = sharing
		if len(sharing) == others {
			return nil
		}
		others = len(sharing)
		for _, group := range sharing {
			if err := w.gatherGroup(group); err != nil {
				return err
			}
		}
	}
	return errors.Join(ctx.Err(), fmt.Errorf("pid %d: its threads could not be listed within %v: %w", w.p.Pid(), gatherTime, ErrBusy))
}

// gatherTime bounds the time from the first seize to the first interrupt: a
// task that has a child meanwhile stands still.
const gatherTime = 150 * time.Millisecond

// gatherGroup seizes the threads of one process that are not seized yet.
func (w *World) gatherGroup(group int) error {
	var path procPath
	for fresh := true; fresh; {
		tids, errno := listNumbers(path.set(group, 0, ""), w.scratch.dents, w.scratch.tids[:0])
		if errno != 0 && group == w.p.Pid() {
			return fmt.Errorf("pid %d: listing its threads: %w", group, goneOr(errno))
		}
		w.scratch.tids, fresh = tids, false
		for _, tid := range tids {
			if w.crowd.find(tid) != nil {
				continue
			}
			fresh = true
			if err := w.seize(group, tid); err != nil {
				return err
			}
		}
	}
	return nil
}

// seize adds a task. One that has ended is remembered as such.
func (w *World) seize(group, tid int) error {
	errno := w.h.seize(tid, worldOptions)
	t := task{tid: tid, group: group, state: taskSeized}
	switch {
	case errno == 0:
	case errno == unix.ESRCH:
		t.state = taskGone
	default:
		st, err := taskStatus(group, tid)
		if err == nil && st.State != 'Z' && st.State != 'X' {
			if st.Tracer == unix.Gettid() {
				break // a newborn that the kernel has seized for us
			}
			return w.p.seizeError(tid, errno)
		}
		t.state = taskGone
	}
	w.crowd.add(t)
	return nil
}

// halt interrupts all tasks and waits until each stands still. Threads that
// are on a CPU come last, and resume first: who sleeps does not notice.
func (w *World) halt(ctx context.Context) error {
	w.crowd.markRunning()
	begin := time.Now()
	for _, running := range [...]bool{false, true} {
		for i := range w.crowd.tasks {
			t := &w.crowd.tasks[i]
			if t.state == taskSeized && t.running == running {
				w.interrupt(t, time.Since(begin))
			}
		}
		if err := w.collect(ctx, begin, running); err != nil {
			return err
		}
	}
	if err := w.recount(ctx, begin); err != nil {
		return err
	}
	w.crowd.began = begin
	w.memory.tid = w.crowd.anyStopped()
	w.view = w.crowd.threads(w.view)
	return nil
}

func (w *World) interrupt(t *task, now time.Duration) {
	t.interrupted = now
	if w.h.interrupt(t.tid) == unix.ESRCH {
		t.state = taskGone
	}
}

// recount compares with the kernel's number of threads, and looks for what
// the listing may have missed while threads came and went.
func (w *World) recount(ctx context.Context, begin time.Time) error {
	var path procPath
	for {
		if n, ok := countTasks(path.set(w.p.Pid(), 0, "")); ok && n == w.crowd.alive(w.p.Pid()) {
			return nil
		}
		before := len(w.crowd.tasks)
		if err := w.gatherGroup(w.p.Pid()); err != nil {
			return err
		}
		if len(w.crowd.tasks) == before {
			return nil
		}
		for i := before; i < len(w.crowd.tasks); i++ {
			if t := &w.crowd.tasks[i]; t.state == taskSeized {
				w.interrupt(t, time.Since(begin))
			}
		}
		if err := w.collect(ctx, begin, true); err != nil {
			return err
		}
	}
}

// Threads that do not stop are looked at after patience, in time without
// progress, and taken for asleep after deepSleep: page faults and file systems
// put threads into uninterruptible sleep for a moment.
const (
	patience  = 300 * time.Microsecond
	deepSleep = 60 * time.Millisecond
)

// collect waits until every interrupted task is stopped, gone or asleep. With
// all unset, running tasks are not expected yet.
func (w *World) collect(ctx context.Context, begin time.Time, all bool) error {
	last, look := time.Now(), patience
	for turn := 0; ; turn++ {
		missing, progress := w.pass(all)
		if w.lost != nil || missing == 0 {
			return w.lost
		}
		if progress {
			last, look = time.Now(), patience
			turn = 0
			continue
		}
		if idle := time.Since(last); idle > look {
			w.inspect(idle)
			look = idle + patience
		}
		if time.Since(begin) > stopTime || ctx.Err() != nil {
			return errors.Join(ctx.Err(), w.stuck())
		}
		w.h.rest(turn, missing)
	}
}

// maxMisses ends a pass early: tasks stop about in the order in which they
// were interrupted, and asking those behind costs CPU time they need.
const maxMisses = 8

// pass asks outstanding tasks once each, in the order of their interrupts.
func (w *World) pass(all bool) (missing int, progress bool) {
	for i := 0; i < len(w.crowd.tasks); i++ { // grows when a birth is reported
		t := &w.crowd.tasks[i]
		if t.state != taskSeized || (t.running && !all) {
			continue
		}
		if missing >= maxMisses {
			missing++
			continue
		}
		got, ws, errno := w.h.poll(t.tid)
		switch {
		case errno != 0:
			t.state = taskGone
		case got == 0:
			missing++
			continue
		default:
			w.stopped(t, ws)
		}
		progress = true
	}
	return missing, progress
}

// stopped notes a task's stop, or its end. The registers are read at once, and
// an EINTR that the stop has caused is hidden at once: a tracer killed before
// that would leave it visible, as any SIGSTOP does.
func (w *World) stopped(t *task, ws unix.WaitStatus) {
	if !ws.Stopped() {
		t.state = taskGone
		return
	}
	i := w.crowd.position(t)
	t.state = taskStopped
	t.why, t.signal = whyStopped(ws)
	if errno := w.h.getRegs(t.tid, &t.regs); errno != 0 {
		t.state = taskGone
		return
	}
	switch t.why {
	case stopExec:
		if t.group == w.p.Pid() {
			w.lost = fmt.Errorf("pid %d: replaced its program by exec: %w", w.p.Pid(), ErrGone)
		}
		t.foreign = true // a vfork child that has left the memory
	case stopBirth:
		if child, errno := w.h.eventMessage(t.tid); errno == 0 {
			w.born(child, w.crowd.tasks[i].group)
		}
	case stopEvent, stopSignal:
		if sawEINTR(&t.regs) && w.h.pokeUser(t.tid, userRAX, uintptr(noHandler)) == 0 {
			hideEINTR(&t.regs)
		}
	}
}

// born adds a newborn that the kernel has seized. A child by fork has memory
// of its own and is let go of when all are resumed.
func (w *World) born(tid, group int) {
	if w.crowd.find(tid) != nil {
		return
	}
	t := task{tid: tid, group: group, state: taskSeized, foreign: !sameMM(w.p.Pid(), tid)}
	if !isTask(group, tid) {
		t.group = tid // a process of its own
	}
	if t.foreign {
		w.forked = append(w.forked, tid)
	}
	w.crowd.add(t)
}

// inspect looks at tasks that do not stop: some are in uninterruptible sleep,
// which they leave only into the pending trap. A vfork parent stays in it as
// long as its child stands still, so nobody waits for it.
func (w *World) inspect(idle time.Duration) {
	for i := range w.crowd.tasks {
		t := &w.crowd.tasks[i]
		if t.state != taskSeized {
			continue
		}
		st, err := taskStatus(t.group, t.tid)
		if err != nil || st.State == 'Z' || st.State == 'X' {
			t.state = taskGone
			continue
		}
		if st.State != 'D' {
			continue
		}
		u, err := taskUserState(t.group, t.tid)
		if err != nil || u.running || (idle < deepSleep && !makesChildren(u.nr)) {
			continue
		}
		if pc := address.Addr(u.pc); !inside(pc, w.avoid) && !inside(pc.Add(-syscallInsnSize), w.avoid) {
			t.state = taskAsleep
			t.regs.Rip, t.regs.Orig_rax = u.pc, ^uint64(0)
		}
	}
}

// makesChildren lists the calls in which a vfork parent sleeps.
func makesChildren(nr int64) bool {
	return nr == unix.SYS_VFORK || nr == unix.SYS_CLONE || nr == unix.SYS_CLONE3
}

// stuck names a thread that does not stop.
func (w *World) stuck() error {
	for i := range w.crowd.tasks {
		if t := &w.crowd.tasks[i]; t.state == taskSeized {
			return w.p.stuck(t.tid)
		}
	}
	return w.p.stuck(w.p.Pid())
}
