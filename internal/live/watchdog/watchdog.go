// Package watchdog is the second process of a tracer. A tracer that is killed lets go of
// its tracees; one that is stopped, frozen or waiting for a page does not. When a stop
// lasts longer than it may, the watchdog kills the tracer.
//
// It is the same executable, started anew under the name Name (init below takes over
// before main), in its own session, so that Ctrl-Z and the hang-up of a terminal do not
// reach it. Starting anew was preferred to a bare fork of the tracer: the child of a fork
// of a Go program has one thread, no scheduler and a stack that must not grow, and shares
// every page of the tracer copy-on-write, which would put page faults into the stop.
//
// A process that starts anew is set up anew: the Go runtime, and then every package of a
// large program, which for pie takes longer than the runtime and touches 300 pages more. So
// init comes before nearly all of them. That relies on the order of initialization (Go
// 1.21: by import path, each package once its imports are): this package, and the ones of
// this module that it imports, import nothing but os, os/signal and what these import.
//
// Tracer and watchdog share one page that holds a deadline, so that arming and
// disarming inside the stop are one store each. Between sessions the watchdog
// sleeps in a read of its command pipe, and ends when that pipe closes, which
// the death of the tracer does.
package watchdog

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/patch-integration-engine/pie/internal/live/thread"
)

// Name is what the process is called by its first argument.
const Name = "pie-watchdog"

// Descriptors that the process is started with, in this order: a memory file of the size
// of a page, the ends of two pipes, and a pidfd of the tracer.
const (
	descriptorPage = 3 + iota
	descriptorCommands
	descriptorAnswers
	descriptorTracer
)

// What it is told: to watch, which it answers, and that nobody is to be stopped for a while.
const (
	Begin = 'b'
	End   = 'e'
)

// What it answers: whether it gets the CPU from a tracer that rushes.
const (
	Above = 'a'
	Below = 'b'
)

const (
	// TracerLevel is the tracer's level of SCHED_FIFO while it keeps somebody from running;
	// level is the watchdog's, which must get the CPU from it.
	TracerLevel = 1
	level       = 2
)

// interval is how often the deadline is looked at during a session.
const interval = 10 * time.Millisecond

// Page is the memory that tracer and watchdog share.
type Page []byte

// Arm sets the deadline, on the clock of Now, for a stop of process pid. It makes no
// system call.
func (p Page) Arm(pid int, deadline int64) {
	atomic.StoreInt64(p.stopped(), int64(pid))
	atomic.StoreInt64(p.deadline(), deadline)
}

// Disarm lifts the deadline. It makes no system call.
func (p Page) Disarm() { atomic.StoreInt64(p.deadline(), 0) }

// deadline is the first word: 0 when nobody is stopped.
func (p Page) deadline() *int64 { return (*int64)(unsafe.Pointer(&p[0])) }

// stopped is the second word: the process that the deadline is for.
func (p Page) stopped() *int64 { return (*int64)(unsafe.Pointer(&p[8])) }

// overdue tells whether a stop has lasted longer than it may.
func (p Page) overdue() bool {
	d := atomic.LoadInt64(p.deadline())
	return d != 0 && Now() > d
}

