package tracee

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests and constants of ptrace(2) that x/sys does not name for amd64.
const (
	ptraceGetSigMask     = 0x420a
	ptraceSetSigMask     = 0x420b
	ptraceSeccompFilter  = 0x420c // PTRACE_SECCOMP_GET_FILTER
	ptraceRseqConfig     = 0x420f // PTRACE_GET_RSEQ_CONFIGURATION
	ptraceDispatch       = 0x4211 // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
	ptraceEventStop      = 128    // PTRACE_EVENT_STOP
	optionSuspendSeccomp = 1 << 21
	noteX86XState        = 0x202 // NT_X86_XSTATE

	// Offsets of struct user's registers, for PTRACE_POKEUSER.
	userRAX = 10 * 8
	userRIP = 16 * 8
)

// hand issues requests from the tracer's thread. Every method is one request,
// made without the Go scheduler (RawSyscall) and without allocation, and is
// followed by one call of onStep.
type hand struct {
	onStep func(Step)
	n      int
	// refuse, when set, answers for the kernel where it returns an errno.
	refuse func(name string, tid int) unix.Errno
	// abandoned is set when a tracee could not be stopped and so not be
	// detached: only the end of the thread lets go of it.
	abandoned bool
	// held is the tracee that stands still between operations, 0 when none does. Only the
	// tracer's thread sets it.
	held atomic.Int64
	// breaks is whether TryBreakpoints found them hit, once it was asked.
	breaks struct{ asked, hit bool }
}

// breakable tells whether breakpoints are of use on this machine.
func (h *hand) breakable() bool {
	if !h.breaks.asked {
		h.breaks.asked, h.breaks.hit = true, TryBreakpoints() == nil
	}
	return h.breaks.hit
}

// holds tells whether a tracee is the one that is held.
func (h *hand) holds(tid int) bool { return h.held.Load() == int64(tid) }

// step tells the test hook that a request or a remote write was made.
func (h *hand) step(name string) {
	if h.onStep != nil {
		h.n++
		h.onStep(Step{Name: name, N: h.n})
	}
}

func (h *hand) request(name string, req uintptr, tid int, addr, data uintptr) unix.Errno {
	if errno := h.refused(name, tid); errno != 0 {
		return errno
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, req, uintptr(tid), addr, data, 0, 0)
	h.step(name)
	return errno
}

// requestAt is request with a pointer. It is converted for the system call
// itself and not before: a stack that grows in between moves what lies on it.
func (h *hand) requestAt(name string, req uintptr, tid int, addr uintptr, data unsafe.Pointer) unix.Errno {
	if errno := h.refused(name, tid); errno != 0 {
		return errno
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, req, uintptr(tid), addr, uintptr(data), 0, 0)
	h.step(name)
	return errno
}

func (h *hand) refused(name string, tid int) unix.Errno {
	if h.refuse == nil {
		return 0
	}
	return h.refuse(name, tid)
}

// Requests on a running thread.

func (h *hand) seize(tid int, options uintptr) unix.Errno {
	return h.request("seize", unix.PTRACE_SEIZE, tid, 0, options)
}

func (h *hand) interrupt(tid int) unix.Errno {
	return h.request("interrupt", unix.PTRACE_INTERRUPT, tid, 0, 0)
}

// Requests on a stopped thread: ESRCH when it is not stopped (any more).

func (h *hand) cont(tid int, sig unix.Signal) unix.Errno {
	return h.request("cont", unix.PTRACE_CONT, tid, 0, uintptr(sig))
}

// toSyscall resumes until the next entry into or exit from a system call.
func (h *hand) toSyscall(tid int, sig unix.Signal) unix.Errno {
	return h.request("syscall", unix.PTRACE_SYSCALL, tid, 0, uintptr(sig))
}

func (h *hand) detach(tid int, sig unix.Signal) unix.Errno {
	return h.request("detach", unix.PTRACE_DETACH, tid, 0, uintptr(sig))
}

func (h *hand) setOptions(tid int, options uintptr) unix.Errno {
	return h.request("setoptions", unix.PTRACE_SETOPTIONS, tid, 0, options)
}

func (h *hand) getRegs(tid int, r *unix.PtraceRegs) unix.Errno {
	errno := h.requestAt("getregs", unix.PTRACE_GETREGS, tid, 0, unsafe.Pointer(r))
	runtime.KeepAlive(r)
	return errno
}

func (h *hand) setRegs(tid int, r *unix.PtraceRegs) unix.Errno {
	errno := h.requestAt("setregs", unix.PTRACE_SETREGS, tid, 0, unsafe.Pointer(r))
	runtime.KeepAlive(r)
	return errno
}

// pokeUser writes one register; offset is in struct user.
func (h *hand) pokeUser(tid int, offset, value uintptr) unix.Errno {
	return h.request("pokeuser", unix.PTRACE_POKEUSR, tid, offset, value)
}

// pokeData writes one word of memory, at any address, through any protection.
func (h *hand) pokeData(tid int, addr, value uintptr) unix.Errno {
	return h.request("pokedata", unix.PTRACE_POKEDATA, tid, addr, value)
}

// getXState reads the whole vector state in the standard XSAVE format and
// returns how many bytes that is.
func (h *hand) getXState(tid int, b []byte) (int, unix.Errno) {
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	errno := h.requestAt("getregset", unix.PTRACE_GETREGSET, tid, noteX86XState, unsafe.Pointer(&iov))
	runtime.KeepAlive(b)
	return int(iov.Len), errno
}

