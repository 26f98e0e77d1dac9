package tracee

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// maxProcText bounds one small pseudo file, in bytes.
const maxProcText = 1 << 20

// Tasks returns the ids of the process's threads, as far as one pass over
// /proc/PID/task sees them while they come and go.
func (p *Process) Tasks() ([]int, error) {
	var path procPath
	tids, errno := listNumbers(path.set(p.Pid(), 0, ""), make([]byte, direntsSize), nil)
	if errno == 0 && !p.alive() {
		errno = unix.ESRCH // whoever has the number now
	}
	if errno != 0 {
		return nil, fmt.Errorf("pid %d: listing its threads: %w", p.Pid(), p.goneOr(errno))
	}
	return tids, nil
}

// Task reads the status of one thread. (Status speaks of the main thread.)
func (p *Process) Task(tid int) (proc.Status, error) {
	text, err := p.readat(fmt.Sprintf("task/%d/status", tid))
	if err != nil {
		return proc.Status{}, err
	}
	st, err := proc.ParseStatus(text)
	if err != nil {
		return st, fmt.Errorf("pid %d: thread %d: %w", p.Pid(), tid, err)
	}
	return st, nil
}

// Children returns the pids of the processes any thread of this one has
// forked and not yet reaped, from /proc/PID/task/TID/children.
func (p *Process) Children() ([]int, error) {
	tids, err := p.Tasks()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, tid := range tids {
		text, err := p.readat(fmt.Sprintf("task/%d/children", tid))
		if err != nil {
			continue // the thread has ended; its children moved to another thread
		}
		pids = append(pids, numbers(strings.Fields(string(text)))...)
	}
	return pids, nil
}

// SharingMM returns the other processes that live in the same address space:
// vfork children before their exec, and CLONE_VM processes. They are in no
// /proc/PID/task, so every process of /proc is asked for with kcmp(2).
func (p *Process) SharingMM() ([]int, error) {
	pids, errno := p.sharingMM(make([]byte, direntsSize), nil, nil)
	if errno != 0 {
		return nil, fmt.Errorf("pid %d: who shares its memory: %w", p.Pid(), p.goneOr(errno))
	}
	return pids, nil
}

// direntsSize is the size of a buffer for listNumbers, in bytes.
const direntsSize = 32 << 10

// strangersTime bounds how long strangers may take to answer: within it, and a stop, no pid
// is given again where pidsLast says so.
const strangersTime = 100 * time.Millisecond

// pidsLast tells whether the kernel has so many pids, each of which it gives again after
// all others (pid_max, proc(5)), that it takes it longer than strangersTime and a stop.
func pidsLast() bool {
	const usual = 32768 // no machine makes a tenth of that many processes in the time
	text, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return false
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && most >= usual
}

// strangers appends to list, in ascending order, the processes that live in other memory,
// and will: nobody joins an address space but by birth.
//
// It is asked before anything is stopped. The kernel answers kcmp(2) for a process in the
// midst of its exec when that is over, which on a full machine may take half a second.
// Inside a stop only those need be asked who came since.
func (p *Process) strangers(buf []byte, list []int) []int {
	var path procPath
	begin := time.Now()
	all, errno := listNumbers(path.set(0, 0, ""), buf, list)
	others := all[:0]
	for _, pid := range all {
		if pid != p.Pid() && otherMM(p.Pid(), pid) {
			others = append(others, pid)
		}
	}
	if errno != 0 || time.Since(begin) > strangersTime || !hasMemory(p.Pid(), p.Pid()) {
		return list
	}
	return others
}

// sharingMM appends to list what SharingMM returns, by way of buf, without asking for the
// strangers.
func (p *Process) sharingMM(buf []byte, list, strangers []int) ([]int, unix.Errno) {
	var path procPath
	for {
		member, errno := p.memoryHolder(buf, list)
		if errno != 0 {
			return list, errno
		}
		all, errno := listNumbers(path.set(0, 0, ""), buf, list)
		sharing := all[:0]
		for _, pid := range all {
			if _, stranger := slices.BinarySearch(strangers, pid); !stranger && pid != p.Pid() && sameMM(member, pid) {
				sharing = append(sharing, pid)
			}
		}
		// A thread that ends gives its memory up, and has then as much of it as
		// every kernel thread.
		if errno != 0 || hasMemory(p.Pid(), member) {
			return sharing, errno
		}
	}
}

// memoryHolder returns a thread that has not given up the process's memory: the main
// one, unless it has ended.
func (p *Process) memoryHolder(buf []byte, list []int) (tid int, errno unix.Errno) {
	if hasMemory(p.Pid(), p.Pid()) {
		return p.Pid(), 0
	}
	var path procPath
	tids, errno := listNumbers(path.set(p.Pid(), 0, ""), buf, list)
	for _, tid := range tids {
		if hasMemory(p.Pid(), tid) {
			return tid, 0
		}
	}
	if errno == 0 {
		errno = unix.ESRCH
	}
	return 0, errno
}

