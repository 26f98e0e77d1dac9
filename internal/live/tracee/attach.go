package tracee

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Attached is one stopped thread, valid only inside Attach's function.
type Attached struct {
	p      *Process
	h      *hand
	tid    int
	memory memory
	remote remote
	began  time.Time
	// kept is the longest time that the thread has been kept, should it have been let
	// go of and stopped again.
	kept     time.Duration
	watchdog *tracerWatchdog
	// away: the thread runs, as nobody's tracee, and has yet to be stopped again.
	away bool
	// changed: the function has written something, or made a call.
	changed bool
}

// Attach stops one thread of p, runs do on the tracer's thread and lets the
// thread go on as it was. do may call its argument only, and must neither
// allocate nor wait for anything: everything it needs is prepared before. It may be
// called again, when it has changed nothing because no call could be made at that
// moment. Its error is returned. ErrGone, ErrBusy, ErrFrozen, *TracedError, *PermissionError.
func (t *Tracer) Attach(ctx context.Context, p *Process, do func(*Attached) error) error {
	return attempts(ctx, func() (reached bool, err error) {
		if err := p.Check(); err != nil {
			return false, err
		}
		if !t.hand.holds(p.Pid()) && p.Frozen() { // who is held has stopped already
			return false, fmt.Errorf("pid %d: %w", p.Pid(), ErrFrozen)
		}
		candidates, err := p.candidates()
		if err != nil {
			return false, err
		}
		return t.attach(ctx, p, candidates, do)
	})
}

// attach tries the candidates in turn; reached tells whether do was called and had
// its way.
func (t *Tracer) attach(ctx context.Context, p *Process, candidates []candidate, do func(*Attached) error) (reached bool, err error) {
	a := &Attached{p: p, remote: t.state.remote(), watchdog: t.watchdog}
	a.remote.refusal = a.remote.prepare(p)
	a.remote.lone = candidates[0].cost == costRunning && p.isLone()
	if a.remote.refusal == nil {
		candidates = p.withMain(candidates, a.remote.needsMain(p))
	}
	for _, c := range candidates {
		a.remote.seccompMode = c.seccomp
		err = t.on(ctx, func(h *hand) error {
			a.h = h
			return t.attachTo(ctx, a, c.tid, func(a *Attached) error {
				err := do(a)
				var later *notNow
				reached = a.changed || !errors.As(err, &later)
				return err
			})
		})
		if reached || !errors.Is(err, ErrBusy) {
			break
		}
	}
	return reached, err
}

func (t *Tracer) attachTo(ctx context.Context, a *Attached, tid int, do func(*Attached) error) error {
	unlock, err := a.p.hold()
	if err != nil {
		return err
	}
	defer unlock()
	if a.memory, err = a.p.openMemory(); err != nil {
		return err
	}
	defer a.memory.close()
	if t.watchdog.above && rush() {
		defer relax() // when the watchdog is called off, not before
	}
	t.watchdog.arm(a.p.Pid())
	defer t.disarm()
	defer a.h.sweep(func(tid int, ws unix.WaitStatus) {
		_, sig := whyStopped(ws)
		_ = a.h.detach(tid, sig)
	})
	if err := a.stop(ctx, tid); err != nil {
		return err
	}
	if err = errors.Join(a.checkGadgets(), a.checkFrame(), a.checkPlace()); err == nil {
		err = do(a)
	}
	return errors.Join(err, a.release())
}

// Read fills b from the target's memory at addr.
func (a *Attached) Read(b []byte, addr address.Addr) error { return a.memory.read(b, addr) }

// Write writes b at addr, page by page, through any protection. It is for
// memory that nobody uses yet: a writer killed between two pages leaves the
// first one written.
func (a *Attached) Write(addr address.Addr, b []byte) error {
	a.changed = true
	return a.memory.write(a.h, addr, b)
}

// Own has the kernel give the process its own copy of the page at addr now and not in a
// stop of the world, by writing the byte b that is there. It matters to nobody if that
// cannot be done: where another byte is there, and where only PTRACE_POKEDATA may write,
// nothing is.
func (a *Attached) Own(addr address.Addr, b byte) {
	var there [1]byte
	if !a.memory.has(there[:], addr) || there[0] != b {
		return
	}
	a.changed = true
	m := a.memory
	m.tid = 0
	_ = m.writeInPage(a.h, addr, there[:])
}

// Thread returns the id of the stopped thread.
func (a *Attached) Thread() int { return a.tid }

// Kept returns the longest time so far that the thread was kept from going on, without
// the time for which it was let go of between two system calls.
func (a *Attached) Kept() time.Duration { return max(a.kept, time.Since(a.began)) }

// Away tells whether the thread runs at the moment: it has made a system call alone.
func (a *Attached) Away() bool { return a.away }

