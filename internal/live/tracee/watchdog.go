package tracee

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/background"
)

// The watchdog is a second process. A tracer that is killed lets go of its
// tracees; one that is stopped, frozen or waiting for a page does not. When a
// stop lasts longer than stopLimit, the watchdog kills the tracer.
//
// It is the same executable, started anew under the name watchdogName (init
// below takes over before main), in its own session, so that Ctrl-Z and the
// hang-up of a terminal do not reach it. Starting anew was preferred to a bare
// fork of this process: the child of a fork of a Go program has one thread, no
// scheduler and a stack that must not grow, and shares every page of the
// tracer copy-on-write, which would put page faults into the stop. It costs
// some milliseconds, before anything is stopped.
//
// Tracer and watchdog share one page that holds a deadline, so that arming and
// disarming inside the stop are one store each. Between sessions the watchdog
// sleeps in a read of its command pipe, and ends when that pipe closes, which
// the death of the tracer does.

const (
	watchdogName = "pie-watchdog"
	// stopLimit is the time from the first interrupt to the last resume after
	// which the tracer is killed.
	stopLimit = 500 * time.Millisecond
	// watchInterval is how often the deadline is looked at during a session.
	watchInterval = 10 * time.Millisecond
	// watchdogStart is how long it may take to start as any other program: it computes for
	// some ten milliseconds, and threads of the program that wake beside it go first. On a
	// machine where it gets no CPU it is urged after that.
	watchdogStart = 50 * time.Millisecond
	// watchdogAnswer is how long a live watchdog may take to answer.
	watchdogAnswer = 5 * time.Second
)

// watchdogMessage is the last word of a tracer that its watchdog has ended, which
// cannot say it itself: with a pid and a name.
const watchdogMessage = "pie: ended by its own watchdog: it had kept pid %d (%s) stopped for 500 ms " +
	"(pie was stopped itself, or the machine is too busy).\n" +
	"The process goes on. 'pie status' says what is in it, 'pie repair' finishes or undoes what is half-done.\n"

// Descriptors of the watchdog process.
const (
	watchdogPage = 3 + iota
	watchdogCommands
	watchdogAnswers
	watchdogTracer
)

// What the watchdog answers: whether it gets the CPU from a tracer that rushes.
const (
	answerAbove = 'a'
	answerBelow = 'b'
)

func init() {
	if len(os.Args) > 0 && os.Args[0] == watchdogName {
		watch()
		os.Exit(0)
	}
}

// watchdog is the tracer's side.
type watchdog struct {
	process  *os.Process
	reaped   chan struct{} // closed when the process has ended and its descriptor is closed
	page     []byte
	commands *os.File
	answers  *os.File
	// began and beganAt are one instant on Go's clock and on the watchdog's,
	// so that arm need not ask the kernel.
	began   time.Time
	beganAt int64
	// above: it gets the CPU from a tracer that rushes (priority.go).
	above bool
}

func startWatchdog() (*watchdog, error) {
	w := &watchdog{}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	if err := w.open(&theirs); err != nil {
		w.close()
		return nil, fmt.Errorf("preparing the watchdog: %w", err)
	}
	cmd := exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{watchdogName},
		Env:         []string{"GOMAXPROCS=1", "GOGC=off", "GOTRACEBACK=none"},
		Dir:         "/",
		ExtraFiles:  theirs,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if _, err := os.Stderr.Stat(); err == nil {
		cmd.Stderr = os.Stderr // to say why, when it ends the tracer
	}
	if err := cmd.Start(); err != nil {
		w.close()
		return nil, fmt.Errorf("starting the watchdog: %w", err)
	}
	w.process, w.reaped = cmd.Process, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(w.reaped)
	}()
	return w, nil
}

// open makes the page, the two pipes and a descriptor of this process, and
// puts the watchdog's ends into theirs in the order of its descriptors.
func (w *watchdog) open(theirs *[]*os.File) error {
	fd, err := unix.MemfdCreate(watchdogName, unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	*theirs = append(*theirs, os.NewFile(uintptr(fd), "page"))
	if err := unix.Ftruncate(fd, int64(os.Getpagesize())); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	if w.page, err = unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("mapping the page: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	w.commands = write
	*theirs = append(*theirs, read)
	if read, write, err = os.Pipe(); err != nil {
		return err
	}
	w.answers = read
	*theirs = append(*theirs, write)
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd of this process: %w", err)
	}
	*theirs = append(*theirs, os.NewFile(uintptr(self), "tracer"))
	return nil
}

// begin makes sure that a watchdog is there and watching before anything is
// stopped.
func (w *watchdog) begin() error {
	if _, err := w.commands.Write([]byte{'b'}); err != nil {
		return fmt.Errorf("the watchdog is gone: %w", err)
	}
	answer, err := w.answer(watchdogStart)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		background.Urge(w.process.Pid)
		answer, err = w.answer(watchdogAnswer)
	}
	if err != nil {
		return fmt.Errorf("the watchdog does not answer: %w", err)
	}
	w.above = answer == answerAbove
	w.began, w.beganAt = time.Now(), monotonic()
	return nil
}

