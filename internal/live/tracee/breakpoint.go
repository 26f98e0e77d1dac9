package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// breakpoint stops a traced thread before it executes the instruction at an address,
// and leaves nothing behind when its tracer dies. Neither of the usual two would do:
// an int3 stays in the code, and a debug register that ptrace(2) has set stays set, and
// either ends a process that nobody traces any more.
//
// This one is a perf event (perf_event_open(2), PERF_TYPE_BREAKPOINT), a descriptor of
// ours. At each hit the kernel sends the signal that F_SETSIG names to the thread that
// F_SETOWN_EX names, the tracee itself, which has it before its next instruction. It is
// a signal that is ignored by default: a traced thread stops for it all the same, and
// one that has lost its tracer drops it.
//
// Preconditions: the signal is not blocked, and nothing handles it, as in a program
// that has just been executed.
type breakpoint struct{ fd int }

// breakpointLength is sizeof(long), which the kernel demands for execution.
const breakpointLength = 8

// breakAt sets a breakpoint for one thread. It is not to be had without debug
// registers, where all four are in use, or where perf events are forbidden; whether it
// is ever hit, TryBreakpoints tells.
func breakAt(tid int, a address.Addr, sig unix.Signal) (*breakpoint, error) {
	fd, err := openBreakpoint(tid, a)
	if err != nil {
		return nil, err
	}
	b := &breakpoint{fd}
	const ownerThread = 0 // F_OWNER_TID, fcntl(2)
	owner := struct{ kind, tid int32 }{ownerThread, int32(tid)}
	_, _, errno := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETOWN_EX, uintptr(unsafe.Pointer(&owner)))
	if errno == 0 {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(sig))
	} else {
		err = errno
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_ASYNC)
	}
	if err != nil {
		b.clear()
		return nil, fmt.Errorf("directing a perf event's signal: %w", err)
	}
	return b, nil
}

// openBreakpoint opens the perf event, which counts its hits.
func openBreakpoint(tid int, a address.Addr) (fd int, err error) {
	const execute = 4 // HW_BREAKPOINT_X, linux/hw_breakpoint.h
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_BREAKPOINT, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Bp_type: execute, Ext1: uint64(a), Ext2: breakpointLength,
		Sample: 1, Wakeup: 1, Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv,
	}
	fd, err = unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("perf_event_open: %w", err)
	}
	return fd, nil
}

// ErrNeverHit says that the kernel takes hardware breakpoints and that none is ever hit,
// as where a hypervisor keeps the debug registers to itself.
var ErrNeverHit = errors.New("hardware breakpoints are taken by the kernel and never hit")

// TryBreakpoints tells whether this machine's breakpoints are hit at all, by one for the
// calling thread. The error is ErrNeverHit, or says why none is to be had.
func TryBreakpoints() error {
	runtime.LockOSThread() // the event is for the thread that opens it
	defer runtime.UnlockOSThread()
	const self = 0
	fd, err := openBreakpoint(self, address.Addr(reflect.ValueOf(steppedOn).Pointer()))
	if err != nil {
		return fmt.Errorf("no hardware breakpoint is to be had: %w", err)
	}
	defer unix.Close(fd)
	steppedOn()
	var count [8]byte
	n, err := unix.Read(fd, count[:])
	if err != nil || n != len(count) || binary.LittleEndian.Uint64(count[:]) == 0 {
		return ErrNeverHit
	}
	return nil
}

// steppedOn is where TryBreakpoints sets its breakpoint.
//
//go:noinline
func steppedOn() {}

// clear takes the breakpoint out. A hit that was not told of yet may still come.
func (b *breakpoint) clear() { unix.Close(b.fd) }

// harmless returns a signal that is ignored by default and that the thread does not
// block; 0 when there is none.
func (h *hand) harmless(tid int) unix.Signal {
	var blocked uint64
	if h.getSigMask(tid, &blocked) != 0 {
		return 0
	}
	for _, s := range []unix.Signal{unix.SIGURG, unix.SIGWINCH} {
		if blocked&(1<<(s-1)) == 0 {
			return s
		}
	}
	return 0
}