// Computing tells whether the thread was kept from its work: it was in no system call.
func (a *Attached) Computing() bool { return !inSyscall(&a.remote.regs) }

// Held tells whether the thread is held since its exec: it waits for the end of all that is
// done, not for this operation.
func (a *Attached) Held() bool { return a.h.holds(a.tid) }

// attachOptions mark system-call stops, so that they are told from SIGTRAP.
const attachOptions = unix.PTRACE_O_TRACESYSGOOD

// stop seizes thread tid and waits until it stands still in an event stop,
// from which alone its registers can be put back with the kernel's restart
// logic still to come. Signals that arrive first are passed on.
func (a *Attached) stop(ctx context.Context, tid int) error {
	a.began = time.Now()
	held := a.h.holds(tid)
	if !held {
		if errno := a.h.seize(tid, attachOptions); errno != 0 {
			return a.p.seizeError(tid, errno)
		}
	}
	a.tid, a.memory.tid = tid, tid
	if !held {
		if errno := a.h.interrupt(tid); errno != 0 {
			return a.lost("interrupting it", errno)
		}
	}
	if err := a.awaitEvent(ctx); err != nil {
		return err
	}
	if !a.p.alive() || !a.p.hasTask(tid) {
		_ = a.h.detach(tid, 0)
		return a.lost("looking whose it is", unix.ESRCH)
	}
	return a.save()
}

// save reads the registers, and hides at once an EINTR that the stop has
// caused: a tracer killed before that leaves it visible, as any SIGSTOP does.
func (a *Attached) save() error {
	regs := &a.remote.regs
	if errno := a.h.getRegs(a.tid, regs); errno != 0 {
		return a.lost("reading its registers", errno)
	}
	if sawEINTR(regs) {
		if errno := a.h.pokeUser(a.tid, userRAX, uintptr(noHandler)); errno != 0 {
			return a.lost("hiding an EINTR", errno)
		}
		hideEINTR(regs)
	}
	return nil
}

// seizeError explains why PTRACE_SEIZE was refused. A thread that is ending
// says EPERM too.
func (p *Process) seizeError(tid int, errno unix.Errno) error {
	st, err := p.Task(tid)
	switch {
	case !p.alive():
		return fmt.Errorf("pid %d: seizing thread %d: %w", p.Pid(), tid, ErrGone)
	case err != nil || st.State == 'Z' || st.State == 'X':
		return fmt.Errorf("pid %d: thread %d has ended: %w", p.Pid(), tid, ErrBusy)
	case errno == unix.EPERM && isOwnThread(st.Tracer):
		return fmt.Errorf("pid %d: thread %d is still held by an attempt of ours that is ending: %w", p.Pid(), tid, ErrBusy)
	case errno == unix.EPERM && st.Tracer != 0:
		return p.traced(st.Tracer)
	case errno == unix.EPERM || errno == unix.EACCES: // the second is what SELinux and AppArmor say
		return p.permission(fmt.Sprintf("seizing thread %d", tid), errno)
	}
	return fmt.Errorf("pid %d: seizing thread %d: %w", p.Pid(), tid, p.goneOr(errno))
}

// isOwnThread tells whether a tracer is one of this process's threads. One that
// gave an attempt up lets go of its tracees only when it ends.
func isOwnThread(tid int) bool { return tid != 0 && isTask(unix.Getpid(), tid) }

func (p *Process) hasTask(tid int) bool {
	return unix.Faccessat(int(p.dir.Fd()), fmt.Sprintf("task/%d", tid), unix.F_OK, 0) == nil
}

// awaitEvent waits for an event stop of the thread.
func (a *Attached) awaitEvent(ctx context.Context) error {
	for {
		ws, err := a.await(ctx)
		if err != nil {
			return err
		}
		switch why, sig := whyStopped(ws); why {
		case stopEvent:
			return nil // SIGSTOP and its kin, passed on before, end in this stop too
		case stopExec:
			_ = a.h.detach(a.tid, 0)
			return fmt.Errorf("pid %d: replaced its program by exec: %w", a.p.Pid(), ErrGone)
		default:
			_ = a.h.cont(a.tid, sig) // ESRCH: the next wait says how it ended
		}
	}
}

// await waits for the next stop of the thread. A thread that does not stop in
// time is abandoned: it is let go of when the tracer's OS thread ends.
func (a *Attached) await(ctx context.Context) (unix.WaitStatus, error) {
	limit := stopTime
	if a.remote.entered {
		limit += callTime
	}
	begin := time.Now()
	for {
		got, ws, errno := a.h.poll(a.tid)
		switch {
		case errno != 0:
			return 0, a.lost("waiting for it", errno)
		case got != 0 && ws.Stopped():
			return ws, nil
		case got != 0:
			return 0, a.ended()
		}
		if time.Since(a.began) > limit || ctx.Err() != nil {
			a.h.abandoned = true
			return 0, a.p.stuck(a.tid)
		}
		a.h.rest(1, time.Since(begin))
	}
}

