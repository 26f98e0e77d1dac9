package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// FileTimeout is how long one open or one read of a mapped file may take. A
// file system that is slower is treated as hostile.
const FileTimeout = 5 * time.Second

// maxRead bounds what one ReadAt asks of the file system.
const maxRead = 1 << 30

// ErrSlowFile says that a file system did not answer within FileTimeout.
var ErrSlowFile = errors.New("the file system does not answer")

// ErrNotRegular says that what is mapped is a device, a pipe or the like.
var ErrNotRegular = errors.New("not a regular file")

// ErrReplaced says that the path of a mapping leads to another file by now
// and the mapped one cannot be reached.
var ErrReplaced = errors.New("the mapped file is no longer at its path")

// File is a regular file a process has mapped, open for reading. Reads have a
// deadline where they wait for more than a disk of this machine. It implements io.ReaderAt.
type File struct {
	f       *os.File
	local   bool // no deadline is needed
	timeout time.Duration
	Size    int64 // bytes, when it was opened
	// Dev and Inode are as stat(2) gives them.
	Dev, Inode uint64
	// Changed is the time of the last change of the file or of what is known of
	// it (st_ctim), in nanoseconds since the epoch, when it was opened.
	Changed int64
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// ReadAt reads len(b) bytes at off, or says why it could not: io.EOF past the
// end, ErrSlowFile when the file system did not answer in time.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if len(b) > maxRead {
		return 0, fmt.Errorf("reading %d bytes at once: %w", len(b), unix.EINVAL)
	}
	if f.local {
		return f.f.ReadAt(b, off)
	}
	// The read gets a buffer of its own: after a timeout the kernel may still
	// write to it.
	type result struct {
		b   []byte
		err error
	}
	r, err := within(f.timeout, func() result {
		own := make([]byte, len(b))
		n, err := f.f.ReadAt(own, off)
		return result{own[:n], err}
	}, nil)
	if err != nil {
		return 0, err
	}
	n := copy(b, r.b)
	if r.err == nil && n < len(b) {
		r.err = io.ErrUnexpectedEOF
	}
	return n, r.err
}

// OpenExe opens the executable the process runs, through /proc/PID/exe: the
// inode itself, also when it was deleted or replaced. The error is ErrNoExe for
// a kernel thread, a zombie, and a process on its way there.
func (p *Process) OpenExe() (*File, error) {
	f, err := p.openFile("exe")
	if errors.Is(err, unix.ENOENT) {
		err = p.exeErr(unix.ENOENT)
	}
	if err != nil {
		return nil, fmt.Errorf("executable: %w", err)
	}
	return f, nil
}

// OpenMapped opens the file behind a mapping that Maps returned.
func (p *Process) OpenMapped(m Mapping) (*File, error) {
	f, err := p.openFile(m.link())
	if err == nil {
		if f.Inode != m.File.Inode {
			f.Close()
			return nil, fmt.Errorf("pid %d: %v: %w", p.pid, m, ErrReplaced)
		}
		return f, nil
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("mapped file %q: %w", m.Path, err)
	}
	return p.openByPath(m)
}

// openByPath resolves the path of a mapping inside the process's root and
// accepts it only when it is the mapped inode.
func (p *Process) openByPath(m Mapping) (*File, error) {
	f, err := p.OpenInRoot(m.Path)
	if err != nil {
		return nil, fmt.Errorf("mapped file %q: %w", m.Path, err)
	}
	major, minor := unix.Major(f.Dev), unix.Minor(f.Dev)
	if f.Inode != m.File.Inode || major != m.File.Major || minor != m.File.Minor {
		f.Close()
		return nil, fmt.Errorf("pid %d: mapped file %q: %w", p.pid, m.Path, ErrReplaced)
	}
	return f, nil
}

// OpenInRoot opens a regular file by its path in the process's root directory
// and mount namespace. Symbolic links and ".." never lead out of that root.
func (p *Process) OpenInRoot(path string) (*File, error) {
	f, err := p.openRegular(path, func() (int, error) { return p.lookup(path) }, func() {})
	if err != nil {
		return nil, fmt.Errorf("pid %d: opening %q in its root: %w", p.pid, path, err)
	}
	return f, nil
}

// openFile opens the regular file that a link of /proc/PID leads to.
func (p *Process) openFile(name string) (f *File, err error) {
	err = p.InDir(func(dir int) (err error) {
		// The directory is duplicated so that a timed-out open cannot meet a
		// descriptor number that was closed and reused.
		own, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f, err = p.openRegular(name, func() (int, error) { return unix.Openat(own, name, unix.O_PATH|unix.O_CLOEXEC, 0) }, func() { unix.Close(own) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pid %d: opening /proc/%d/%s: %w", p.pid, p.pid, name, p.goneOr(err))
	}
	return f, nil
}

// openRegular finds a file with find, which opens it as O_PATH and so without
// effects, and reopens it for reading if it is a regular file. done is called
// when find has returned.
func (p *Process) openRegular(name string, find func() (int, error), done func()) (*File, error) {
	type result struct {
		f   *File
		err error
	}
	r, err := within(p.timeout, func() result {
		f, err := p.reopen(name, find, done)
		return result{f, err}
	}, func(late result) {
		if late.f != nil {
			late.f.Close()
		}
	})
	if err != nil {
		return nil, err
	}
	return r.f, r.err
}

func (p *Process) reopen(name string, find func() (int, error), done func()) (*File, error) {
	fd, err := find()
	done()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, ErrNotRegular
	}
	fstype, err := p.checkFS(fd)
	if err != nil {
		return nil, err
	}
	own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), name)
	var now unix.Stat_t
	if err := unix.Fstat(own, &now); err != nil {
		f.Close()
		return nil, err
	}
	return &File{f: f, local: isLocal(fstype), timeout: p.timeout, Size: now.Size, Dev: now.Dev, Inode: now.Ino, Changed: now.Ctim.Nano()}, nil
}

// within runs f and waits at most d for it. A call that is late goes on in
// its goroutine; its result goes to late, which may be nil.
func within[T any](d time.Duration, f func() T, late func(T)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	c := make(chan T)
	go func() {
		v := f()
		select {
		case c <- v:
		case <-ctx.Done():
			if late != nil {
				late(v)
			}
		}
	}()
	select {
	case v := <-c:
		return v, nil
	case <-ctx.Done():
		var zero T
		return zero, fmt.Errorf("%w within %v", ErrSlowFile, d)
	}
}