// hasMemory tells whether a thread has an address space, which it gives up when it
// ends, some moments before its state says so.
func hasMemory(pid, tid int) bool {
	const vsize = 20 // from the third field on; the 23rd of proc_pid_stat(5)
	var path procPath
	var text [512]byte
	b := text[:readFile(path.set(pid, tid, "stat"), text[:])]
	b = b[bytes.LastIndex(b, []byte(") "))+1:]
	for range vsize + 1 {
		b = b[bytes.IndexByte(b, ' ')+1:]
	}
	return len(b) > 0 && b[0] != '0' && b[0] != ' '
}

// sameMM asks kcmp(2) with KCMP_VM. A process we may not look at counts as
// another one: it could not be stopped either. Two threads without memory count as
// the same.
func sameMM(a, b int) bool {
	order, errno := compareMM(a, b)
	return errno == 0 && order == 0
}

// otherMM tells whether two processes are known to live in different memory.
func otherMM(a, b int) bool {
	order, errno := compareMM(a, b)
	return errno == 0 && order != 0
}

// compareMM is kcmp(2): 0 for the same memory.
func compareMM(a, b int) (order uintptr, errno unix.Errno) {
	const kcmpVM = 1
	order, _, errno = unix.RawSyscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return order, errno
}

// userState is what a thread is doing, from /proc/PID/task/TID/syscall.
type userState struct {
	running bool      // on a CPU or waiting for one: nothing else is known
	nr      int64     // number of the system call it sleeps in; −1: none
	args    [6]uint64 // of the call
	sp, pc  uint64    // user registers, when it sleeps
}

// parseUserState reads "running", "-1 SP PC" or "NR ARG0 … ARG5 SP PC".
func parseUserState(text []byte) (userState, error) {
	f := strings.Fields(string(text))
	if len(f) == 1 && f[0] == "running" {
		return userState{running: true, nr: -1}, nil
	}
	if len(f) != 3 && len(f) != 9 {
		return userState{}, fmt.Errorf("syscall %.80q: neither running nor a call with its arguments", text)
	}
	var u userState
	var err error
	if u.nr, err = strconv.ParseInt(f[0], 10, 64); err != nil {
		return userState{}, fmt.Errorf("syscall %.80q: %w", text, err)
	}
	words := []*uint64{&u.sp, &u.pc}
	if len(f) == 9 {
		words = []*uint64{&u.args[0], &u.args[1], &u.args[2], &u.args[3], &u.args[4], &u.args[5], &u.sp, &u.pc}
	}
	for i, w := range words {
		if *w, err = strconv.ParseUint(f[1+i], 0, 64); err != nil {
			return userState{}, fmt.Errorf("syscall %.80q: %w", text, err)
		}
	}
	return u, nil
}

// userState reads what thread tid is doing.
func (p *Process) userState(tid int) (userState, error) {
	text, err := p.readat(fmt.Sprintf("task/%d/syscall", tid))
	if err != nil {
		return userState{}, err
	}
	return parseUserState(text)
}

// caught returns the signals that the process has handlers for, SigCgt in
// proc_pid_status(5): all, when that cannot be told. text is for the file.
func (p *Process) caught(text []byte) uint64 {
	var path procPath
	text = text[:readFile(path.set(p.Pid(), p.Pid(), "status"), text)]
	_, value, found := bytes.Cut(text, []byte("\nSigCgt:\t"))
	mask, ok := hexadecimal(value)
	if !found || !ok {
		return ^uint64(0)
	}
	return mask
}

// inside tells whether pc lies in one of the ranges.
func inside(pc address.Addr, ranges []Range) bool {
	for _, r := range ranges {
		if r.Start <= pc && pc < r.End {
			return true
		}
	}
	return false
}

// openat opens a file of the pinned /proc/PID.
func (p *Process) openat(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("pid %d: opening /proc/%d/%s: %w", p.Pid(), p.Pid(), name, p.goneOr(err))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// readat reads a small file of the pinned /proc/PID.
func (p *Process) readat(name string) ([]byte, error) {
	f, err := p.openat(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProcText))
	if err != nil {
		return nil, fmt.Errorf("pid %d: reading %s: %w", p.Pid(), name, p.goneOr(err))
	}
	return text, nil
}

// numbers keeps the names that are decimal numbers.
func numbers(names []string) []int {
	list := make([]int, 0, len(names))
	for _, s := range names {
		if n, err := strconv.Atoi(s); err == nil && n > 0 {
			list = append(list, n)
		}
	}
	return list
}
