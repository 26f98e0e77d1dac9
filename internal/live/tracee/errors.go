package tracee

import (
	"errors"
	"fmt"
)

// Sentinels a caller decides on with errors.Is.
var (
	// ErrGone: the process has ended, or its pid now names another one, or it
	// has replaced its program by exec.
	ErrGone = errors.New("process is gone")
	// ErrSelf: the process is the one that asks.
	ErrSelf = errors.New("process is this program itself")
	// ErrNotAMD64: the process is not a 64-bit x86-64 one.
	ErrNotAMD64 = errors.New("process is not a 64-bit x86-64 process")
	// ErrKernelThread: the process has no user memory.
	ErrKernelThread = errors.New("process is a kernel thread")
	// ErrZombie: the process, or its main thread, has ended and waits to be reaped.
	ErrZombie = errors.New("process has ended and waits for its parent")
	// ErrPermission matches every *PermissionError.
	ErrPermission = errors.New("permission denied")
	// ErrTraced matches every *TracedError.
	ErrTraced = errors.New("process is already traced")
	// ErrFrozen: the process's cgroup is frozen, so that nothing in it can stop or answer.
	ErrFrozen = errors.New("process is frozen by its cgroup")
	// ErrBusy: a thread did not stop in time (uninterruptible sleep) and could run into the bytes to be written.
	ErrBusy = errors.New("thread does not stop")
	// ErrNoRemoteSyscall: no system call can be run in the process without a risk for it
	// (seccomp, shadow stack, no gadget, no room for a frame). Nothing was changed.
	ErrNoRemoteSyscall = errors.New("no system call can safely be run in the process")
	// ErrPageBoundary: a write would span two pages.
	ErrPageBoundary = errors.New("write spans a page boundary")
	// ErrMismatch: the bytes to be overwritten are not the expected ones.
	ErrMismatch = errors.New("bytes in memory are not the expected ones")
	// ErrDeadline: a file of the target's did not open or answer in time (hostile or hung file system).
	ErrDeadline = errors.New("file does not answer")
	// ErrNoMapping: the mapping is gone or has no file.
	ErrNoMapping = errors.New("no such file mapping")
	// ErrClosed: the tracer was closed.
	ErrClosed = errors.New("tracer is closed")
)

// PermissionError says which capability or policy forbids touching a process.
type PermissionError struct {
	PID    int
	Op     string // what was being done
	Policy Policy
	Detail string // what to do about it, one sentence
	Err    error  // the errno
}

// Policy names what stands between us and the process.
type Policy uint8

const (
	PolicyUnknown     Policy = iota
	PolicyCapability         // another user's process: CAP_SYS_PTRACE is missing
	PolicyYama               // kernel.yama.ptrace_scope
	PolicyNonDumpable        // prctl(PR_SET_DUMPABLE, 0) or a set-id program
	PolicyUserNS             // the process lives in another user namespace
	PolicyLSM                // SELinux, AppArmor or another security module
)

// String returns the policy's name as operators know it.
func (p Policy) String() string {
	names := [...]string{"unknown policy", "CAP_SYS_PTRACE", "Yama ptrace_scope", "non-dumpable process", "user namespace", "security module"}
	if int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("policy %d", uint8(p))
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("pid %d: %s is not permitted (%s): %s", e.PID, e.Op, e.Policy, e.Detail)
}

// Is makes every PermissionError match ErrPermission.
func (e *PermissionError) Is(target error) bool { return target == ErrPermission }

func (e *PermissionError) Unwrap() error { return e.Err }

// TracedError says who traces the process already.
type TracedError struct {
	PID  int
	By   int    // the tracer's pid; 0 when it lives in a pid namespace we cannot see
	Name string // its command name, escaped by the printer
}

func (e *TracedError) Error() string {
	return fmt.Sprintf("pid %d: already traced by pid %d (%q)", e.PID, e.By, e.Name)
}

// Is makes every TracedError match ErrTraced.
func (e *TracedError) Is(target error) bool { return target == ErrTraced }
