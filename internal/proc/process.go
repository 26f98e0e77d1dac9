package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
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
	pid   int
	dir   *os.File // /proc/PID
	start uint64
	// mem is what its memory is read by, opened when it is first needed: a pass over
	// all processes of a machine reads the memory of few.
	mem memory
	// timeout is how long its files may take to open or to read, and its memory: FileTimeout.
	timeout time.Duration
	// living is a thread that lived when it was last asked for, where the main one
	// has ended; 0: not known.
	living atomic.Int64
}

// Open pins the process pid of the caller's pid namespace. Neither the right
// to read its memory nor to see its executable is needed yet.
func Open(pid int) (*Process, error) {
	path := filepath.Join("/proc", strconv.Itoa(pid))
	dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if isNoEntry(err) {
		err = fmt.Errorf("%w (%w)", ErrGone, err)
	}
	if err != nil {
		return nil, fmt.Errorf("pid %d: %w", pid, err)
	}
	p := &Process{pid: pid, dir: os.NewFile(uintptr(dir), path), timeout: FileTimeout}
	stat, err := p.readSmall("stat")
	if err == nil {
		_, p.start, err = ParseStat(stat)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("pid %d: %w", pid, err)
	}
	return p, nil
}

// Close releases the descriptors.
func (p *Process) Close() error {
	p.mem.close()
	return p.dir.Close()
}

// Pid returns the process id given to Open.
func (p *Process) Pid() int { return p.pid }

// Start returns when the process started, in clock ticks since boot. With the
// pid it names the process for as long as the machine is up.
func (p *Process) Start() uint64 { return p.start }

// Maps reads /proc/PID/maps. The text is not one snapshot when the process
// maps and unmaps meanwhile, but every line was true at some instant, and no two overlap.
// ErrChanged where it changes faster than it can be read.
func (p *Process) Maps() ([]Mapping, error) {
	return readMaps(p.pid, func() ([]byte, error) { return p.readHeld("maps", maxMapsText) })
}

// mapsTries bounds how often a text is read whose lines overlap.
const mapsTries = 20

func readMaps(pid int, read func() ([]byte, error)) ([]Mapping, error) {
	for try := 1; ; try++ {
		text, err := read()
		if err != nil {
			return nil, err
		}
		maps, err := ParseMaps(text)
		switch {
		case err == nil:
			return maps, nil
		case !errors.Is(err, errOverlap):
			return nil, fmt.Errorf("pid %d: %w", pid, err)
		case try == mapsTries:
			return nil, fmt.Errorf("pid %d: %w: %w", pid, ErrChanged, err)
		}
	}
}

// Status reads /proc/PID/status, of the main thread or, where that has ended, of one
// that lives.
func (p *Process) Status() (Status, error) {
	text, err := p.StatusText()
	if err != nil {
		return Status{}, err
	}
	s, err := ParseStatus(text)
	if err != nil {
		return Status{}, fmt.Errorf("pid %d: %w", p.pid, err)
	}
	return s, nil
}

// Stat returns the parent's pid and the start time of whatever process has the
// pid now, as Parent and Start would. Nothing is pinned: it is for a pass over
// all processes.
func Stat(pid int) (parent int, start uint64, err error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		if isNoEntry(err) {
			err = fmt.Errorf("%w (%w)", ErrGone, err)
		}
		return 0, 0, fmt.Errorf("pid %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// One read, for every process of a machine may be asked for: the kernel gives a
	// line that fits at once.
	var line [1024]byte
	n, err := unix.Read(fd, line[:])
	if isNoEntry(err) {
		err = fmt.Errorf("%w (%w)", ErrGone, err)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("pid %d: reading stat: %w", pid, err)
	}
	return ParseStat(line[:n])
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

// HeapStart returns where the kernel lets the heap begin (brk(2)), or 0 where it does not
// tell.
func (p *Process) HeapStart() (address.Addr, error) {
	text, err := p.readSmall("stat")
	if err != nil {
		return 0, err
	}
	return parseHeapStart(text)
}

// Cgroup returns the text of /proc/PID/cgroup (cgroups(7)).
func (p *Process) Cgroup() (string, error) {
	text, err := p.readSmall("cgroup")
	return string(text), err
}

// readHeld reads a pseudo file about what threads give up when they end, such as
// memory and mounts. One that has nothing to say any more is an empty file.
func (p *Process) readHeld(name string, limit int64) (text []byte, err error) {
	empty := fmt.Errorf("%w: it is empty", unix.ESRCH)
	err = p.InDir(func(dir int) (err error) {
		text, err = readAt(dir, name, limit)
		if err == nil && len(text) == 0 {
			err = empty
		}
		return err
	})
	if err == empty {
		return nil, nil // a kernel thread
	}
	if err != nil {
		return nil, fmt.Errorf("pid %d: reading %s: %w", p.pid, name, p.goneOr(err))
	}
	return text, nil
}

func (p *Process) readSmall(name string) ([]byte, error) { return p.read(name, maxSmallText) }

// read reads the whole of a pseudo file, at most limit bytes of it.
func (p *Process) read(name string, limit int64) ([]byte, error) {
	text, err := readAt(int(p.dir.Fd()), name, limit)
	runtime.KeepAlive(p.dir)
	if err != nil {
		return nil, fmt.Errorf("pid %d: reading /proc/%d/%s: %w", p.pid, p.pid, name, p.goneOr(err))
	}
	return text, nil
}

// readAt reads the whole of a pseudo file in a directory.
func readAt(dir int, name string, limit int64) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readWhole(fd, limit)
}

// readWhole reads a pseudo file to its end.
func readWhole(fd int, limit int64) (text []byte, err error) {
	var part [4096]byte // as much as the kernel gives of most at once
	for {
		n, err := unix.Read(fd, part[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case n <= 0:
			return text, nil
		}
		text = append(text, part[:n]...)
		if int64(len(text)) > limit {
			return nil, fmt.Errorf("longer than %d bytes", limit)
		}
	}
}

// openHeld opens a file of /proc/PID about what threads give up when they end.
func (p *Process) openHeld(name string, flags int) (*os.File, error) {
	fd := -1
	err := p.InDir(func(dir int) (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		return err
	})
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
	text, err := readAt(int(p.dir.Fd()), "stat", maxSmallText)
	if err != nil {
		return !isNoEntry(err)
	}
	i := bytes.LastIndex(text, []byte(") "))
	return i < 0 || i+2 >= len(text) || (text[i+2] != 'Z' && text[i+2] != 'X') || p.anyLives()
}
