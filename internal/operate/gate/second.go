package gate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The second is a process that ends a gate which does not answer: one that
// is stopped (SIGSTOP, a debugger) or waits for a page. The death of both closes
// the fanotify group, and the kernel then allows all that wait; the gate's workers
// die with it and let go of what they hold. The agent starts another gate.
//
// It reads no event. It sees that one is there to be read, by poll(2) on the
// group, and how far the gate has come, in a page that both have mapped:
//
//	reads   how often the gate has begun to read: an event that stays unread while
//	        this stays the same is one the gate does not come to
//	due     CLOCK_MONOTONIC in nanoseconds at which nobody may be held any more of
//	        those the gate has read; 0 while nobody is
//
// The gate sets due, and wakes its second, before it reads: at every instant an
// exec that waits is either unread, which wakes the second by itself, or covered by
// due. While nobody starts a held program, both sleep.
//
// The second itself is ended by the kernel when its gate ends, and replaced by its
// gate when it ends or is stopped. What remains is that both are stopped at once,
// as by the freezer of their cgroup.

// page is the memory that gate and second share.
type page struct{ b []byte }

const (
	pageSize = 4096
	wordDue  = 0
	wordRead = 8
)

func newPage() (page, *os.File, error) {
	fd, err := unix.MemfdCreate("pie-second", unix.MFD_CLOEXEC)
	if err != nil {
		return page{}, nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "page")
	if err := unix.Ftruncate(fd, pageSize); err != nil {
		f.Close()
		return page{}, nil, fmt.Errorf("memfd: %w", err)
	}
	p, err := mapPage(fd)
	if err != nil {
		f.Close()
	}
	return p, f, err
}

func mapPage(fd int) (page, error) {
	b, err := unix.Mmap(fd, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return page{}, fmt.Errorf("mapping the page: %w", err)
	}
	return page{b}, nil
}

func (p page) word(at int) *int64 { return (*int64)(unsafe.Pointer(&p.b[at])) }
func (p page) due() int64         { return atomic.LoadInt64(p.word(wordDue)) }
func (p page) reads() int64       { return atomic.LoadInt64(p.word(wordRead)) }

// monotonic reads CLOCK_MONOTONIC, in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// duty is the gate's side of the page: which reads are answered for, and until
// when.
type duty struct {
	mu      sync.Mutex
	page    page
	wake    int   // an eventfd that the second sleeps on
	handled int64 // reads whose events the gate has taken on
}

// reading is called before events are read.
func (d *duty) reading(limit time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	atomic.AddInt64(d.page.word(wordRead), 1)
	if d.page.due() == 0 {
		atomic.StoreInt64(d.page.word(wordDue), monotonic()+int64(limit))
		_, _ = unix.Write(d.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// took is called when the events of one read are in the gate's own records.
func (d *duty) took() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handled++
}

// until says how long the first of those that are held may still be held; none is
// with held false.
func (d *duty) until(left time.Duration, held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	due := int64(0)
	switch {
	case held:
		due = monotonic() + int64(left)
	case d.handled != d.page.reads():
		return // events of another read are on their way
	}
	atomic.StoreInt64(d.page.word(wordDue), due)
}

// Descriptors of the second process; its standard output is the gate's.
const (
	secondGroup = 3 + iota
	secondPage
	secondGate // a pidfd
	secondWake // an eventfd
)

// second is the gate's side of the process.
type second struct {
	page  *os.File
	group *group
	gate  *os.File // a pidfd of this process
	wake  *os.File
}

func newSecond(g *group) (*second, *duty, error) {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, nil, fmt.Errorf("pidfd of the gate: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("eventfd: %w", err)
	}
	p, f, err := newPage()
	s := &second{page: f, group: g, gate: os.NewFile(uintptr(self), "gate"), wake: os.NewFile(uintptr(wake), "wake")}
	return s, &duty{page: p, wake: wake}, err
}

// keep starts the process, and another one whenever it ends or is stopped. The
// first start is over when it returns.
func (s *second) keep(broken func(error)) error {
	started := make(chan error)
	go func() {
		// The signal of the parent's death comes with the death of this thread.
		runtime.LockOSThread()
		pidfd, err := s.start()
		started <- err
		for err == nil {
			began := time.Now()
			awaitStopOrEnd(pidfd)
			unix.Close(pidfd)
			if time.Since(began) < restartPause {
				time.Sleep(restartPause)
			}
			pidfd, err = s.start()
		}
		broken(err)
	}()
	return <-started
}

// start returns a pidfd of the process: a number might be that of another one.
func (s *second) start() (pidfd int, err error) {
	group, err := unix.FcntlInt(uintptr(s.group.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("starting the gate's second: %w", err)
	}
	theirs := os.NewFile(uintptr(group), "group")
	defer theirs.Close()
	cmd := command(secondName, theirs, s.page, s.gate, s.wake)
	// No collection but where what its looks at a late gate leave behind would become much.
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=16MiB")
	cmd.Stdout = os.Stdout
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.PidFD = &pidfd
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting the gate's second: %w", err)
	}
	if pidfd < 0 {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, errors.New("starting the gate's second: no pidfd of it, which takes Linux 5.4")
	}
	return pidfd, nil
}

// awaitStopOrEnd returns when a child has ended, or was stopped: then it is ended.
func awaitStopOrEnd(pidfd int) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WSTOPPED|unix.WEXITED, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil, info.Code != cldStopped:
			return
		default:
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		}
	}
}

