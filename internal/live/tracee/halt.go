package tracee

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Stopping a process is gather, which seizes all tasks and stops nobody, and
// halt, which interrupts them and waits until each stands still. Tasks come
// and go meanwhile: what is born is seized by the kernel and arrives stopped.

// worldOptions make children of any kind arrive stopped and an exec show.
const worldOptions = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC

// gather seizes every task, which stops nobody, until a pass finds none that
// is new. From then on newborns are seized by the kernel.
func (w *World) gather(ctx context.Context) error {
	begin, others := time.Now(), 0
	if err := w.gatherGroup(w.p.Pid()); err != nil {
		return err
	}
	if w.heldAlone() {
		return nil
	}
	for ctx.Err() == nil && time.Since(begin) < gatherTime {
		// Other processes in the same memory, once all threads are seized: a
		// child that is born later is seized by the kernel.
		sharing, errno := w.p.sharingMM(w.scratch.dents, w.scratch.pids[:0], w.scratch.strangers)
		if errno != 0 {
			return fmt.Errorf("pid %d: who shares its memory: %w", w.p.Pid(), w.p.goneOr(errno))
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

// heldAlone tells whether the process is held since its exec, which gave it memory of
// its own, and no child of it is alive that might share that: then nobody in /proc need
// be asked, which takes longer the more processes there are.
func (w *World) heldAlone() bool {
	if !w.h.holds(w.p.Pid()) || len(w.crowd.tasks) != 1 {
		return false
	}
	var path procPath
	fd, errno := open(path.set(w.p.Pid(), w.p.Pid(), "children"), unix.O_RDONLY)
	if errno != 0 {
		return false // a kernel that does not tell (CONFIG_PROC_CHILDREN)
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&w.scratch.dents[0])), uintptr(len(w.scratch.dents)))
	closeFD(fd)
	return errno == 0 && n == 0
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
			return fmt.Errorf("pid %d: listing its threads: %w", group, w.p.goneOr(errno))
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
	var errno unix.Errno
	if !w.h.holds(tid) {
		errno = w.h.seize(tid, worldOptions)
	}
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
	if tid == w.p.Pid() && t.state == taskGone {
		w.mainEnded = true
	}
	w.crowd.add(t)
	return nil
}

// halt interrupts all tasks and waits until each stands still. Threads that
// are on a CPU come last, and resume first: who sleeps does not notice.
func (w *World) halt(ctx context.Context) error {
	w.giveWay()
	w.crowd.markRunning()
	begin := time.Now()
	for _, running := range [...]bool{false, true} {
		if running && w.crowd.running() <= cpusOf(w.p.Pid()) {
			w.hasten() // not before, nor among more: who is to stop needs a CPU to get there
		}
		for i := range w.crowd.tasks {
			t := &w.crowd.tasks[i]
			if t.state == taskSeized && t.running == running {
				w.interrupt(t, time.Since(begin))
			}
		}
		if err := w.collect(ctx, begin, running); err != nil {
			return err
		}
		if !running {
			if err := w.show(); err != nil {
				return err
			}
		}
	}
	if err := w.recount(ctx, begin); err != nil {
		return err
	}
	w.hasten() // nobody needs a CPU any more before he is let go of
	w.crowd.began, w.halted = begin, true
	w.memory.tid = w.crowd.anyStopped()
	w.view = w.crowd.threads(w.view)
	return nil
}

// giveWay lets those run that wait for this thread's CPU: one that has just made a call for
// the tracer is on its way back to sleep, and others wanted to wake meanwhile. They would be
// among those that compute, which feel a stop, and keep them waiting until they got the CPU.
// Who does not sleep then computes. Of very many threads it would take long to ask.
func (w *World) giveWay() {
	const turn, all, many = 30 * time.Microsecond, time.Millisecond, 256
	var cpu uint32
	for begin := time.Now(); len(w.crowd.tasks) <= many && time.Since(begin) < all; {
		_, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
		if errno != 0 || !w.crowd.waitsFor(int(cpu)) {
			return
		}
		w.h.sleep(turn)
	}
}

// cpusOf counts the CPUs that a process's main thread may run on, 1 where that cannot be
// told. What pie itself may run on says nothing of them: it keeps off some.
func cpusOf(pid int) int {
	var set [128]uint64 // of 8192 CPUs, the most that a kernel is built for on x86-64
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, uintptr(pid), unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	count := 0
	for _, word := range set {
		count += bits.OnesCount64(word)
	}
	if errno != 0 || count == 0 {
		return 1
	}
	return count
}

// show shows first the threads that stand still so far.
func (w *World) show() error {
	if w.first == nil {
		return nil
	}
	w.memory.tid = w.crowd.anyStopped()
	if w.view = w.crowd.threads(w.view); len(w.view) == 0 {
		return nil
	}
	err := w.first(w)
	w.crowd.markShown()
	return err
}

func (w *World) interrupt(t *task, now time.Duration) {
	t.interrupted = now
	if w.h.holds(t.tid) {
		return // it stands still
	}
	if w.h.interrupt(t.tid) == unix.ESRCH {
		t.state = taskGone
	}
}

// recount compares with the kernel's number of threads, and looks for what
// the listing may have missed while threads came and went.
func (w *World) recount(ctx context.Context, begin time.Time) error {
	var path procPath
	for {
		n, ok := countTasks(path.set(w.p.Pid(), 0, ""))
		if w.mainEnded {
			n-- // it is listed until the last thread ends
		}
		if ok && n == w.crowd.alive(w.p.Pid()) {
			return nil
		}
		before := len(w.crowd.tasks)
		if err := w.gatherGroup(w.p.Pid()); err != nil {
			return err
		}
		if len(w.crowd.tasks) == before {
			return w.disputed()
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

// disputed looks at the threads that are listed although a request for them was
// answered as if they had ended. Those that are neither dead nor stopped could
// run into what is to be written.
func (w *World) disputed() error {
	var path procPath
	tids, errno := listNumbers(path.set(w.p.Pid(), 0, ""), w.scratch.dents, w.scratch.tids[:0])
	if errno != 0 {
		return fmt.Errorf("pid %d: listing its threads: %w", w.p.Pid(), w.p.goneOr(errno))
	}
	w.scratch.tids = tids
	for _, tid := range tids {
		if t := w.crowd.find(tid); t == nil || t.state != taskGone {
			continue
		}
		if st, err := taskStatus(w.p.Pid(), tid); err == nil && st.State != 'Z' && st.State != 'X' {
			return fmt.Errorf("pid %d: thread %d lives and does not answer: %w", w.p.Pid(), tid, ErrBusy)
		}
	}
	return nil
}

// Threads that do not stop are looked at after patience, in time without
// progress, and taken for asleep after deepSleep: page faults and file systems
// put threads into uninterruptible sleep for a moment.
const (
	patience  = 300 * time.Microsecond
	deepSleep = 60 * time.Millisecond
)

// fullMachine is how long the stop of threads takes on a machine whose CPUs are wanted by
// many. There the nice value is not enough: it counts within the tracer's scheduling group
// alone (sched(7), autogroup), and a group may wait for a tenth of a second, while those
// that have stopped stand still.
const fullMachine = 2 * time.Millisecond

// collect waits until every interrupted task is stopped, gone or asleep. With
// all unset, running tasks are not expected yet.
func (w *World) collect(ctx context.Context, begin time.Time, all bool) error {
	last, look := time.Now(), patience
	for {
		missing, progress := w.pass(all)
		if w.lost != nil || missing == 0 {
			return w.lost
		}
		if progress {
			last, look = time.Now(), patience
			continue
		}
		if idle := time.Since(last); idle > look {
			w.inspect(idle)
			look = idle + patience
		}
		if time.Since(begin) > stopTime || ctx.Err() != nil {
			return errors.Join(ctx.Err(), w.stuck())
		}
		if time.Since(begin) > fullMachine {
			w.hasten()
		}
		w.h.rest(missing, time.Since(last))
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
			w.born(child, &w.crowd.tasks[i])
		}
	case stopEvent, stopSignal:
		if sawEINTR(&t.regs) && w.h.pokeUser(t.tid, userRAX, uintptr(noHandler)) == 0 {
			hideEINTR(&t.regs)
		}
	}
}

// born adds a newborn that the kernel has seized. A child by fork has memory
// of its own and is let go of when all are resumed.
func (w *World) born(tid int, parent *task) {
	if w.crowd.find(tid) != nil {
		return
	}
	member := parent.tid // it stands still, and so has its memory; the main thread may have ended
	if parent.foreign {
		member = w.p.Pid()
	}
	t := task{tid: tid, group: parent.group, state: taskSeized, foreign: !sameMM(member, tid)}
	if !isTask(t.group, tid) {
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
			t.regs.Rip, t.regs.Rsp, t.regs.Orig_rax = u.pc, u.sp, ^uint64(0)
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
