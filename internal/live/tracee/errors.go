package tracee

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// Sentinels a caller decides on with errors.Is. None of them leaves a change
// behind in the target.
var (
	// ErrGone: the process has ended, or has replaced its program by exec.
	ErrGone = proc.ErrGone
	// ErrSelf: the process is the one that asks.
	ErrSelf = errors.New("the process is this program itself")
	// ErrNotAMD64: the process is not a 64-bit x86-64 one.
	ErrNotAMD64 = errors.New("not a 64-bit x86-64 process")
	// ErrKernelThread: the process has no user memory.
	ErrKernelThread = errors.New("a kernel thread has no code to guard")
	// ErrZombie: the process, or its main thread, has ended and waits to be reaped.
	ErrZombie = errors.New("the process has ended and waits for its parent")
	// ErrPermission matches every *PermissionError.
	ErrPermission = errors.New("permission denied")
	// ErrTraced matches every *TracedError.
	ErrTraced = errors.New("the process is already traced")
	// ErrFrozen: the cgroup is frozen, so that nothing in it can stop or answer.
	ErrFrozen = errors.New("the process is frozen by its cgroup")
	// ErrBusy: a thread did not stop in time and could run into the bytes to be
	// written, or the only threads there are cannot be used. Trying again helps.
	ErrBusy = errors.New("a thread does not stop")
	// ErrNoRemoteSyscall: no system call can be run in the process without a
	// risk for it: seccomp, shadow stack, no gadget, no room for a frame.
	ErrNoRemoteSyscall = errors.New("no system call can be run in the process without a risk for it")
	// ErrSeccomp is ErrNoRemoteSyscall because of a filter, which would end the process
	// if its tracer died in the middle.
	ErrSeccomp = fmt.Errorf("its seccomp filter would end it for that: %w", ErrNoRemoteSyscall)
	// ErrPageBoundary: a write would span two pages.
	ErrPageBoundary = errors.New("the write spans a page boundary")
	// ErrMismatch: the bytes to be overwritten are not the expected ones.
	ErrMismatch = errors.New("the bytes in memory are not the expected ones")
	// ErrClosed: the Tracer was closed.
	ErrClosed = errors.New("tracer is closed")
)

// Policy names what stands between us and a process.
type Policy uint8

// The policies, in the order in which they are looked for.
const (
	PolicyUnknown     Policy = iota
	PolicyCapability         // another user's process, and no CAP_SYS_PTRACE
	PolicyUserNS             // the process lives in another user namespace
	PolicyNonDumpable        // prctl(PR_SET_DUMPABLE, 0), or a set-id program
	PolicyYama               // kernel.yama.ptrace_scope
	PolicyLSM                // SELinux, AppArmor or another security module
)

// String returns the policy's name as operators know it.
func (p Policy) String() string {
	switch p {
	case PolicyCapability:
		return "CAP_SYS_PTRACE"
	case PolicyUserNS:
		return "user namespace"
	case PolicyNonDumpable:
		return "non-dumpable process"
	case PolicyYama:
		return "Yama ptrace_scope"
	case PolicyLSM:
		return "security module"
	}
	return "unknown policy"
}

// PermissionError says which capability or policy forbids touching a process.
type PermissionError struct {
	PID    int
	Op     string // what was being done: "seizing thread 12"
	Policy Policy
	Advice string // what to do about it, one sentence
	Err    error  // the errno
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("pid %d: %s is not permitted (%s): %s", e.PID, e.Op, e.Policy, e.Advice)
}

// Is makes every PermissionError match ErrPermission.
func (e *PermissionError) Is(target error) bool { return target == ErrPermission }

func (e *PermissionError) Unwrap() error { return e.Err }

// TracedError says who traces the process already.
type TracedError struct {
	PID  int
	By   int    // the tracer's pid; 0 when our pid namespace does not show it
	Name string // its command name as it chose it; quoted when printed
}

func (e *TracedError) Error() string {
	if e.By == 0 {
		return fmt.Sprintf("pid %d: already traced by a process outside our pid namespace", e.PID)
	}
	return fmt.Sprintf("pid %d: already traced by pid %d (%q)", e.PID, e.By, e.Name)
}

// Is makes every TracedError match ErrTraced.
func (e *TracedError) Is(target error) bool { return target == ErrTraced }
