package tracee

import (
	"os"
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

// priority is how a thread was scheduled.
type priority struct {
	tid, policy uintptr
	level       int32
}

// hurryAll gives all threads of this process precedence over the tracees that
// one of them is stopping, so that a process that computes in many threads
// does not keep the tracer off the CPU while half of them stand still. All
// threads, because the Go scheduler may hand the tracer's turn to another and
// back. The returned function takes it back. Without CAP_SYS_NICE nothing
// changes but the length of the pause.
//
// Every wait of the tracer sleeps (hand.rest): a thread that merely yields
// would never let an ordinary one run on its CPU.
func hurryAll() (calm func()) {
	var path procPath
	var threads [64]int
	var was [64]priority
	self := os.Getpid()
	tids, _ := listNumbers(path.set(self, 0, ""), make([]byte, direntsSize), threads[:0])
	n := 0
	for _, tid := range tids {
		if n < len(was) && was[n].raise(uintptr(tid), tracerPriority) {
			n++
		}
	}
	return func() {
		for i := range was[:n] {
			setScheduler(was[i].tid, was[i].policy, was[i].level)
		}
	}
}

// raise remembers how thread tid (0: the caller) is scheduled and makes it a
// real-time one; false if that is not permitted.
func (p *priority) raise(tid uintptr, level int32) bool {
	p.tid = tid
	policy, _, errno1 := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, tid, 0, 0)
	_, _, errno2 := unix.RawSyscall(unix.SYS_SCHED_GETPARAM, tid, uintptr(unsafe.Pointer(&p.level)), 0)
	p.policy = policy
	return errno1 == 0 && errno2 == 0 && setScheduler(tid, schedFIFO|schedResetOnFork, level) == 0
}

// setScheduler is sched_setscheduler(2) for one thread.
func setScheduler(tid, policy uintptr, level int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, tid, policy, uintptr(unsafe.Pointer(&level)))
	runtime.KeepAlive(&level)
	return errno
}
