// Package background keeps what pie prepares out of the way of the programs that
// it is about to guard.
//
// Reading program files, compiling and verifying take some tens of milliseconds
// of processor time. At the ordinary policy a thread of pie that wakes beside a
// busy thread of the program keeps it off its CPU for a tick, 4 ms where HZ is
// 250: several times what the stop takes. At SCHED_IDLE (sched(7)) it runs where
// nobody else wants to, and gives way at once to whoever does.
//
// Invariants:
//   - Nobody is stopped from the background: the tracer takes every thread of the
//     process out of it first (Foreground), for a thread that waits for the CPU may hold
//     a lock that the tracer needs.
//   - Where another CPU is left, it is not on one that the program computes on (KeepOff).
//   - Where every CPU is busy the background is never; so it is for a limited
//     time only. The thread that watches the time is not in it.
//   - Nobody goes who could not come back: that takes CAP_SYS_NICE or a high enough
//     RLIMIT_NICE (getrlimit(2)).
//
// Policies and nice values belong to threads, and a thread takes those of the one that
// starts it. Whoever asks for the foreground asks for all of them: the package counts.
package background

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/thread"
)

// Enter puts every thread of this process, and those to come, into the
// background, for at most the time given, and tells whether it did: not where
// they could not come back, nor when their policy is another than SCHED_OTHER, nor
// while Foreground is asked for.
//
// Programs that are started meanwhile are in the background, too. The thread that
// watches the time needs a processor of the Go runtime for itself then: with
// GOMAXPROCS 1 it would wait for one that has no CPU.
func Enter(limit time.Duration) bool {
	entered := make(chan bool)
	go func() {
		// Never unlocked: the thread ends with the goroutine, in whatever policy (the
		// process's first one is parked instead).
		runtime.LockOSThread()
		did := enter()
		entered <- did
		if !did {
			return
		}
		// Not time.Sleep: the threads that see to the runtime's timers may get no CPU.
		left := unix.NsecToTimespec(int64(limit))
		for unix.Nanosleep(&left, &left) == unix.EINTR {
		}
		leave()
	}()
	return <-entered
}

// enter puts all threads but the calling one into the background.
func enter() bool {
	s := &sessions
	s.Lock()
	defer s.Unlock()
	if s.running > 0 || !thread.Change(0, thread.Normal, thread.Idle) || !thread.Change(0, thread.Idle, thread.Normal) {
		return false
	}
	forOthers(thread.Normal, thread.Idle)
	return true
}

// leave takes all threads out of the background for good: no session puts one back.
func leave() {
	s := &sessions
	s.Lock()
	defer s.Unlock()
	s.idle = nil
	forOthers(thread.Idle, thread.Normal)
	giveBack()
}

// forOthers changes the policy of all threads but the calling one that have the
// policy from, and returns whom it changed. A thread that ends meanwhile is none.
func forOthers(from, to int) (changed []int) {
	self := unix.Gettid()
	thread.Each(func(tid int) bool {
		if tid == self || !thread.Change(tid, from, to) {
			return false
		}
		changed = append(changed, tid)
		return true
	})
	return changed
}
