package tracee

import (
	"bytes"
	"context"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// remote is what system calls in a stopped thread need.
//
// The order of requests is the mechanism; a tracer may die after each:
//
//	write the frame          nothing has changed but unused bytes of a stack
//	SETREGS to the gadget    from here the frame heals: call, ret, rt_sigreturn
//	block all signals        no handler runs on the frame's stack
//	PTRACE_SYSCALL twice     the result is in rax
//	  … SETREGS, PTRACE_SYSCALL twice for each further call
//	INTERRUPT, CONT          to an event stop, before one more instruction runs
//	unblock, SETREGS         the original registers, orig_rax included: the kernel
//	                         restarts what the first interrupt had interrupted
//	zero the frame, DETACH
type remote struct {
	refusal     error // why no call can be made; nil if it can
	gadgets     gadgets
	stack       stack // main's
	seccompMode int   // of the stopped thread
	suspended   bool  // PTRACE_O_SUSPEND_SECCOMP is set

	lone  bool // the process has one thread, and its memory for itself
	alone bool // the frame is one that the thread has gone through alone
	dead  bool // the frame lies below main's stack pointer, on bytes that it has used

	framed  bool            // the frame is written for the thread as it stands
	entered bool            // the thread is on the frame
	regs    unix.PtraceRegs // as the thread stood; orig_rax included
	now     unix.PtraceRegs
	mask    uint64
	at      address.Addr // of the frame
	size    int
	xstate  []byte
	frame   []byte
	look    []byte // for what is read of the stack
	zero    []byte
	filter  []unix.SockFilter // for the thread's seccomp filters, one after another
	// intent is what is written on the frame about a mapping: that of the next
	// call, or one that a dead tracer's frame in the same place still speaks of.
	intent [16]byte
}

// allSignals blocks everything that can be blocked.
const allSignals = ^uint64(0)

// prepare does what needs no stop.
func (r *remote) prepare(p *Process) error {
	st, err := p.Status()
	if err != nil {
		return err
	}
	if st.ShadowStack {
		return fmt.Errorf("pid %d: it runs with a shadow stack: %w", p.Pid(), ErrNoRemoteSyscall)
	}
	maps, err := p.Maps()
	if err != nil {
		return err
	}
	var ok bool
	if r.stack, ok = findStack(maps); !ok {
		return fmt.Errorf("pid %d: it has no [stack]: %w", p.Pid(), ErrNoRemoteSyscall)
	}
	r.gadgets, err = p.knownGadgets(maps)
	return err
}

// Syscall runs system call nr in the stopped thread. A lone thread that computes may run
// on after it, and be stopped again for the next one (alone.go). A remote errno comes back
// as a wrapped unix.Errno. ErrNoRemoteSyscall: nothing was done, because it
// would be a risk for the process. ErrGone: the process ended meanwhile.
func (a *Attached) Syscall(nr uint64, args ...uint64) (uint64, error) {
	r := &a.remote
	if r.refusal != nil {
		return 0, r.refusal
	}
	if err := a.standStill(); err != nil {
		return 0, err
	}
	if err := a.allowed(nr, args); err != nil {
		return 0, err
	}
	if result, made, err := a.alone(nr, args); made || err != nil {
		return result, err
	}
	if !r.entered && !r.framed {
		if err := a.enter(); err != nil {
			return 0, err
		}
	}
	a.changed = true
	if err := a.intend(nr, args); err != nil {
		return 0, err
	}
	if err := a.call(nr, args); err != nil {
		return 0, err
	}
	const maxErrno = 4095
	if ret := int64(r.now.Rax); ret < 0 && ret >= -maxErrno {
		return 0, fmt.Errorf("pid %d: system call %d in it: %w", a.p.Pid(), nr, unix.Errno(-ret))
	}
	return r.now.Rax, nil
}

// enter saves the thread's whole state and lays the frame that restores it.
func (a *Attached) enter() error {
	r := &a.remote
	const userCS64 = 0x33 // __USER_CS; a compat task has 0x23
	if r.regs.Cs != userCS64 {
		return fmt.Errorf("pid %d: thread %d runs 32-bit code: %w", a.p.Pid(), a.tid, ErrNoRemoteSyscall)
	}
	if a.dispatchesSyscalls() {
		return fmt.Errorf("pid %d: it catches system calls itself (syscall user dispatch): %w", a.p.Pid(), ErrNoRemoteSyscall)
	}
	if err := a.leaveRseq(); err != nil {
		return err
	}
	n, errno := a.h.getXState(a.tid, r.xstate)
	if errno == unix.ESRCH {
		return a.lost("reading its vector state", errno)
	}
	if errno != 0 || n >= len(r.xstate) {
		return fmt.Errorf("pid %d: vector state of %d bytes: %w (%v)", a.p.Pid(), n, ErrNoRemoteSyscall, errno)
	}
	if errno := a.h.getSigMask(a.tid, &r.mask); errno != 0 {
		return a.lost("reading its signal mask", errno)
	}
	xstate := usedXState(r.xstate[:n], tileDataOffset())
	r.size = frameSize(len(xstate))
	if err := a.placeFrame(); err != nil {
		return err
	}
	healed := rewound(r.regs)
	if err := buildFrame(r.frame[:r.size], r.at, a.tid, r.gadgets, &healed, r.mask, xstate); err != nil {
		return err
	}
	copy(r.frame[frameMapping:], r.intent[:])
	if err := a.memory.write(a.h, r.at, r.frame[:r.size]); err != nil {
		return a.unwritten(err)
	}
	r.framed = true
	return nil
}

// checkGadgets looks at the instructions again, now that the thread stands
// still: the program may have been replaced by exec since they were found.
func (a *Attached) checkGadgets() error {
	if a.remote.refusal != nil {
		return nil // none will be used
	}
	for _, g := range a.remote.gadgets.used() {
		var b [16]byte
		there := b[:len(g.code)]
		if err := a.memory.read(there, g.at); err != nil || !bytes.Equal(there, g.code) {
			a.p.forgetGadgets()
			return fmt.Errorf("pid %d: its code is not where it was: %w", a.p.Pid(), ErrBusy)
		}
	}
	return nil
}

// dispatchesSyscalls tells whether the thread has PR_SET_SYSCALL_USER_DISPATCH
// on, which turns calls from elsewhere into SIGSYS: deadly while it is blocked.
// Kernels before 6.4 do not tell; only Windows emulators use it.
func (a *Attached) dispatchesSyscalls() bool {
	var config struct{ mode, selector, offset, length uint64 }
	errno := a.h.requestAt("getdispatch", ptraceDispatch, a.tid, unsafe.Sizeof(config), unsafe.Pointer(&config))
	return errno == 0 && config.mode != 0
}

// call makes one system call and leaves the thread at its exit, with the
// registers in r.now.
func (a *Attached) call(nr uint64, args []uint64) error {
	if err := a.aim(nr, args); err != nil {
		return err
	}
	for range 2 { // the entry, then the exit
		if err := a.nextSyscallStop(); err != nil {
			return err
		}
	}
	if errno := a.h.getRegs(a.tid, &a.remote.now); errno != 0 {
		return a.lost("reading the result", errno)
	}
	return nil
}

// aim puts the thread in front of a system call, on the frame.
func (a *Attached) aim(nr uint64, args []uint64) error {
	r := &a.remote
	r.now = r.regs
	r.now.Rip, r.now.Rsp = uint64(r.gadgets.syscallRet), uint64(r.at)
	r.now.Rax, r.now.Orig_rax = nr, ^uint64(0)
	for i, reg := range [...]*uint64{&r.now.Rdi, &r.now.Rsi, &r.now.Rdx, &r.now.R10, &r.now.R8, &r.now.R9} {
		*reg = 0
		if i < len(args) {
			*reg = args[i]
		}
	}
	if errno := a.h.setRegs(a.tid, &r.now); errno != 0 {
		return a.lost("setting its registers", errno)
	}
	if !r.entered {
		r.entered = true
		if errno := a.h.setSigMask(a.tid, allSignals); errno != 0 {
			return a.lost("blocking its signals", errno)
		}
	}
	return nil
}

// nextSyscallStop runs the thread to the next entry or exit. A stop for
// another reason is left at once; only SIGSTOP, which cannot be blocked,
// arrives as a signal.
func (a *Attached) nextSyscallStop() error {
	var sig unix.Signal
	for {
		if errno := a.h.toSyscall(a.tid, sig); errno != 0 {
			return a.lost("resuming it", errno)
		}
		ws, err := a.await(context.Background())
		if err != nil {
			return err
		}
		why, s := whyStopped(ws)
		if why == stopSyscall {
			return nil
		}
		sig = s
	}
}

// leave puts the thread back as it stood, if a call was made.
func (a *Attached) leave() error {
	r := &a.remote
	if r.entered && !a.h.abandoned {
		r.entered = false
		if err := a.restore(); err != nil {
			return err
		}
	}
	at := r.at
	r.at, r.framed = 0, false // whoever is tried next looks for a place of its own
	if at == 0 || a.h.abandoned || !a.stillOurs(at) {
		return nil
	}
	return a.memory.write(a.h, at, r.zero[:r.size])
}

// restore goes from the exit of a system call, after which the kernel runs no
// restart logic, to an event stop, after which it does.
func (a *Attached) restore() error {
	r := &a.remote
	if errno := a.h.interrupt(a.tid); errno != 0 {
		return a.lost("interrupting it", errno)
	}
	if errno := a.h.cont(a.tid, 0); errno != 0 {
		return a.lost("resuming it", errno)
	}
	if err := a.awaitEvent(context.Background()); err != nil {
		return err
	}
	if errno := a.h.setSigMask(a.tid, r.mask); errno != 0 {
		return a.lost("restoring its signal mask", errno)
	}
	if errno := a.h.setRegs(a.tid, &r.regs); errno != 0 {
		return a.lost("restoring its registers", errno)
	}
	return nil
}

// lost explains a request that failed on a thread that should stand still: it
// was killed.
func (a *Attached) lost(doing string, errno unix.Errno) error {
	return a.p.threadLost(a.tid, doing, errno)
}