// ended says what became of a thread that ended under our hands.
func (a *Attached) ended() error {
	if a.p.alive() {
		return fmt.Errorf("pid %d: thread %d ended: %w", a.p.Pid(), a.tid, ErrBusy)
	}
	return fmt.Errorf("pid %d: %w", a.p.Pid(), ErrGone)
}

// stuck says why a thread does not stop.
func (p *Process) stuck(tid int) error {
	if p.Frozen() {
		return fmt.Errorf("pid %d: %w", p.Pid(), ErrFrozen)
	}
	what := ""
	if st, err := taskStatus(tid, tid); err == nil {
		what = fmt.Sprintf(" (state %c)", st.State)
	}
	return fmt.Errorf("pid %d: thread %d%s did not stop within %v: %w", p.Pid(), tid, what, stopTime, ErrBusy)
}

// release puts the thread back and lets it go.
func (a *Attached) release() error {
	if a.standStill() != nil {
		return nil // it runs; its frame harms nobody, and is found again
	}
	err := a.leave()
	if a.h.abandoned || a.Held() {
		return err
	}
	if errno := a.h.detach(a.tid, 0); errno != 0 && a.p.alive() {
		return errors.Join(err, a.lost("letting go of it", errno))
	}
	return err
}

// How many threads are looked at, and how many of them tried.
const (
	maxLookedAt   = 32
	maxCandidates = 3
)

// candidate is a thread that can be stopped.
type candidate struct {
	tid     int
	cost    int // what its interruption means; lower is better
	seccomp int // its mode
}

// What the interruption of a thread means. Sleepers come first: a stop of theirs is
// felt by nobody, unless what they wait for comes right then.
const (
	costRestarts = iota // the kernel makes its system call again
	costSeldom          // so it does, but for a socket with a timeout
	costRunning         // it is kept from its work
	costEINTR           // we have to see to it that its call is made again
	costTimeout         // a killed tracer's frame would begin its timeout anew
	costUnknown
	costFilter = 10 // in addition: a call may be forbidden
)

// candidates returns the threads to try, best first.
func (p *Process) candidates() ([]candidate, error) {
	tids, err := p.Tasks()
	if err != nil {
		return nil, err
	}
	var list []candidate
	good := 0
	for _, tid := range tids[:min(len(tids), maxLookedAt)] {
		c, ok := p.candidate(tid)
		if !ok {
			continue
		}
		list = append(list, c)
		if c.cost <= costRunning {
			good++
		}
		if good == maxCandidates {
			break
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("pid %d: all of its threads are in uninterruptible sleep: %w", p.Pid(), ErrBusy)
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return a.cost - b.cost })
	return list[:min(len(list), maxCandidates)], nil
}

// candidate ranks a thread. Not ok: it is gone or in uninterruptible sleep,
// vfork parents included.
func (p *Process) candidate(tid int) (candidate, bool) {
	st, err := p.Task(tid)
	if err != nil || st.State == 'D' || st.State == 'Z' || st.State == 'X' {
		return candidate{}, false
	}
	c := candidate{tid: tid, cost: costUnknown, seccomp: st.Seccomp}
	if u, err := p.userState(tid); err == nil {
		c.cost = u.cost()
	}
	if st.Seccomp != seccompOff {
		c.cost += costFilter
	}
	return c, true
}

// cost is what an interruption of the thread means.
func (u *userState) cost() int {
	switch {
	case u.running:
		return costRunning
	case u.continuedByRestartBlock():
		return costTimeout
	case u.nr < 0 || !endsWithEINTR(uint64(u.nr)):
		return costRestarts
	case onSocketsOnly(uint64(u.nr)):
		return costSeldom
	}
	return costEINTR
}

// continuedByRestartBlock tells whether the thread sleeps in a call whose remaining
// timeout the kernel keeps in the task's restart_block, which rt_sigreturn cancels.
func (u *userState) continuedByRestartBlock() bool {
	const timerAbstime, futexWait, futexCommand = 1, 0, 127 // clock_nanosleep(2), futex(2)
	switch u.nr {
	case unix.SYS_NANOSLEEP, unix.SYS_RESTART_SYSCALL:
		return true
	case unix.SYS_CLOCK_NANOSLEEP:
		return u.args[1]&timerAbstime == 0
	case unix.SYS_POLL:
		return int32(u.args[2]) >= 0
	case unix.SYS_FUTEX: // the timeouts of the other operations are points in time
		return u.args[1]&futexCommand == futexWait && u.args[3] != 0
	}
	return false
}