// cldStopped is CLD_STOPPED, waitid(2).
const cldStopped = 5

const (
	// unreadTime is how long an event may stay unread: a gate is back at reading
	// within microseconds. With the rest it stays below MaxLimit.
	unreadTime = 30 * time.Millisecond
	// busyTime is how much longer a gate is borne with that is not stopped, only
	// late: the machine is busy, and to end the gate would make it busier.
	busyTime = 200 * time.Millisecond
	// lookInterval is how often the second looks while somebody is held.
	lookInterval = 5 * time.Millisecond
)

// watchGate is the second's main function.
func watchGate() int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGTSTP, unix.SIGPIPE)
	lockMemory()
	hurry(-20)
	preempt(secondLevel)
	p, err := mapPage(secondPage)
	if err != nil {
		return 1
	}
	w := &watcher{page: p, poll: []unix.PollFd{{Fd: secondGroup, Events: unix.POLLIN}, {Fd: secondWake, Events: unix.POLLIN}}}
	_ = unix.PidfdSendSignal(secondGate, 0, nil, 0) // its code is in memory then
	for {
		w.sleep()
		if why := w.watch(); why != "" {
			_ = unix.PidfdSendSignal(secondGate, unix.SIGKILL, nil, 0)
			newOutbox(1).send(Report{Kind: Broken, Error: why})
			return 0 // the group closes
		}
	}
}

// lockMemory keeps what is in memory there; without the right to, the process may
// have to wait for a page.
func lockMemory() {
	const onFault = 4 // MCL_ONFAULT
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | onFault)
}

// watcher looks at a gate from outside.
type watcher struct {
	page page
	poll []unix.PollFd // the group, and what wakes it
}

// sleep waits until there is somebody who may wait.
func (w *watcher) sleep() {
	for w.page.due() == 0 && !w.unread() {
		w.poll[0].Revents, w.poll[1].Revents = 0, 0
		if _, err := unix.Poll(w.poll, -1); err == nil && w.poll[1].Revents != 0 {
			var b [8]byte
			_, _ = unix.Read(secondWake, b[:])
		}
	}
}

// unread tells whether an event is there to be read.
func (w *watcher) unread() bool {
	w.poll[0].Revents = 0
	n, err := unix.Poll(w.poll[:1], 0)
	return err == nil && n > 0 && w.poll[0].Revents&unix.POLLIN != 0
}

// watch looks on until nobody waits any more. It returns why the gate has to end,
// or nothing.
func (w *watcher) watch() string {
	reads, since := w.page.reads(), monotonic()
	for {
		due, unread := w.page.due(), w.unread()
		if now := w.page.reads(); now != reads || !unread {
			reads, since = now, monotonic()
		}
		late := time.Duration(0)
		if due != 0 {
			late = time.Duration(monotonic() - due)
		}
		if unread {
			late = max(late, time.Duration(monotonic()-since)-unreadTime)
		}
		switch {
		case late > busyTime, late > 0 && stopped(os.Getppid()):
			return "the gate did not answer and was ended, so that nobody waits for it"
		case due == 0 && !unread:
			return ""
		}
		time.Sleep(lookInterval)
	}
}

// stopped tells whether a process is: its state in /proc/PID/stat is T, or t for
// one that a debugger stopped.
func stopped(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(b, ')')
	return err == nil && i >= 0 && len(b) > i+2 && (b[i+2] == 'T' || b[i+2] == 't')
}
