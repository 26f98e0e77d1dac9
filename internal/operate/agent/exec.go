package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// execution is a process that has started another program.
type execution struct {
	pid  int
	at   time.Time
	late bool // the gate held it and let it go unguarded
}

// execWatch tells of every exec on the machine, as the kernel's process connector
// does (linux/cn_proc.h; it takes CAP_NET_ADMIN). Events that are lost because
// nobody read them in time are made up for by a pass.
type execWatch struct {
	fd      int
	events  chan execution
	dropped atomic.Bool
	// none are files that no rule is about, by device and inode.
	none map[[2]uint64]bool
}

// Constants of linux/connector.h and linux/cn_proc.h.
const (
	cnIdxProc         = 1
	cnValProc         = 1
	procCnMcastListen = 1
	procEventExec     = 2
	cnHeader          = 20 // struct cn_msg: idx, val, seq, ack, len u16, flags u16
	procEventHeader   = 16 // struct proc_event: what, cpu, timestamp_ns u64
)

// watchExecs starts listening, or says why /proc is polled.
func (a *Agent) watchExecs() {
	if a.c.PollOnly {
		a.watchErr = errors.New("the agent was started with --poll")
	} else {
		a.watch, a.watchErr = listenExecs()
	}
	if a.watchErr != nil {
		a.log.Warn("the kernel tells of no exec; processes are looked for every second", "reason", a.watchErr)
	}
}

func listenExecs() (*execWatch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, fmt.Errorf("process connector: %w", err)
	}
	w := &execWatch{fd: fd, events: make(chan execution, 4096), none: map[[2]uint64]bool{}}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	err = filterExecs(fd)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: cnIdxProc})
	}
	if err == nil {
		err = unix.Sendto(fd, listenMessage(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("process connector: %w", err)
	}
	go w.read()
	return w, nil
}

// filterExecs has the kernel drop what is no exec (forks, ends, changes of user),
// so that a busy machine does not wake the agent for nothing. Classic BPF loads
// words in network order.
func filterExecs(fd int) error {
	const at = unix.NLMSG_HDRLEN + cnHeader // proc_event.what
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: procEventExec << 24},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// listenMessage asks for the events: nlmsghdr, cn_msg, and the operation.
func listenMessage() []byte {
	const size = unix.NLMSG_HDRLEN + cnHeader + 4
	b := make([]byte, size)
	le := binary.LittleEndian
	le.PutUint32(b[0:], size)
	le.PutUint16(b[4:], unix.NLMSG_DONE)
	le.PutUint32(b[12:], uint32(os.Getpid()))
	c := b[unix.NLMSG_HDRLEN:]
	le.PutUint32(c[0:], cnIdxProc)
	le.PutUint32(c[4:], cnValProc)
	le.PutUint16(c[16:], 4)
	le.PutUint32(c[cnHeader:], procCnMcastListen)
	return b
}

func (w *execWatch) read() {
	buf := make([]byte, 8<<10)
	for {
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if errors.Is(err, unix.ENOBUFS) {
			w.dropped.Store(true)
			continue
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
			continue // not the kernel
		}
		if e, ok := parseExec(buf[:n]); ok {
			select {
			case w.events <- e:
			default:
				w.dropped.Store(true)
			}
		}
	}
}

// lost tells whether events were, since it was asked last.
func (w *execWatch) lost() bool { return w != nil && w.dropped.Swap(false) }

// parseExec reads one message; only execs are of interest. The event's time is
// CLOCK_MONOTONIC.
func parseExec(b []byte) (execution, bool) {
	const at = unix.NLMSG_HDRLEN + cnHeader
	le := binary.LittleEndian
	if len(b) < at+procEventHeader+8 || le.Uint32(b[unix.NLMSG_HDRLEN:]) != cnIdxProc || le.Uint32(b[at:]) != procEventExec {
		return execution{}, false
	}
	pid := int(int32(le.Uint32(b[at+procEventHeader+4:]))) // tgid
	if pid <= 0 {
		return execution{}, false
	}
	return execution{pid: pid, at: monotonicTime(int64(le.Uint64(b[at+8:])))}, true
}

// monotonicTime turns an instant of CLOCK_MONOTONIC into one of the wall clock.
func monotonicTime(ns int64) time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return time.Now()
	}
	return time.Now().Add(-max(0, time.Duration(ts.Nano()-ns)))
}

// startTime turns /proc's start time (clock ticks of 10 ms since boot,
// proc_pid_stat(5)) into one of the wall clock.
func startTime(ticks uint64) time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return time.Now()
	}
	return time.Now().Add(-max(0, time.Duration(ts.Nano())-time.Duration(ticks)*10*time.Millisecond))
}

// execs is nil, which never tells anything, when there is no connector.
func (w *execWatch) execs() <-chan execution {
	if w == nil {
		return nil
	}
	return w.events
}

func (w *execWatch) close() {
	if w != nil {
		unix.Shutdown(w.fd, unix.SHUT_RDWR)
		unix.Close(w.fd)
	}
}

// irrelevant tells whether no rule is about what a process runs, as it was found
// out before. Most execs of a busy machine end here.
func (w *execWatch) irrelevant(pid int) bool {
	id, ok := fileOf(pid)
	return w != nil && (!ok || w.none[id])
}

// knowsIrrelevant is irrelevant for a file.
func (w *execWatch) knowsIrrelevant(id [2]uint64) bool { return w != nil && w.none[id] }

const maxNone = 4096

func (w *execWatch) setIrrelevant(pid int) {
	if id, ok := fileOf(pid); w != nil && ok {
		if len(w.none) >= maxNone {
			clear(w.none)
		}
		w.none[id] = true
	}
}

// forget is for new rules, and files that were replaced.
func (w *execWatch) forget() {
	if w != nil {
		clear(w.none)
	}
}

func fileOf(pid int) ([2]uint64, bool) {
	id, err := proc.ExeOf(pid)
	if err != nil {
		return [2]uint64{}, false
	}
	return [2]uint64{unix.Mkdev(id.Major, id.Minor), id.Inode}, true
}
