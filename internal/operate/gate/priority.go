package gate

import (
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Gate and second do next to nothing, but at once: a gate that waits for a processor
// holds somebody for as much longer. A nice value is not enough for that, for an
// ordinary thread that has just had its share yet waits for others'. So both are
// real-time processes (SCHED_FIFO, sched(7)), the second above the gate that it may have
// to end. Workers compute for milliseconds, and are ordinary, if before others.

// Levels of SCHED_FIFO.
const (
	ordinary = iota
	gateLevel
	secondLevel
)

// hurry lets the process go before others on a busy machine: its threads within
// their session, and its session before others where sessions are scheduled as
// groups (sched(7), autogroups).
func hurry(nice int) {
	forThreads(func(tid int) { _ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice) })
	_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
}

// preempt lets every thread of the process, and those to come, take the processor from
// any ordinary thread; without CAP_SYS_NICE it changes nothing. Processes that it
// starts do so, too, unless they are started ordinarily.
func preempt(level int32) { forThreads(func(tid int) { setLevel(tid, level) }) }

func forThreads(f func(tid int)) {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			f(tid)
		}
	}
}

// ordinarily runs start on a thread that preempts nobody, so that the process which it
// starts does not either.
func ordinarily(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const self = 0
	level := levelOf(self)
	if level == ordinary {
		return start()
	}
	setLevel(self, ordinary)
	defer setLevel(self, level)
	return start()
}

// levelOf is a thread's, 0 being the calling one.
func levelOf(tid int) (level int32) {
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_GETPARAM, uintptr(tid), uintptr(unsafe.Pointer(&level)), 0)
	return level
}

// setLevel gives a thread a level of SCHED_FIFO, or takes it from it.
func setLevel(tid int, level int32) {
	const other, fifo = 0, 1 // policies
	policy := fifo
	if level == ordinary {
		policy = other
	}
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), uintptr(policy), uintptr(unsafe.Pointer(&level)))
}
