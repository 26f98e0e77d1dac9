package tracee

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// A thread that computes feels each stop of a watched call: at its entry, at its exit,
// and the one from which it is put back. Where it is the only thread there is, it makes the
// call alone: it is let go of on its way into the call, goes through the call and the
// frame as it would after the death of its tracer, and is back where it was taken
// from. What it felt is one stop.
//
// Nobody sees what the call returned. So it is only done with calls that leave evidence
// in memory: nobody else is there who could have left it, and the thread's very next
// instruction is the call. Without evidence the call is made again, watched.

const (
	// aloneTime is how long evidence is waited for before the thread is looked at: nobody
	// stands still meanwhile, and on a busy machine it waits for a CPU.
	aloneTime = 100 * time.Millisecond
	// outOfFrameTime is how long a thread may take out of the frame, in addition.
	outOfFrameTime = 100 * time.Millisecond
)

// errUnseen says that a call may yet be made: it must not be made again.
var errUnseen = errors.New("the call may yet be made")

// evidence is what tells that a call was made.
type evidence struct {
	at   address.Addr // what can be read here then, and could not be before
	want [8]byte      // or does not read this any more, when changes is set
	// changes: the memory is there before, and holds want.
	changes bool
	result  uint64 // of the call
}

// unheard is what stands where rt_sigaction(2) is to write an old disposition: no
// handler is at such an address.
var unheard = [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// evidenceOf says what evidence a call leaves; ok is false when it leaves none.
func evidenceOf(nr uint64, args []uint64) (e evidence, ok bool) {
	switch {
	case nr == unix.SYS_MMAP && len(args) == 6:
		const fixed, readable = unix.MAP_FIXED_NOREPLACE, unix.PROT_READ
		return evidence{at: address.Addr(args[0]), result: args[0]}, args[0] != 0 && args[3]&fixed == fixed && args[2]&readable != 0
	case nr == unix.SYS_RT_SIGACTION && len(args) == 4:
		return evidence{at: address.Addr(args[2]), want: unheard, changes: true}, args[2] != 0 && args[1] != args[2]
	}
	return evidence{}, false
}

// prepared makes sure that the evidence is not there before the call.
func (e *evidence) prepared(a *Attached) bool {
	if e.changes {
		return a.memory.write(a.h, e.at, e.want[:]) == nil
	}
	return !e.shown(a)
}

// shown tells whether the call was made.
func (e *evidence) shown(a *Attached) bool {
	var b [len(e.want)]byte
	return a.memory.has(b[:], e.at) && (!e.changes || b != e.want)
}

// goesAlone tells whether the stopped thread may make a call alone. Under a seccomp
// filter nobody would suspend it; at an exec's first instruction the process
// is held.
func (a *Attached) goesAlone() bool {
	r := &a.remote
	return a.isStillLone() && !r.entered && !a.Held() && r.seccompMode == seccompOff && a.Computing()
}

// isStillLone tells whether the stopped thread is the only one.
func (a *Attached) isStillLone() bool {
	if !a.remote.lone {
		return false
	}
	var path procPath
	n, ok := countTasks(path.set(a.p.Pid(), 0, ""))
	return ok && n == 1
}

// isLone tells whether a process has one thread, and its memory for itself. A thread
// that stands still makes no other.
func (p *Process) isLone() bool {
	tids, err := p.Tasks()
	if err != nil || len(tids) != 1 {
		return false
	}
	sharing, err := p.SharingMM()
	return err == nil && len(sharing) == 0
}

// alone lets the thread make a call by itself. made is false when the call is yet to be
// made, by the stopped thread: nothing has changed then.
func (a *Attached) alone(nr uint64, args []uint64) (result uint64, made bool, err error) {
	e, ok := evidenceOf(nr, args)
	if !ok || !a.goesAlone() {
		return 0, false, nil
	}
	before := a.remote.at
	if err := a.enter(); err != nil {
		return 0, false, err
	}
	if before != 0 && before != a.remote.at {
		if err := a.zeroFrame(before); err != nil {
			return 0, false, err
		}
	}
	if a.remote.dead || !e.prepared(a) {
		return 0, false, nil // the frame would not outlast the call; or what is known of the memory is old
	}
	a.changed = true
	err = a.intend(nr, args)
	if err == nil {
		err = a.aim(nr, args)
	}
	if err == nil {
		err = a.letGoAlone()
	}
	if err != nil {
		return 0, false, err
	}
	for begin := time.Now(); !e.shown(a) && time.Since(begin) < aloneTime; {
		a.h.rest(1, time.Since(begin))
	}
	if e.shown(a) {
		return e.result, true, nil // and runs on until the next call
	}
	err = a.standStill()
	switch {
	case err != nil && !errors.Is(err, ErrBusy):
		return 0, false, err
	case err != nil && !e.shown(a):
		return 0, false, fmt.Errorf("pid %d: thread %d is to make system call %d, and was not seen to: nothing in the process leads to what comes of it ('pie repair' clears that away): %v: %w",
			a.p.Pid(), a.tid, nr, err, errUnseen)
	}
	return e.result, e.shown(a), nil
}

// letGoAlone detaches from the thread; it is away until it is stopped again.
func (a *Attached) letGoAlone() error {
	errno := a.h.detach(a.tid, 0)
	if errno != 0 {
		return a.lost("letting go of it", errno)
	}
	a.kept = max(a.kept, time.Since(a.began))
	a.away = true
	a.remote.framed, a.remote.entered, a.remote.alone = false, false, true
	a.watchdog.disarm()
	return nil
}

// standStill stops the thread again if it is away, once it has left the frame.
func (a *Attached) standStill() error {
	r := &a.remote
	if a.h.abandoned {
		return fmt.Errorf("pid %d: thread %d went on: %w", a.p.Pid(), a.tid, ErrBusy)
	}
	for begin := time.Now(); a.away; {
		a.watchdog.arm(a.p.Pid())
		if err := a.stop(context.Background(), a.tid); err != nil {
			return err
		}
		a.away = false
		if sp := address.Addr(r.regs.Rsp); sp < r.at || sp >= r.at.Add(frameMax) {
			return a.checkGadgets()
		}
		if err := a.letGoAlone(); err != nil { // it has not got out of the frame yet
			return err
		}
		if time.Since(begin) > outOfFrameTime {
			return fmt.Errorf("pid %d: thread %d is on its way out of a call: %w", a.p.Pid(), a.tid, ErrBusy)
		}
		a.h.rest(1, time.Since(begin))
	}
	return nil
}

// zeroFrame zeroes a frame that the thread has gone through alone, unless the program
// has written there since: its bytes are the program's then.
func (a *Attached) zeroFrame(at address.Addr) error {
	r := &a.remote
	if a.memory.read(r.look[:r.size], at) != nil || intactFrame(r.look[:r.size]) == 0 {
		return nil
	}
	return a.memory.write(a.h, at, r.zero[:r.size])
}