func (h *hand) getSigMask(tid int, mask *uint64) unix.Errno {
	errno := h.requestAt("getsigmask", ptraceGetSigMask, tid, 8, unsafe.Pointer(mask))
	runtime.KeepAlive(mask)
	return errno
}

func (h *hand) setSigMask(tid int, mask uint64) unix.Errno {
	errno := h.requestAt("setsigmask", ptraceSetSigMask, tid, 8, unsafe.Pointer(&mask))
	runtime.KeepAlive(&mask)
	return errno
}

func (h *hand) eventMessage(tid int) (int, unix.Errno) {
	var msg uint64
	errno := h.requestAt("geteventmsg", unix.PTRACE_GETEVENTMSG, tid, 0, unsafe.Pointer(&msg))
	runtime.KeepAlive(&msg)
	return int(msg), errno
}

// waitInfo is the part of siginfo_t that waitid(2) fills, and its padding.
type waitInfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
	_                     [100]byte
}

// poll asks once, without waiting, whether tracee tid (−1: any of this
// thread's) stands still or has ended. It returns 0 if not.
//
// A stop is left as it is (WNOWAIT) and told again until the tracee is resumed.
// Were it consumed, the kernel would forget the signal of a signal-delivery-stop
// unless we pass it on, and our death would lose it. __WNOTHREAD leaves the
// children of other threads, os/exec's for instance, to those who wait for them.
func (h *hand) poll(tid int) (int, unix.WaitStatus, unix.Errno) {
	idType := uintptr(unix.P_PID)
	if tid == -1 {
		idType = unix.P_ALL
	}
	const options = unix.WEXITED | unix.WSTOPPED | unix.WNOWAIT | unix.WNOHANG | unix.WALL | unix.WNOTHREAD
	var info waitInfo
	_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, idType, uintptr(tid), uintptr(unsafe.Pointer(&info)), options, 0, 0)
	if errno != 0 || info.pid == 0 {
		return 0, 0, errno
	}
	const cldStopped, cldTrapped = 5, 4
	if info.code == cldTrapped || info.code == cldStopped {
		return int(info.pid), unix.WaitStatus(uint32(info.status)<<8 | 0x7f), 0
	}
	return h.reap(int(info.pid))
}

// hasChildren tells whether the calling thread has any child or tracee.
func hasChildren() bool {
	const options = unix.WEXITED | unix.WSTOPPED | unix.WNOWAIT | unix.WNOHANG | unix.WALL | unix.WNOTHREAD
	_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, unix.P_ALL, 0, 0, options, 0, 0)
	return errno != unix.ECHILD
}

// reap takes the status of a tracee that has ended, which frees its id.
func (h *hand) reap(tid int) (int, unix.WaitStatus, unix.Errno) {
	var status uint32
	r, _, errno := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(tid), uintptr(unsafe.Pointer(&status)),
		unix.WALL|unix.WNOHANG|unix.WNOTHREAD, 0, 0, 0)
	return int(r), unix.WaitStatus(status), errno
}

// stop is why a tracee is stopped (ptrace(2), "Stopped states").
type stop uint8

const (
	stopNone    stop = iota
	stopEvent        // PTRACE_EVENT_STOP: our interrupt, a group stop, or the first stop of a newborn
	stopSignal       // signal-delivery-stop: the signal is lost unless it is passed on
	stopSyscall      // entry or exit of a system call (PTRACE_O_TRACESYSGOOD)
	stopBirth        // PTRACE_EVENT_CLONE, FORK or VFORK in the parent
	stopExec         // PTRACE_EVENT_EXEC
	stopOther        // another event
)

// whyStopped sorts a wait status of a stopped tracee and returns the signal
// of a signal-delivery-stop.
func whyStopped(ws unix.WaitStatus) (stop, unix.Signal) {
	sig := ws.StopSignal()
	switch event := uint32(ws) >> 16; event {
	case 0:
		if sig == unix.SIGTRAP|0x80 {
			return stopSyscall, 0
		}
		return stopSignal, sig
	case ptraceEventStop:
		return stopEvent, 0
	case unix.PTRACE_EVENT_CLONE, unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK:
		return stopBirth, 0
	case unix.PTRACE_EVENT_EXEC:
		return stopExec, 0
	}
	return stopOther, 0
}

// rest leaves the CPU to the tracees before the next poll, without the Go
// scheduler: not at all at first, for a tracee on another CPU gets to its stop within
// microseconds, and a sleep takes some sixty of them on a virtual machine, where a
// processor that idles has left it. (To yield would be worse: who has yielded often waits
// behind everybody on a busy machine, tracees standing still.) Then it sleeps, for as long
// as the outstanding ones need, and for ever longer as time goes by. Asking too often
// would keep them from stopping: tracer and tracee may share one CPU, or one scheduling
// group's part of a busy machine.
func (h *hand) rest(outstanding int, waited time.Duration) {
	h.restAtMost(longestRest, outstanding, waited)
}

// longestRest bounds a rest.
const longestRest = 5 * time.Millisecond

// restAtMost is rest before something that is to be done at its time.
func (h *hand) restAtMost(longest time.Duration, outstanding int, waited time.Duration) {
	const spinning, perTask = 60 * time.Microsecond, 1500 * time.Nanosecond
	if waited < spinning {
		return
	}
	h.sleep(max(0, min(time.Duration(outstanding)*perTask+waited/8, longest)))
}

// sleep is nanosleep(2), for less than a second.
func (h *hand) sleep(d time.Duration) {
	ts := unix.Timespec{Nsec: int64(d)}
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
	runtime.KeepAlive(&ts)
}
