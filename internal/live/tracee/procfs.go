package tracee

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// While threads stand still, /proc is read with bare system calls and without
// allocation: an ordinary one may cost the tracer its turn in the Go scheduler,
// which on a busy machine is longer than the whole stop.

// procPath builds paths below /proc that end in NUL.
type procPath [96]byte

// set returns the path /proc/GROUP/task/TID/FILE, /proc/GROUP/task for tid 0,
// and /proc for group 0. It is good until the next set.
func (p *procPath) set(group, tid int, file string) []byte {
	b := append(p[:0], "/proc"...)
	if group != 0 {
		b = strconv.AppendInt(append(b, '/'), int64(group), 10)
		b = append(b, "/task"...)
	}
	if tid != 0 {
		b = strconv.AppendInt(append(b, '/'), int64(tid), 10)
	}
	if file != "" {
		b = append(append(b, '/'), file...)
	}
	return append(b, 0)
}

// open opens the NUL-terminated path.
func open(path []byte, flags uintptr) (fd uintptr, errno unix.Errno) {
	const cwd = ^uintptr(99) // AT_FDCWD, −100
	fd, _, errno = unix.RawSyscall6(unix.SYS_OPENAT, cwd, uintptr(unsafe.Pointer(&path[0])), flags|unix.O_CLOEXEC, 0, 0, 0)
	runtime.KeepAlive(path)
	return fd, errno
}

func closeFD(fd uintptr) { unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0) }

// readFile reads the beginning of a file into b; 0 if it cannot be read.
func readFile(path, b []byte) int {
	fd, errno := open(path, unix.O_RDONLY)
	if errno != 0 {
		return 0
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	closeFD(fd)
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// listNumbers appends to list the names in a directory that are numbers. It
// allocates only when list has no room.
func listNumbers(path, buf []byte, list []int) ([]int, unix.Errno) {
	fd, errno := open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if errno != 0 {
		return list, errno
	}
	defer closeFD(fd)
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_GETDENTS64, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		runtime.KeepAlive(buf)
		if errno != 0 || n == 0 {
			return list, errno
		}
		list = appendNumbers(list, buf[:n])
	}
}

// appendNumbers reads struct linux_dirent64: inode and offset of 8 bytes, the
// record's length of 2, a type of 1, and the name with its NUL.
func appendNumbers(list []int, entries []byte) []int {
	const nameAt = 19
	for len(entries) > nameAt {
		size := int(entries[16]) | int(entries[17])<<8
		if size <= nameAt || size > len(entries) {
			return list
		}
		name := entries[nameAt:size]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if v, ok := decimal(name); ok {
			list = append(list, v)
		}
		entries = entries[size:]
	}
	return list
}

// decimal parses a process or thread id.
func decimal(b []byte) (v int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' || v > 1<<30 {
			return 0, false
		}
		v = 10*v + int(c-'0')
	}
	return v, v > 0
}

// hexadecimal parses the digits in front of a line's end.
func hexadecimal(b []byte) (v uint64, ok bool) {
	for i, c := range b {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return v, i > 0 && i <= 16
		}
	}
	return 0, false
}

// countTasks asks the kernel for the number of threads: a directory's links
// are 2 and one for each of them. Not ok: the process is gone.
func countTasks(path []byte) (int, bool) {
	var st unix.Stat_t
	_, _, errno := unix.RawSyscall(unix.SYS_STAT, uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&st)), 0)
	runtime.KeepAlive(path)
	return int(st.Nlink) - 2, errno == 0
}

// isTask tells whether tid is a thread of process pid.
func isTask(pid, tid int) bool {
	var path procPath
	fd, errno := open(path.set(pid, tid, ""), unix.O_RDONLY|unix.O_DIRECTORY)
	if errno != 0 {
		return false
	}
	closeFD(fd)
	return true
}

// taskStatus reads the status of a thread that may belong to any process.
func taskStatus(pid, tid int) (proc.Status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	if err != nil {
		return proc.Status{}, err
	}
	return proc.ParseStatus(text)
}

// taskUserState reads what a thread of any process is doing.
func taskUserState(pid, tid int) (userState, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	if err != nil {
		return userState{}, err
	}
	return parseUserState(text)
}
