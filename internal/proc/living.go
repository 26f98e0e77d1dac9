package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A process whose main thread has ended, by pthread_exit(3), lives on in its other
// threads, and keeps its pid. But the kernel answers for /proc/PID by the main
// thread, which has given up its memory, files and namespaces: exe and root lead
// nowhere, maps is empty. /proc/TID of a thread that lives has them all; it can be
// opened, though it is not listed.

// maxLivingTried bounds how many threads are asked, which may end meanwhile.
const maxLivingTried = 8

// InDir calls f with a descriptor of /proc/PID and, where that fails because the main
// thread has ended, with that of a thread that lives. It returns f's last error.
func (p *Process) InDir(f func(dir int) error) error {
	err := f(int(p.dir.Fd()))
	if err == nil || !p.mainEnded() {
		return err
	}
	return p.inLiving(f)
}

// inLiving calls f with the directory of one living thread after another until it
// has its way.
func (p *Process) inLiving(f func(dir int) error) error {
	err := error(ErrGone)
	for range maxLivingTried {
		tid, dir, openErr := p.openLiving()
		if openErr != nil {
			return openErr
		}
		err = f(dir)
		unix.Close(dir)
		if err == nil || p.threadLives(tid) {
			return err
		}
	}
	return err
}

// endingTime bounds how long a main thread that has given up its memory is given to end.
const endingTime = 100 * time.Millisecond

// OpenMemory opens /proc/PID/mem with flags of open(2): the address space the
// process has now, also when it runs another program later.
func (p *Process) OpenMemory(flags int) (int, error) {
	fd := -1
	open := func(dir int) (err error) {
		fd, err = unix.Openat(dir, "mem", flags|unix.O_CLOEXEC, 0)
		return err
	}
	err := open(int(p.dir.Fd()))
	for end := time.Now().Add(endingTime); errors.Is(err, unix.ESRCH) && p.lives() && !p.mainEnded() && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // it has given up its memory, and is about to end
		err = open(int(p.dir.Fd()))
	}
	// A kernel may open the file of a thread that has no memory any more, which
	// then reads as empty.
	if p.mainEnded() {
		if err == nil {
			unix.Close(fd)
		}
		err = p.inLiving(open)
	}
	if err != nil {
		return -1, fmt.Errorf("pid %d: opening /proc/%d/mem: %w", p.pid, p.pid, p.goneOr(err))
	}
	return fd, nil
}

// StatusText returns the text of /proc/PID/status, of the main thread or, where that
// has ended, of one that lives.
func (p *Process) StatusText() ([]byte, error) {
	text, err := p.readSmall("status")
	if err != nil || !bytes.Contains(text, []byte("\nState:\tZ")) || !p.mainEnded() {
		return text, err
	}
	err = p.inLiving(func(dir int) (err error) {
		text, err = readAt(dir, "status", maxSmallText)
		return err
	})
	if errors.Is(err, ErrGone) {
		return p.readSmall("status") // the last thread has ended
	}
	return text, err
}

// openLiving opens /proc/TID of a thread that lives.
func (p *Process) openLiving() (tid, dir int, err error) {
	if tid = int(p.living.Load()); tid != 0 && p.threadLives(tid) {
		if dir, err = p.openThread(tid); err == nil {
			return tid, dir, nil
		}
	}
	tids, err := p.threads()
	if err != nil {
		return 0, -1, err
	}
	for _, tid = range tids {
		if !p.threadLives(tid) {
			continue
		}
		if dir, err = p.openThread(tid); err == nil {
			p.living.Store(int64(tid))
			return tid, dir, nil
		}
	}
	return 0, -1, fmt.Errorf("pid %d: %w: none of its threads lives", p.pid, ErrGone)
}

// openThread opens /proc/TID of a thread of the process. Whoever had the number when it
// was opened has ended, unless it is the thread that has the number afterwards.
func (p *Process) openThread(tid int) (int, error) {
	dir, err := unix.Open("/proc/"+strconv.Itoa(tid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Faccessat(int(p.dir.Fd()), "task/"+strconv.Itoa(tid), unix.F_OK, 0); err != nil {
		unix.Close(dir)
		return -1, err
	}
	return dir, nil
}

// threads lists /proc/PID/task.
func (p *Process) threads() ([]int, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), "task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), "task")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	tids := make([]int, 0, len(names))
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// mainEnded tells whether the main thread has ended while others run on: a directory's
// links are 2 and one for each thread.
func (p *Process) mainEnded() bool {
	var st unix.Stat_t
	return !p.threadLives(p.pid) && unix.Fstatat(int(p.dir.Fd()), "task", &st, 0) == nil && st.Nlink > 3
}

// anyLives tells whether a thread lives.
func (p *Process) anyLives() bool {
	tids, err := p.threads()
	return err == nil && slices.ContainsFunc(tids, p.threadLives)
}

// threadLives tells whether a thread has not ended: one that has, has no memory left,
// some moments before its state says so.
func (p *Process) threadLives(tid int) bool {
	text, err := readAt(int(p.dir.Fd()), "task/"+strconv.Itoa(tid)+"/stat", maxSmallText)
	if err != nil {
		return !isNoEntry(err)
	}
	i := bytes.LastIndex(text, []byte(") "))
	if i < 0 {
		return true
	}
	const state, vsize = 0, 20 // fields 3 and 23 of proc_pid_stat(5)
	fields := bytes.Fields(text[i+2:])
	if len(fields) <= vsize {
		return true
	}
	s := fields[state][0]
	return s != 'Z' && s != 'X' && !bytes.Equal(fields[vsize], []byte("0"))
}
