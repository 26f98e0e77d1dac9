package proc

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of a path walk.
const (
	maxLinks = 40 // as the kernel has it
	maxSteps = 1024
)

// walk resolves a path below a directory as if that were the root: absolute
// symbolic links and ".." stay inside. It goes by components, since a name in
// a directory of an untrusted file system must not even be looked up.
type walk struct {
	p     *Process
	dirs  []int    // from the root down, O_PATH
	names []string // still to go
	links int
}

// lookup opens a path in the process's root as O_PATH, following symbolic links
// inside. The error is *UntrustedFS when the path leads through a file system
// that a program serves.
func (p *Process) lookup(path string) (int, error) {
	root, err := p.openHeld("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	defer root.Close()
	top, err := unix.FcntlInt(root.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	w := walk{p: p, dirs: []int{top}, names: strings.Split(path, "/")}
	defer w.close()
	for range maxSteps {
		if len(w.names) == 0 {
			return unix.FcntlInt(uintptr(w.here()), unix.F_DUPFD_CLOEXEC, 0)
		}
		if err := w.step(); err != nil {
			return -1, err
		}
	}
	return -1, unix.ENAMETOOLONG
}

func (w *walk) here() int { return w.dirs[len(w.dirs)-1] }

func (w *walk) close() {
	for _, fd := range w.dirs {
		unix.Close(fd)
	}
}

// up closes the deepest directories until n are left.
func (w *walk) up(n int) {
	for len(w.dirs) > n {
		unix.Close(w.here())
		w.dirs = w.dirs[:len(w.dirs)-1]
	}
}

func (w *walk) step() error {
	name := w.names[0]
	w.names = w.names[1:]
	switch name {
	case "", ".":
		return nil
	case "..":
		w.up(max(1, len(w.dirs)-1))
		return nil
	}
	if _, err := w.p.checkFS(w.here()); err != nil {
		return err
	}
	fd, err := unix.Openat(w.here(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.dirs = append(w.dirs, fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return nil
	}
	return w.follow(fd)
}

// follow puts the names of a symbolic link's target in front of those to go.
// The links of /proc lead elsewhere than their text says; as text they are
// harmless.
func (w *walk) follow(link int) error {
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	if _, err := w.p.checkFS(link); err != nil {
		return err
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", b)
	if err != nil {
		return err
	}
	target := string(b[:n])
	w.up(len(w.dirs) - 1)
	if strings.HasPrefix(target, "/") {
		w.up(1)
	}
	w.names = append(strings.Split(target, "/"), w.names...)
	return nil
}
