package tracee

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/background"
	"github.com/patch-integration-engine/pie/internal/live/watchdog"
)

const (
	// stopLimit is the time from the first interrupt to the last resume after
	// which the tracer is killed.
	stopLimit = 500 * time.Millisecond
	// watchdogStart is how long it may take to start as any other program: it computes for
	// some milliseconds, and threads of the program that wake beside it go first. On a
	// machine where it gets no CPU it is urged after that.
	watchdogStart = 50 * time.Millisecond
	// watchdogAnswer is how long a live watchdog may take to answer.
	watchdogAnswer = 5 * time.Second
)

// tracerWatchdog is the tracer's side of package watchdog.
type tracerWatchdog struct {
	process  *os.Process
	reaped   chan struct{} // closed when the process has ended and its descriptor is closed
	page     watchdog.Page
	commands *os.File
	answers  *os.File
	// began and beganAt are one instant on Go's clock and on the watchdog's,
	// so that arm need not ask the kernel.
	began   time.Time
	beganAt int64
	// above: it gets the CPU from a tracer that rushes (priority.go).
	above bool
}

func startWatchdog() (*tracerWatchdog, error) {
	w := &tracerWatchdog{}
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
		Args:        []string{watchdog.Name},
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
func (w *tracerWatchdog) open(theirs *[]*os.File) error {
	fd, err := unix.MemfdCreate(watchdog.Name, unix.MFD_CLOEXEC)
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
func (w *tracerWatchdog) begin() error {
	if _, err := w.commands.Write([]byte{watchdog.Begin}); err != nil {
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
	w.above = answer == watchdog.Above
	w.began, w.beganAt = time.Now(), watchdog.Now()
	return nil
}

// answer waits for the watchdog's.
func (w *tracerWatchdog) answer(limit time.Duration) (byte, error) {
	if err := w.answers.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	var b [1]byte
	_, err := w.answers.Read(b[:])
	return b[0], err
}

// end lets the watchdog sleep.
func (w *tracerWatchdog) end() {
	w.disarm()
	_, _ = w.commands.Write([]byte{watchdog.End}) // a dead watchdog is noticed by the next begin
}

// arm sets the deadline for a stop of process pid; disarm lifts it. Neither makes a system
// call.
func (w *tracerWatchdog) arm(pid int) {
	now := w.beganAt + int64(time.Since(w.began))
	w.page.Arm(pid, now+int64(stopLimit))
}

func (w *tracerWatchdog) disarm() { w.page.Disarm() }

// close ends the watchdog, which must not be needed any more, and waits for its end.
// Only the kernel can delay that, for a process that it cannot end just now.
func (w *tracerWatchdog) close() {
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
