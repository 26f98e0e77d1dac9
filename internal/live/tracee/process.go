package tracee

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// Inode identifies a file whatever its name: st_dev and st_ino of stat(2).
type Inode struct{ Dev, Ino uint64 }

// Process is a pinned identity that may be traced: the process that had the
// pid when Open was called, and never its successor. What proc.Process reads
// (Maps, ReadAt, OpenExe, OpenMapped …) needs no attach and stops nobody.
type Process struct {
	*proc.Process
	dir   *os.File // /proc/PID, readable, so that it can be locked
	pidfd *os.File
	exe   Inode
	name  string

	host *Host

	holding sync.Mutex
	holders int

	search  sync.Mutex
	gadgets gadgets // found by an earlier search
}

// Open pins process pid of our pid namespace and refuses what cannot be
// traced at all: ErrGone, ErrSelf, ErrKernelThread, ErrZombie, ErrNotAMD64,
// *PermissionError. Being traced already is found out by Attach.
func Open(pid int) (*Process, error) { return openOn(pid, &Host{}) }

// Open is the function Open, for processes that this tracer is to stop.
func (t *Tracer) Open(pid int) (*Process, error) { return openOn(pid, &t.host) }

func openOn(pid int, on *Host) (*Process, error) {
	if pid == os.Getpid() {
		return nil, fmt.Errorf("pid %d: %w", pid, ErrSelf)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pid %d: %w", pid, notAProcess(err))
	}
	p := &Process{pidfd: os.NewFile(uintptr(fd), "pidfd"), host: on}
	if err := p.pin(pid); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// notAProcess explains pidfd_open(2)'s errors: EINVAL is a thread's id or a
// number no process can have.
func notAProcess(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return ErrGone
	}
	return fmt.Errorf("pidfd_open: %w", err)
}

// pin fills p. The two descriptors of /proc/PID are opened after the pidfd: if
// that process is still alive at the end, they are its own.
func (p *Process) pin(pid int) (err error) {
	if p.Process, err = proc.Open(pid); err != nil {
		return err
	}
	if p.dir, err = os.Open(filepath.Join("/proc", strconv.Itoa(pid))); err != nil {
		return fmt.Errorf("pid %d: %w", pid, p.goneOr(err))
	}
	st, err := p.Status()
	if err != nil {
		return err
	}
	p.name = st.Name
	if st.State == 'Z' || st.State == 'X' {
		return fmt.Errorf("pid %d (%q): %w", pid, st.Name, ErrZombie)
	}
	if kernel, err := p.KernelThread(); err != nil {
		return err
	} else if kernel {
		return fmt.Errorf("pid %d (%q): %w", pid, st.Name, ErrKernelThread)
	}
	if err := p.pinExe(); err != nil {
		return err
	}
	return p.Check()
}

// pinExe remembers the executable's inode and refuses other machines than
// x86-64 (e_ident[EI_CLASS] and e_machine of its ELF header). x32 is class 1.
func (p *Process) pinExe() error {
	exe, err := p.OpenExe()
	if err != nil {
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			return p.permission("looking at its executable", err)
		}
		return fmt.Errorf("pid %d (%q): %w", p.Pid(), p.name, err)
	}
	defer exe.Close()
	p.exe = Inode{Dev: exe.Dev, Ino: exe.Inode}
	var head [20]byte
	if _, err := exe.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("pid %d (%q): executable's header: %w", p.Pid(), p.name, err)
	}
	const elfClass64, machineX86_64 = 2, 62
	if string(head[:4]) != "\x7fELF" || head[4] != elfClass64 || head[18] != machineX86_64 || head[19] != 0 {
		return fmt.Errorf("pid %d (%q): %w", p.Pid(), p.name, ErrNotAMD64)
	}
	return nil
}

// Close releases the descriptors.
func (p *Process) Close() error {
	for _, f := range []*os.File{p.pidfd, p.dir} {
		if f != nil {
			f.Close()
		}
	}
	if p.Process != nil {
		return p.Process.Close()
	}
	return nil
}

// Exe returns the inode of the executable.
func (p *Process) Exe() Inode { return p.exe }

// Name returns the command name at the time of Open: chosen by the process,
// at most 15 bytes, to be quoted when printed.
func (p *Process) Name() string { return p.name }

// Check verifies that the process is alive and still runs the executable Open
// saw: ErrGone if not.
func (p *Process) Check() error {
	if !p.alive() {
		return fmt.Errorf("pid %d (%q): %w", p.Pid(), p.name, ErrGone)
	}
	exe, err := p.ExeIdentity()
	if err != nil {
		return fmt.Errorf("pid %d (%q): %w", p.Pid(), p.name, err)
	}
	if now := (Inode{Dev: unix.Mkdev(exe.Major, exe.Minor), Ino: exe.Inode}); now != p.exe || !p.SameMemory() {
		return fmt.Errorf("pid %d (%q): now runs another program: %w", p.Pid(), p.name, ErrGone)
	}
	return nil
}

// alive asks the pidfd, which becomes readable when the process ends. poll(2)
// says EINTR also with a timeout of 0: the Go runtime signals its threads.
func (p *Process) alive() bool {
	fds := []unix.PollFd{{Fd: int32(p.pidfd.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, 0); err != unix.EINTR {
			return err != nil || fds[0].Revents&unix.POLLIN == 0
		}
	}
}

// Lock keeps other instances of PIE away from the process until unlock is
// called; it does not wait: ErrBusy. Attach and StopWorld take it themselves
// where it is not held yet. The lock is a flock(2) on the process's /proc
// directory: it ends with its holder and leaves no file anywhere.
func (p *Process) Lock() (unlock func(), err error) { return p.hold() }

func (p *Process) hold() (release func(), err error) {
	p.holding.Lock()
	defer p.holding.Unlock()
	if p.holders == 0 {
		err := unix.Flock(int(p.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("pid %d: another pie is at work on it: %w", p.Pid(), ErrBusy)
		}
		if err != nil {
			return nil, fmt.Errorf("pid %d: locking: %w", p.Pid(), p.goneOr(err))
		}
	}
	p.holders++
	return sync.OnceFunc(p.unhold), nil
}

func (p *Process) unhold() {
	p.holding.Lock()
	defer p.holding.Unlock()
	if p.holders--; p.holders == 0 {
		_ = unix.Flock(int(p.dir.Fd()), unix.LOCK_UN)
	}
}

// goneOr says what ENOENT and ESRCH mean, with which /proc and ptrace answer
// that the process has ended, but also that only a thread has, or that one does
// not stand still. The pidfd tells: ErrGone, or ErrBusy for a process that lives.
func (p *Process) goneOr(err error) error {
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if p.alive() {
		return fmt.Errorf("%w (%w)", ErrBusy, err)
	}
	return fmt.Errorf("%w (%w)", ErrGone, err)
}

// threadLost explains a request that was refused for a thread that should be
// ours: the thread has ended, or is about to (EIO), and perhaps the process.
func (p *Process) threadLost(tid int, doing string, errno unix.Errno) error {
	err := error(errno)
	if errno == unix.EIO || errno == unix.ECHILD {
		err = fmt.Errorf("%w (%w)", unix.ESRCH, errno)
	}
	return fmt.Errorf("pid %d: thread %d: %s: %w", p.Pid(), tid, doing, p.goneOr(err))
}
