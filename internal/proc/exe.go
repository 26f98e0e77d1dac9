package proc

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity is a file's identity as statx(2) reports it.
type Identity struct {
	Major, Minor uint32 // of the device
	Inode        uint64
}

// ErrNoExe says that a process has no executable: a kernel thread. Of a zombie, or
// one that is about to be, the error is ErrGone as well.
var ErrNoExe = errors.New("the process has no executable")

// exeDirs is where an executable given by name is looked for in the process's
// root, besides the directory of its /proc/PID/exe.
var exeDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// ExePath returns what /proc/PID/exe reads: the path of the executable as the
// caller's root sees it, for people and for comparing names. It may be stale;
// deleted is set when the kernel says that the file was removed.
func (p *Process) ExePath() (name string, deleted bool, err error) {
	b := make([]byte, unix.PathMax)
	n := 0
	err = p.InDir(func(dir int) (err error) {
		n, err = unix.Readlinkat(dir, "exe", b)
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("pid %d: reading /proc/%d/exe: %w", p.pid, p.pid, p.exeErr(err))
	}
	name, deleted = strings.CutSuffix(string(b[:n]), " (deleted)")
	return name, deleted, nil
}

// ExeIdentity returns the identity of the executable.
func (p *Process) ExeIdentity() (Identity, error) {
	var id Identity
	err := p.InDir(func(dir int) (err error) {
		id, err = identify(dir, "exe", 0)
		return err
	})
	if err != nil {
		return Identity{}, fmt.Errorf("pid %d: looking at /proc/%d/exe: %w", p.pid, p.pid, p.exeErr(err))
	}
	return id, nil
}

// ExeOf returns the identity of the executable of whatever process has the pid now.
// Nothing is pinned: it is for telling files apart, exec by exec.
func ExeOf(pid int) (Identity, error) {
	id, err := identify(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/exe", 0)
	if isNoEntry(err) {
		err = fmt.Errorf("%w (%w)", ErrGone, err)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("pid %d: looking at /proc/%d/exe: %w", pid, pid, err)
	}
	return id, nil
}

// RootIdentity returns the identity of the process's root directory.
func (p *Process) RootIdentity() (Identity, error) {
	var id Identity
	err := p.InDir(func(dir int) (err error) {
		id, err = identify(dir, "root", 0)
		return err
	})
	if err != nil {
		return Identity{}, fmt.Errorf("pid %d: looking at /proc/%d/root: %w", p.pid, p.pid, p.goneOr(err))
	}
	return id, nil
}

// exeErr tells a kernel thread, which never had an executable, from a process
// that ended or is ending, and has none any more: readlink says ENOENT of all.
func (p *Process) exeErr(err error) error {
	if !errors.Is(err, unix.ENOENT) {
		return p.goneOr(err)
	}
	kernel, statErr := p.KernelThread()
	switch {
	case statErr != nil:
		return statErr
	case kernel:
		return ErrNoExe
	}
	return fmt.Errorf("%w (%w)", ErrGone, ErrNoExe)
}

// KernelThread tells whether the process is a thread of the kernel. That it has no
// executable does not tell: a process has none either once exit(2) has let go of
// its memory, some time before it becomes a zombie.
func (p *Process) KernelThread() (bool, error) {
	text, err := p.readSmall("stat")
	if err != nil {
		return false, err
	}
	flags, err := parseFlags(text)
	return flags&flagKernelThread != 0, err
}

// RunsExe tells whether the process runs an executable, which is given as a
// path in the process's root or as a name.
//
// A path matches the executable's inode. A name matches when the link
// /proc/PID/exe ends with it, or when the file of that name in the process's
// root, beside the executable or in the usual directories, is the very inode:
// a redis-server may have been started through a link and then maps as
// redis-check-rdb. The name the process gives itself (comm) is never used.
func (p *Process) RunsExe(exe string) (bool, error) {
	link, _, err := p.ExePath()
	if err != nil {
		return false, err
	}
	var paths []string
	switch {
	case strings.HasPrefix(exe, "/"):
		paths = []string{exe}
	case exe == "" || strings.Contains(exe, "/"):
		return false, fmt.Errorf("executable %q: give an absolute path, or a name alone", exe)
	case path.Base(link) == exe:
		return true, nil
	default:
		for _, dir := range append([]string{path.Dir(link)}, exeDirs...) {
			paths = append(paths, path.Join(dir, exe))
		}
	}
	running, err := p.ExeIdentity()
	if err != nil {
		return false, err
	}
	for _, at := range paths {
		id, err := p.IdentityInRoot(at)
		if errors.Is(err, ErrSlowFile) {
			return false, err
		}
		if err == nil && id == running {
			return true, nil
		}
	}
	return false, nil
}

// IdentityInRoot returns the identity of a file by its path in the process's
// root, following symbolic links inside it. Nobody who serves a file system is
// asked: *UntrustedFS, ErrSlowFile.
func (p *Process) IdentityInRoot(name string) (Identity, error) {
	type result struct {
		id  Identity
		err error
	}
	r, err := within(p.timeout, func() result {
		fd, err := p.lookup(name)
		if err != nil {
			return result{err: err}
		}
		defer unix.Close(fd)
		id, err := identify(fd, "", unix.AT_EMPTY_PATH)
		return result{id, err}
	}, nil)
	if err != nil {
		return Identity{}, err
	}
	return r.id, r.err
}

// identify reads a file's identity without asking a remote file system for
// anything newer than what the kernel knows.
func identify(dir int, name string, flags int) (Identity, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, flags|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st); err != nil {
		return Identity{}, err
	}
	return Identity{st.Dev_major, st.Dev_minor, st.Ino}, nil
}
