package tracee

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// urgent is the nice value of a thread that others wait for.
const urgent = -20

// hurry gives the calling thread precedence over the tracees it is stopping,
// so that a process that computes in many threads does not keep the tracer off
// the CPU while half of them stand still. The returned function takes it back.
// Without CAP_SYS_NICE nothing changes but the length of the pause.
//
// It is a nice value and not a real-time priority: the Go runtime spins on
// locks in the belief that their holder, which may be an ordinary thread of
// ours, gets the CPU meanwhile. Only where the process is a real-time one
// already, the tracer goes one above it.
func hurry() (calm func()) {
	const schedFIFO, schedRR, resetOnFork = 1, 2, 0x40000000
	var level int32
	policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	_, _, errno2 := unix.RawSyscall(unix.SYS_SCHED_GETPARAM, 0, uintptr(unsafe.Pointer(&level)), 0)
	if errno != 0 || errno2 != 0 {
		return func() {}
	}
	if p := policy &^ resetOnFork; p == schedFIFO || p == schedRR {
		setScheduler(schedFIFO|resetOnFork, level+1)
		return func() { setScheduler(policy, level) }
	}
	nice, ok := niceValue()
	if !ok {
		return func() {}
	}
	setNice(urgent)
	return func() { setNice(nice) }
}

// setScheduler is sched_setscheduler(2) for the calling thread.
func setScheduler(policy uintptr, level int32) {
	unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&level)))
	runtime.KeepAlive(&level)
}

// niceValue is the calling thread's; the system call returns 20 − nice.
func niceValue() (int, bool) {
	r, _, errno := unix.RawSyscall(unix.SYS_GETPRIORITY, unix.PRIO_PROCESS, 0, 0)
	return 20 - int(r), errno == 0
}

func setNice(nice int) {
	unix.RawSyscall(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(nice))
}

// wakeOnTime ends the sleeps of the calling thread when they are over, not up to
// 50 µs later, as the kernel does to wake several threads at once (PR_SET_TIMERSLACK,
// prctl(2)): a tracer sleeps between two looks at a thread that is about to stop.
func wakeOnTime() {
	const nanosecond = 1
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, nanosecond, 0, 0, 0)
}
