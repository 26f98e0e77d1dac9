// Package thread reads and changes the policies and nice values of this process's
// threads (sched(7)).
//
// It imports little, as package watchdog must, which is set up before most others.
package thread

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// Policies and a flag of sched_setscheduler(2).
const (
	Normal      = 0 // SCHED_OTHER
	FIFO        = 1
	RR          = 2
	Idle        = 5
	ResetOnFork = 0x40000000
)

// Urgent is the nice value of threads that others wait for.
const Urgent = -20

// maxPasses bounds how often the list of threads is gone through.
const maxPasses = 16

// Each calls f for each thread of this process, and again for all until none needed
// it: one that is started meanwhile, by a thread that was not changed yet, is as that
// one was, and is in no list that was made before.
func Each(f func(tid int) (needed bool)) {
	for needed, pass := true, 0; needed && pass < maxPasses; pass++ {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		needed = false
		for _, t := range threads {
			if tid, err := strconv.Atoi(t.Name()); err == nil && f(tid) {
				needed = true
			}
		}
	}
}

// Policy returns a thread's, 0 being the calling one; negative when there is none.
func Policy(tid int) int {
	p, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
	if errno != 0 {
		return -1
	}
	return int(p)
}

// Change gives a thread another policy, none of them a real-time one, and tells whether
// it did: only if it has the policy from. Its nice value stays.
func Change(tid, from, to int) bool {
	return Policy(tid) == from && setScheduler(tid, to, 0)
}

// Scheduler returns the calling thread's policy and real-time level.
func Scheduler() (policy int, level int32, ok bool) {
	policy = Policy(0)
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETPARAM, 0, uintptr(unsafe.Pointer(&level)), 0)
	return policy, level, policy >= 0 && errno == 0
}

// SetScheduler is sched_setscheduler(2) for the calling thread.
func SetScheduler(policy int, level int32) bool { return setScheduler(0, policy, level) }

// setScheduler gives a thread a policy; level is all of struct sched_param.
func setScheduler(tid, policy int, level int32) bool {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(tid), uintptr(policy), uintptr(unsafe.Pointer(&level)))
	runtime.KeepAlive(&level)
	return errno == 0
}

// prioProcess is PRIO_PROCESS of getpriority(2): a thread, on Linux.
const prioProcess = 0

// Nice returns a thread's nice value, 0 being the calling one; the system call returns
// 20 − nice.
func Nice(tid int) (int, bool) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_GETPRIORITY, prioProcess, uintptr(tid), 0)
	return 20 - int(r), errno == 0
}

// SetNice tells whether the thread has that nice value now.
func SetNice(tid, nice int) bool {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SETPRIORITY, prioProcess, uintptr(tid), uintptr(nice))
	return errno == 0
}

// LockMemory keeps what is resident resident, without populating the vast
// reservations of the Go runtime (MCL_ONFAULT). Without the right to lock, a
// page fault may come into a stop; the watchdog bounds it.
func LockMemory() {
	const current, future, onFault = 1, 2, 4 // mlockall(2)
	_, _, _ = syscall.Syscall(syscall.SYS_MLOCKALL, current|future|onFault, 0, 0)
}
