package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// group is a fanotify group of permission events, fanotify(7).
type group struct{ fd int }

// openGroup asks for execs, in the order they happen, without a limit of waiting
// events: one that is dropped would be allowed unseen. The thread that executes is
// told (FAN_REPORT_TID), since that is what is seized.
func openGroup() (*group, error) {
	const flags = unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_REPORT_TID | unix.FAN_UNLIMITED_QUEUE
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	return &group{fd}, nil
}

// errOther says that another file is at a path by now.
var errOther = errors.New("another file is there by now")

// mark asks for the execs of one file. It returns the folder that the file lies in,
// symbolic links followed.
func (g *group) mark(f File) (folder string, err error) {
	fd, err := unix.Open(f.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.Path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("%s: %w", f.Path, err)
	}
	if st.Dev != f.Dev || st.Ino != f.Inode || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", fmt.Errorf("%s: %w", f.Path, errOther)
	}
	// A mark that makes the file one of those that are not asked about goes first.
	_ = unix.FanotifyMark(g.fd, unix.FAN_MARK_REMOVE|unix.FAN_MARK_IGNORED_MASK, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, ownPath(fd))
	err = unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, ownPath(fd))
	if err != nil {
		return "", fmt.Errorf("%s: fanotify_mark: %w", f.Path, err)
	}
	path, err := os.Readlink(ownPath(fd))
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.Path, err)
	}
	return filepath.Dir(path), nil
}

// ownPath leads to what a descriptor of this process is of.
func ownPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// markFolder asks for the execs of what lies in a folder, now or later, but not
// deeper: a file that replaces another is so held from its first start on. What lies
// there already is not asked about.
func (g *group) markFolder(folder string) error {
	err := unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, unix.FAN_OPEN_EXEC_PERM|unix.FAN_EVENT_ON_CHILD, unix.AT_FDCWD, folder)
	if err != nil {
		return fmt.Errorf("%s: fanotify_mark: %w", folder, err)
	}
	return nil
}

// ignore asks no more for the execs of a file. The kernel may forget it with the
// file's inode (FAN_MARK_EVICTABLE, Linux 5.19), then it asks again.
func (g *group) ignore(path string) {
	const flags = unix.FAN_MARK_ADD | unix.FAN_MARK_IGNORED_MASK | unix.FAN_MARK_IGNORED_SURV_MODIFY
	if unix.FanotifyMark(g.fd, flags|unix.FAN_MARK_EVICTABLE, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, path) != nil {
		_ = unix.FanotifyMark(g.fd, flags, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, path)
	}
}

// opening is one exec that waits for its answer.
type opening struct {
	fd  int // of the file, open for reading
	tid int
}

const eventSize = 24 // of struct fanotify_event_metadata

// await returns when there are execs to be read.
func (g *group) await() error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for events: %w", err)
		}
	}
}

// read waits for execs. It returns those that have a file, which is all but a
// notice of a queue that overflowed.
func (g *group) read(buf []byte) ([]opening, error) {
	n, err := unix.Read(g.fd, buf)
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	return parseEvents(buf[:n]), nil
}

// parseEvents takes struct fanotify_event_metadata apart: event_len u32, vers u8,
// reserved u8, metadata_len u16, mask u64, fd s32, pid s32.
func parseEvents(b []byte) []opening {
	var out []opening
	for len(b) >= eventSize {
		size := int(binary.LittleEndian.Uint32(b))
		if size < eventSize || size > len(b) || b[4] != unix.FANOTIFY_METADATA_VERSION {
			break
		}
		if fd := int(int32(binary.LittleEndian.Uint32(b[16:]))); fd >= 0 {
			out = append(out, opening{fd: fd, tid: int(int32(binary.LittleEndian.Uint32(b[20:])))})
		}
		b = b[size:]
	}
	return out
}

// allow lets the exec go on: struct fanotify_response, fd s32 and response u32.
func (g *group) allow(o opening) {
	var b [8]byte
	binary.LittleEndian.PutUint32(b[:], uint32(o.fd))
	binary.LittleEndian.PutUint32(b[4:], unix.FAN_ALLOW)
	for {
		if _, err := unix.Write(g.fd, b[:]); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	unix.Close(o.fd)
}
