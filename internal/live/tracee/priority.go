package tracee

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	schedFIFO        = 1
	schedResetOnFork = 0x40000000

	// Real-time priorities: above what servers use for themselves, far below
	// the kernel's own threads; the watchdog above the tracer.
	tracerPriority   = 10
	watchdogPriority = 11
)

// hurry gives the calling thread precedence over the tracees it is stopping,
// so that a process that computes in many threads does not keep the tracer off
// the CPU while half of them stand still. The returned function takes it back.
// Without CAP_SYS_NICE nothing changes but the length of the pause.
//
// Every wait of a thread in a hurry sleeps (hand.rest): a thread that merely
// yields would never let an ordinary one run on its CPU.
func hurry(priority int32) (calm func()) {
	var old int32
	policy, _, errno1 := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	_, _, errno2 := unix.RawSyscall(unix.SYS_SCHED_GETPARAM, 0, uintptr(unsafe.Pointer(&old)), 0)
	if errno1 != 0 || errno2 != 0 || setScheduler(schedFIFO|schedResetOnFork, priority) != 0 {
		return func() {}
	}
	return func() { setScheduler(policy, old) }
}

// setScheduler is sched_setscheduler(2) for the calling thread.
func setScheduler(policy uintptr, priority int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&priority)))
	runtime.KeepAlive(&priority)
	return errno
}