// Now is CLOCK_MONOTONIC in nanoseconds, which both processes share.
func Now() int64 {
	const monotonic = 1
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

func init() {
	if len(os.Args) > 0 && os.Args[0] == Name {
		watch()
		os.Exit(0)
	}
}

// watch is the watchdog process.
func watch() {
	runtime.LockOSThread()
	goAhead()
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	thread.LockMemory() // without the right to, it may wait for a page itself
	runEverywhere()
	answer := [1]byte{Below}
	if overrule() {
		answer[0] = Above
	}
	page, err := syscall.Mmap(descriptorPage, 0, os.Getpagesize(), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	if err != nil {
		return
	}
	for {
		var b [1]byte
		if n, err := syscall.Read(descriptorCommands, b[:]); err == syscall.EINTR {
			continue
		} else if n != 1 {
			return
		}
		if b[0] != Begin {
			continue
		}
		rehearse(page)
		if n, _ := syscall.Write(descriptorAnswers, answer[:]); n != 1 {
			return
		}
		watchSession(page)
	}
}

// goAhead makes every thread of the process ordinary, which was started in the background
// perhaps, and as urgent as it may be: this one may need another, of the runtime.
func goAhead() {
	thread.Each(func(tid int) (needed bool) {
		needed = thread.Change(tid, thread.Idle, thread.Normal)
		if nice, ok := thread.Nice(tid); ok && nice != thread.Urgent && thread.SetNice(tid, thread.Urgent) {
			needed = true
		}
		return needed
	})
}

// runEverywhere lets the calling thread run on every CPU that the process may have,
// whatever was made of the one that started it.
func runEverywhere() {
	var all [128]byte // a set of 1024
	for i := range all {
		all[i] = 0xff
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(all), uintptr(unsafe.Pointer(&all)))
}

// overrule puts the calling thread ahead of a tracer that rushes, and tells whether it
// did.
func overrule() bool {
	policy, own, ok := thread.Scheduler()
	if !ok {
		return false
	}
	if policy &^= thread.ResetOnFork; policy != thread.FIFO && policy != thread.RR {
		own = 0
	}
	return thread.SetScheduler(thread.FIFO|thread.ResetOnFork, own+level)
}

// rehearse does once what a session may need, so that every page of it is
// resident and locked before anything is stopped.
func rehearse(page Page) {
	_, _ = poll(nil, 0)
	_ = page.overdue()
	signalTracer(0)
}

// watchSession looks at the deadline until the next command or the death of
// the tracer makes the pipe readable.
func watchSession(page Page) {
	commands := pollFd{fd: descriptorCommands, events: pollIn}
	for {
		if n, errno := poll(&commands, interval); errno == 0 && n > 0 {
			return
		}
		if page.overdue() {
			signalTracer(syscall.SIGKILL)
			// Not before: a terminal or a full pipe may take its time.
			_, _ = syscall.Write(2, message(int(atomic.LoadInt64(page.stopped()))))
			return
		}
	}
}

// pollFd is the kernel's struct pollfd, and pollIn POLLIN, of poll(2).
type pollFd struct {
	fd              int32
	events, revents int16
}

const pollIn = 1

// poll waits for one descriptor, or for none.
func poll(fd *pollFd, limit time.Duration) (n int, errno syscall.Errno) {
	fds := uintptr(0)
	if fd != nil {
		fds = 1
	}
	r, _, errno := syscall.Syscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(fd)), fds, uintptr(limit/time.Millisecond))
	return int(r), errno
}

// signalTracer sends the tracer a signal, and none to who has its pid after it.
func signalTracer(sig syscall.Signal) {
	const sysPidfdSendSignal = 424 // which package syscall does not have
	_, _, _ = syscall.Syscall6(sysPidfdSendSignal, descriptorTracer, uintptr(sig), 0, 0, 0, 0)
}

// message is the last word of a tracer that its watchdog has ended, which
// cannot say it itself.
func message(pid int) []byte {
	b := strconv.AppendInt([]byte("pie: ended by its own watchdog: it had kept pid "), int64(pid), 10)
	b = append(append(append(b, " ("...), nameOf(pid)...), ") stopped for 500 ms "...)
	return append(b, "(pie was stopped itself, or the machine is too busy).\n"+
		"The process goes on. 'pie status' says what is in it, 'pie repair' finishes or undoes what is half-done.\n"...)
}

// nameOf is what the kernel calls a process; it chose that itself, so it is escaped.
func nameOf(pid int) string {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil || len(line) == 0 {
		return "gone"
	}
	name := strconv.Quote(string(line[:len(line)-1])) // a line end follows it
	return name[1 : len(name)-1]
}
