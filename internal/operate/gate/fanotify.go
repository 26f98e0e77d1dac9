package gate

import (
	"encoding/binary"
	"errors"
	"fmt"

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

// mark asks for the execs of one file.
func (g *group) mark(f File) error {
	fd, err := unix.Open(f.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	if st.Dev != f.Dev || st.Ino != f.Inode || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s: %w", f.Path, errOther)
	}
	err = unix.FanotifyMark(g.fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fmt.Errorf("%s: fanotify_mark: %w", f.Path, err)
	}
	return nil
}

// opening is one exec that waits for its answer.
type opening struct {
	fd         int // of the file, open for reading
	tid        int
	dev, inode uint64
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

// identify says which file is opened.
func (o *opening) identify() {
	var st unix.Stat_t
	if unix.Fstat(o.fd, &st) == nil {
		o.dev, o.inode = st.Dev, st.Ino
	}
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
