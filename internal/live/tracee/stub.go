package tracee

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
)

var errStub = errors.New("not built yet")

// Inode identifies a file whatever its name: st_dev and st_ino.
type Inode struct{ Dev, Ino uint64 }

// Process is a pinned identity. Its methods read; none stops a thread.
type Process struct{}

// Open pins process pid: ErrGone, ErrSelf, ErrNotAMD64, ErrKernelThread, ErrZombie, *PermissionError.
func Open(pid int) (*Process, error) { return nil, errStub }

// Close releases the descriptors.
func (p *Process) Close() error { return nil }

// PID returns the process's pid in our pid namespace.
func (p *Process) PID() int { return 0 }

// StartTime returns field 22 of /proc/PID/stat, in clock ticks since boot.
func (p *Process) StartTime() uint64 { return 0 }

// Exe returns the inode of the executable.
func (p *Process) Exe() Inode { return Inode{} }

// Name returns the command name (comm), at most 15 bytes, unescaped.
func (p *Process) Name() string { return "" }

// Check verifies that the process is still the one Open pinned; ErrGone if not.
func (p *Process) Check() error { return errStub }

// ReadAt reads len(b) bytes at addr; a short count comes with an error.
func (p *Process) ReadAt(b []byte, addr address.Addr) (int, error) { return 0, errStub }

// Maps parses /proc/PID/maps.
func (p *Process) Maps() ([]Mapping, error) { return nil, errStub }

// Mapping is one line of /proc/PID/maps.
type Mapping struct {
	Start, End                address.Addr
	Read, Write, Exec, Shared bool
	Off                       address.Off
	File                      Inode  // zero when anonymous
	Path                      string // as the kernel wrote it, unescaped, without " (deleted)"
	Deleted                   bool
}

// OpenExe opens the executable, checked by inode.
func (p *Process) OpenExe() (*os.File, error) { return nil, errStub }

// OpenMapped opens the file behind m, checked by inode.
func (p *Process) OpenMapped(m Mapping) (*os.File, error) { return nil, errStub }

// Tasks returns the thread ids.
func (p *Process) Tasks() ([]int, error) { return nil, errStub }

// Task reads the status of one thread.
func (p *Process) Task(tid int) (TaskStatus, error) { return TaskStatus{}, errStub }

// TaskStatus is what /proc/PID/task/TID/status says of one thread.
type TaskStatus struct {
	Tid, Tgid, PPid, TracerPid             int
	Name                                   string
	State                                  byte // R S D T t Z X I
	Threads                                int
	Uid, Gid                               [4]uint32
	NSpid                                  []int // pid in each nested namespace, outermost first
	SigPnd, ShdPnd, SigBlk, SigIgn, SigCgt uint64
	CapEff                                 uint64
	Seccomp, SeccompFilters                int
	NoNewPrivs                             bool
	VmSizeKB, VmLckKB, VmRSSKB             uint64
	ShadowStack                            bool
}

// Children returns the pids of the child processes.
func (p *Process) Children() ([]int, error) { return nil, errStub }

// SharingMM returns the other processes that share the address space (vfork, CLONE_VM).
func (p *Process) SharingMM() ([]int, error) { return nil, errStub }

// Headroom says how much memory the process may still be charged with.
type Headroom struct {
	Cgroup       uint64 // bytes left below the tightest cgroup limit; NoLimit if none
	AddressSpace uint64 // bytes left below RLIMIT_AS; NoLimit if none
	LocksFuture  bool   // signs of mlockall(MCL_FUTURE): new mappings are populated at once
	Frozen       bool   // the cgroup is frozen
}

// NoLimit is a headroom without a limit.
const NoLimit = ^uint64(0)

// Headroom reads cgroup v1 and v2, RLIMIT_AS and the locked state.
func (p *Process) Headroom() (Headroom, error) { return Headroom{}, errStub }

// Step is one ptrace request or remote write that has just been made.
type Step struct {
	Name string
	N    int // counts from 1 within a Tracer
}

// Options of a Tracer.
type Options struct {
	// OnStep, when set, is called on the tracer's thread after every ptrace request and every remote write. For tests.
	OnStep func(Step)
}

// Tracer owns the OS thread that issues ptrace requests, and the watchdog. Safe for concurrent use; one operation runs at a time.
type Tracer struct{}

// NewTracer starts the thread and the watchdog process.
func NewTracer(o Options) (*Tracer, error) { return nil, errStub }

// Close ends the thread and the watchdog.
func (t *Tracer) Close() error { return nil }

// Write writes b at addr in one go without stopping anyone: for one aligned
// word of PIE's own data (a mode), never for code. ErrPageBoundary.
func (t *Tracer) Write(p *Process, addr address.Addr, b []byte) error { return errStub }

// Attach stops one thread of p, runs do on the tracer's thread and lets the thread go on as it was. The error of do is returned.
func (t *Tracer) Attach(ctx context.Context, p *Process, do func(*Attached) error) error {
	return errStub
}

// Attached is one stopped thread, valid only inside Attach's function.
type Attached struct{}

// Syscall runs system call nr in the target. A remote errno comes back as a unix.Errno wrapped in the error; ErrNoRemoteSyscall when it would be a risk.
func (a *Attached) Syscall(nr uint64, args ...uint64) (uint64, error) { return 0, errStub }

// Read reads len(b) bytes of the target at addr.
func (a *Attached) Read(b []byte, addr address.Addr) error { return errStub }

// Write writes b at addr page by page, through read-only protection too (private copies). Of memory nobody uses yet.
func (a *Attached) Write(addr address.Addr, b []byte) error { return errStub }

// Range is the half-open interval [Start, End).
type Range struct{ Start, End address.Addr }

// StopWorld stops every task that shares p's memory, runs do on the tracer's
// thread, and resumes all. avoid are the bytes do will write: a thread in uninterruptible sleep counts as
// stopped when its pc is outside them. do must neither allocate nor do I/O: everything is prepared before.
func (t *Tracer) StopWorld(ctx context.Context, p *Process, avoid []Range, do func(*World) error) (Stop, error) {
	return Stop{}, errStub
}

// Stop reports on a StopWorld that has ended.
type Stop struct {
	Threads int
	Pause   time.Duration // the longest time one thread was off, from its interrupt to its resume
	Forked  []int         // children born by fork meanwhile, running again; they have a copy of the memory as it was at their birth
}

// World is a stopped process, valid only inside StopWorld's function.
type World struct{}

// Thread is one stopped thread.
type Thread struct {
	Tid    int
	PC, SP address.Addr
}

// Threads returns all threads; the slice is the World's own.
func (w *World) Threads() []Thread { return nil }

// SetPC moves the program counter of thread tid.
func (w *World) SetPC(tid int, pc address.Addr) error { return errStub }

// Read reads len(b) bytes at addr.
func (w *World) Read(b []byte, addr address.Addr) error { return errStub }

// Write replaces the bytes at addr by b in one write. ErrPageBoundary if they
// span two pages; ErrMismatch if expect is not nil and is not what is there now.
func (w *World) Write(addr address.Addr, b, expect []byte) error { return errStub }
