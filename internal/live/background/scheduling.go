package background

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scheduling is how the kernel gives a thread its CPU (sched(7)).
type scheduling struct {
	policy int
	level  int32 // of a real-time policy, 1 to 99; else 0
}

// lower is what gives way to it, and stays fit to work; ok is false where there is nothing.
func (s scheduling) lower() (low scheduling, ok bool) {
	switch s.policy {
	case unix.SCHED_NORMAL:
		return scheduling{policy: unix.SCHED_IDLE}, true
	case unix.SCHED_RR, unix.SCHED_FIFO:
		return scheduling{policy: unix.SCHED_NORMAL}, true
	}
	return s, false
}

// schedulingOf returns a thread's, 0 being the calling one.
func schedulingOf(tid int) (s scheduling, ok bool) {
	policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
	if errno != 0 {
		return s, false
	}
	_, _, errno = unix.RawSyscall(unix.SYS_SCHED_GETPARAM, uintptr(tid), uintptr(unsafe.Pointer(&s.level)), 0)
	s.policy = int(policy)
	return s, errno == 0
}

// change gives a thread another scheduling, if it has from. Its nice value stays.
func change(tid int, from, to scheduling) error {
	if has, ok := schedulingOf(tid); !ok || has != from {
		return fmt.Errorf("thread %d: not of policy %d, level %d", tid, from.policy, from.level)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), uintptr(to.policy), uintptr(unsafe.Pointer(&to.level)))
	runtime.KeepAlive(&to.level)
	if errno != 0 {
		return fmt.Errorf("thread %d: policy %d, level %d: %w", tid, to.policy, to.level, errno)
	}
	return nil
}
