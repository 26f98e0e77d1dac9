package tracee

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Policies and a flag of sched_setscheduler(2).
const (
	schedOther  = 0
	schedFIFO   = 1
	schedRR     = 2
	resetOnFork = 0x40000000
)

// Levels of SCHED_FIFO: the tracer's while it keeps somebody from running, and the
// watchdog's, which must get the CPU from it.
const (
	tracerLevel   = 1
	watchdogLevel = 2
)

// hurry gives the calling thread precedence over the tracees it is about to stop, where
// that takes more than background.Foreground: it goes one above a real-time process that it
// belongs to. The returned function takes it back.
//
// Elsewhere a nice value is enough: the Go runtime spins on locks in the belief that
// their holder, which may be an ordinary thread of ours, gets the CPU meanwhile.
func hurry() (calm func()) {
	policy, level, ok := scheduler()
	if p := policy &^ resetOnFork; !ok || p != schedFIFO && p != schedRR {
		return func() {}
	}
	setScheduler(schedFIFO|resetOnFork, level+tracerLevel)
	return func() { setScheduler(policy, level) }
}

// rush puts an ordinary calling thread ahead of every other ordinary one, and tells
// whether it did. It is for the time alone in which somebody stands still: a thread of
// nice value −20 yet waits for whoever has slept longer, the runtime's monitor among
// others. Between rush and relax the tracer makes raw system calls and does not wait for
// the runtime.
func rush() bool {
	policy, _, ok := scheduler()
	return ok && policy == schedOther && setScheduler(schedFIFO, tracerLevel)
}

// relax takes rush back; the nice value has stayed.
func relax() { setScheduler(schedOther, 0) }

// overrule puts the watchdog's thread ahead of a tracer that rushes, and tells whether it
// did.
func overrule() bool {
	policy, level, ok := scheduler()
	if !ok {
		return false
	}
	if policy &^= resetOnFork; policy != schedFIFO && policy != schedRR {
		level = 0
	}
	return setScheduler(schedFIFO|resetOnFork, level+watchdogLevel)
}

// scheduler returns the calling thread's policy and real-time level.
func scheduler() (policy uintptr, level int32, ok bool) {
	policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	_, _, errno2 := unix.RawSyscall(unix.SYS_SCHED_GETPARAM, 0, uintptr(unsafe.Pointer(&level)), 0)
	return policy, level, errno == 0 && errno2 == 0
}

// setScheduler is sched_setscheduler(2) for the calling thread.
func setScheduler(policy uintptr, level int32) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&level)))
	runtime.KeepAlive(&level)
	return errno == 0
}

// wakeOnTime ends the sleeps of the calling thread when they are over, not up to
// 50 µs later, as the kernel does to wake several threads at once (PR_SET_TIMERSLACK,
// prctl(2)): a tracer sleeps between two looks at a thread that is about to stop.
func wakeOnTime() {
	const nanosecond = 1
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, nanosecond, 0, 0, 0)
}