// answer waits for the watchdog's.
func (w *watchdog) answer(limit time.Duration) (byte, error) {
	if err := w.answers.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	var b [1]byte
	_, err := w.answers.Read(b[:])
	return b[0], err
}

// end lets the watchdog sleep.
func (w *watchdog) end() {
	w.disarm()
	_, _ = w.commands.Write([]byte{'e'}) // a dead watchdog is noticed by the next begin
}

// arm sets the deadline for a stop of process pid; disarm lifts it. Neither makes a system
// call.
func (w *watchdog) arm(pid int) {
	atomic.StoreInt64(stoppedOf(w.page), int64(pid))
	now := w.beganAt + int64(time.Since(w.began))
	atomic.StoreInt64(deadlineOf(w.page), now+int64(stopLimit))
}

func (w *watchdog) disarm() { atomic.StoreInt64(deadlineOf(w.page), 0) }

// close ends the watchdog, which must not be needed any more, and waits for its end.
// Only the kernel can delay that, for a process that it cannot end just now.
func (w *watchdog) close() {
	for _, f := range []*os.File{w.commands, w.answers} {
		if f != nil {
			f.Close()
		}
	}
	if w.page != nil {
		_ = unix.Munmap(w.page)
	}
	if w.process == nil {
		return
	}
	_ = w.process.Kill()
	select {
	case <-w.reaped:
	case <-time.After(watchdogAnswer):
	}
}

// nameOf is what the kernel calls a process; it chose that itself, so it is escaped.
func nameOf(pid int) string {
	st, err := taskStatus(pid, pid)
	if err != nil {
		return "gone"
	}
	name := strconv.Quote(st.Name)
	return name[1 : len(name)-1]
}

// deadlineOf is the first word of the shared page: nanoseconds of
// CLOCK_MONOTONIC, 0 when nobody is stopped.
func deadlineOf(page []byte) *int64 { return (*int64)(unsafe.Pointer(&page[0])) }

// stoppedOf is the second word: the process that the deadline is for.
func stoppedOf(page []byte) *int64 { return (*int64)(unsafe.Pointer(&page[8])) }

// monotonic reads CLOCK_MONOTONIC, which both processes share.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// watch is the watchdog process.
func watch() {
	runtime.LockOSThread()
	_ = background.Foreground() // it was started in the background, perhaps
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGTSTP)
	lockMemory() // without the right to, it may wait for a page itself
	background.Everywhere()
	answer := [1]byte{answerBelow}
	if overrule() {
		answer[0] = answerAbove
	}
	page, err := unix.Mmap(watchdogPage, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return
	}
	for {
		var b [1]byte
		if n, err := unix.Read(watchdogCommands, b[:]); err == unix.EINTR {
			continue
		} else if n != 1 {
			return
		}
		if b[0] != 'b' {
			continue
		}
		rehearse(page)
		if n, _ := unix.Write(watchdogAnswers, answer[:]); n != 1 {
			return
		}
		watchSession(page)
	}
}

// rehearse does once what a session may need, so that every page of it is
// resident and locked before anything is stopped.
func rehearse(page []byte) {
	var none []unix.PollFd
	_, _ = unix.Poll(none, 0)
	_ = overdue(page)
	_ = unix.PidfdSendSignal(watchdogTracer, 0, nil, 0)
}

// overdue tells whether a stop has lasted longer than stopLimit.
func overdue(page []byte) bool {
	d := atomic.LoadInt64(deadlineOf(page))
	return d != 0 && monotonic() > d
}

// watchSession looks at the deadline until the next command or the death of
// the tracer makes the pipe readable.
func watchSession(page []byte) {
	fds := []unix.PollFd{{Fd: watchdogCommands, Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(watchInterval/time.Millisecond))
		if err == nil && n > 0 {
			return
		}
		if overdue(page) {
			_ = unix.PidfdSendSignal(watchdogTracer, unix.SIGKILL, nil, 0)
			// Not before: a terminal or a full pipe may take its time.
			pid := atomic.LoadInt64(stoppedOf(page))
			_, _ = unix.Write(unix.Stderr, fmt.Appendf(nil, watchdogMessage, pid, nameOf(int(pid))))
			return
		}
	}
}
