package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// ErrGone says that the process has ended, or that no process has this pid.
var ErrGone = errors.New("no such process")

// ErrChanged says that what was asked for is no longer there, but the process
// is: it mapped or unmapped memory meanwhile.
var ErrChanged = errors.New("the process changed meanwhile")

// Bounds of the pseudo files read whole, in bytes.
const (
	maxMapsText  = 256 << 20
	maxSmallText = 1 << 20
)

// Process is a pinned process: all methods speak of the process that had the
// pid when Open was called, or say ErrGone. It is safe for concurrent use.
type Process struct {
	pid int
	dir *os.File // /proc/PID
	mem *os.File // /proc/PID/mem, read only; nil without permission
	// memErr is why mem is nil.
	memErr error
	start  uint64
	// timeout is how long its files may take to open or to read: FileTimeout.
	timeout time.Duration
}

// Open pins the process pid of the caller's pid namespace. Neither the right
// to read its memory nor to see its executable is needed yet.
func Open(pid int) (*Process, error) {
	path := filepath.Join("/proc", strconv.Itoa(pid))
	dir, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if isNoEntry(err) {
		err = fmt.Errorf("%w (%w)", ErrGone, err)
	}
	if err != nil {
		return nil, fmt.Errorf("pid %d: %w", pid, err)
	}
	p := &Process{pid: pid, dir: dir, timeout: FileTimeout}
	stat, err := p.readSmall("stat")
	if err == nil {
		_, p.start, err = ParseStat(stat)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("pid %d: %w", pid, err)
	}
	p.mem, p.memErr = p.open("mem", unix.O_RDONLY)
	return p, nil
}

// Close releases the descriptors.
func (p *Process) Close() error {
	if p.mem != nil {
		_ = p.mem.Close()
	}
	return p.dir.Close()
}

// Pid returns the process id given to Open.
func (p *Process) Pid() int { return p.pid }

// Start returns when the process started, in clock ticks since boot. With the
// pid it names the process for as long as the machine is up.
func (p *Process) Start() uint64 { return p.start }

// Maps reads /proc/PID/maps. The text is not one snapshot when the process
// maps and unmaps meanwhile, but every line was true at some instant.
func (p *Process) Maps() ([]Mapping, error) {
	text, err := p.read("maps", maxMapsText)
	if err != nil {
		return nil, err
	}
	maps, err := ParseMaps(text)
	if err != nil {
		return nil, fmt.Errorf("pid %d: %w", p.pid, err)
	}
	return maps, nil
}

// Status reads /proc/PID/status, of the thread group leader.
func (p *Process) Status() (Status, error) {
	text, err := p.readSmall("status")
	if err != nil {
		return Status{}, err
	}
	s, err := ParseStatus(text)
	if err != nil {
		return Status{}, fmt.Errorf("pid %d: %w", p.pid, err)
	}
	return s, nil
}

// Parent returns the pid of the parent process.
func (p *Process) Parent() (int, error) {
	text, err := p.readSmall("stat")
	if err != nil {
		return 0, err
	}
	ppid, _, err := ParseStat(text)
	return ppid, err
}

// Cgroup returns the text of /proc/PID/cgroup (cgroups(7)).
func (p *Process) Cgroup() (string, error) {
	text, err := p.readSmall("cgroup")
	return string(text), err
}

// ReadAt fills b from the memory at a. It reads through page protections, as
// a debugger does. It returns how much was read before the first unmapped
// page, with an error when that is less than len(b).
func (p *Process) ReadAt(b []byte, a address.Addr) (int, error) {
	if p.mem == nil {
		return 0, fmt.Errorf("pid %d: reading memory: %w", p.pid, p.memErr)
	}
	if int64(a) < 0 { // kernel half; pread takes it for a negative offset
		return 0, fmt.Errorf("pid %d: reading %d bytes at %v: %w", p.pid, len(b), a, unix.EFAULT)
	}
	n, err := p.mem.ReadAt(b, int64(a))
	if err != nil && n < len(b) {
		if errors.Is(err, io.EOF) { // the mm is gone
			err = ErrGone
		}
		return n, fmt.Errorf("pid %d: reading %d bytes at %v: %w", p.pid, len(b), a, p.goneOr(err))
	}
	return n, nil
}

func (p *Process) readSmall(name string) ([]byte, error) { return p.read(name, maxSmallText) }

// read reads the whole of a pseudo file, at most limit bytes of it.
func (p *Process) read(name string, limit int64) ([]byte, error) {
	f, err := p.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("pid %d: reading %s: %w", p.pid, name, p.goneOr(err))
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("pid %d: %s is longer than %d bytes", p.pid, name, limit)
	}
	return text, nil
}

// open opens a file of /proc/PID.
func (p *Process) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("pid %d: opening /proc/%d/%s: %w", p.pid, p.pid, name, p.goneOr(err))
	}
	return os.NewFile(uintptr(fd), filepath.Join(p.dir.Name(), name)), nil
}

// goneOr says what ENOENT and ESRCH mean, with which /proc answers that the
// process has ended, but also that a file or a mapping of it is there no longer:
// ErrGone, or ErrChanged for a process that lives.
func (p *Process) goneOr(err error) error {
	switch {
	case !isNoEntry(err):
		return err
	case p.lives():
		return fmt.Errorf("%w (%w)", ErrChanged, err)
	}
	return fmt.Errorf("%w (%w)", ErrGone, err)
}

func isNoEntry(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) }

// lives tells whether the process has not ended: a zombie has no memory left.
func (p *Process) lives() bool {
	fd, err := unix.Openat(int(p.dir.Fd()), "stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return !isNoEntry(err)
	}
	defer unix.Close(fd)
	b := make([]byte, 256)
	n, err := unix.Read(fd, b)
	if err != nil {
		return !isNoEntry(err)
	}
	i := bytes.LastIndex(b[:n], []byte(") "))
	return i < 0 || i+2 >= n || (b[i+2] != 'Z' && b[i+2] != 'X')
}
