package tracee

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	schedOther       = 0
	schedFIFO        = 1
	schedResetOnFork = 0x40000000
)

// hurry gives the calling thread precedence over the tracees it is stopping,
// so that a process that computes in many threads does not keep the tracer off
// the CPU while half of them stand still. The returned function takes it back.
// Without CAP_SYS_NICE nothing changes but the length of the pause.
//
// Every wait of a thread in a hurry sleeps (hand.rest): a thread that merely
// yields would never let an ordinary one run on its CPU.
func hurry() (calm func()) {
	if setScheduler(schedFIFO|schedResetOnFork, 1) != 0 {
		return func() {}
	}
	return func() { setScheduler(schedOther, 0) }
}

// setScheduler is sched_setscheduler(2) for the calling thread.
func setScheduler(policy uintptr, priority int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&priority)))
	runtime.KeepAlive(&priority)
	return errno
}
