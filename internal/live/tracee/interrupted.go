package tracee

import "golang.org/x/sys/unix"

// What a stop does to a system call that sleeps (signal(7), "Interruption of
// system calls and library functions by stop signals"): the kernel ends it
// with one of four numbers of its own, which no program ever sees, and decides
// on the way back to user mode whether the call is made again. For a few calls
// it returns a plain EINTR instead, and the program would see it.
const (
	restartSys      = -512 // ERESTARTSYS: again, unless a handler without SA_RESTART runs
	restartNoIntr   = -513 // ERESTARTNOINTR: again
	restartNoHand   = -514 // ERESTARTNOHAND: again, unless a handler runs
	restartBlock    = -516 // ERESTART_RESTARTBLOCK: continued by restart_syscall(2)
	syscallInsnSize = 2    // 0f 05
)

// endsWithEINTR lists the calls that return a plain EINTR when their thread is
// stopped although no handler runs, so that nothing has been done by them.
func endsWithEINTR(nr uint64) bool {
	switch nr {
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2,
		unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP,
		unix.SYS_RT_SIGTIMEDWAIT,
		unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS, unix.SYS_IO_URING_ENTER:
		return true
	}
	return onSocketsOnly(nr)
}

// onSocketsOnly lists those of them that do so with SO_RCVTIMEO or SO_SNDTIMEO
// only; read also from inotify.
func onSocketsOnly(nr uint64) bool {
	switch nr {
	case unix.SYS_READ, unix.SYS_READV, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG,
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT,
		unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG:
		return true
	}
	return false
}

// inSyscall tells whether the registers are those of a system call on its way
// out, and not of code that an interrupt or an exception took off the CPU.
func inSyscall(r *unix.PtraceRegs) bool { return int64(r.Orig_rax) >= 0 }

// sawEINTR tells whether the program would see an EINTR that only the stop
// has caused.
func sawEINTR(r *unix.PtraceRegs) bool {
	return inSyscall(r) && int64(r.Rax) == -int64(unix.EINTR) && endsWithEINTR(r.Orig_rax)
}

// hideEINTR asks for a restart in the kernel's own language: with
// ERESTARTNOHAND in rax and orig_rax untouched, the way back to user mode makes
// the call again, unless it runs a signal handler, after which the program gets
// its EINTR. No check for pending signals of ours could be as exact.
func hideEINTR(r *unix.PtraceRegs) { r.Rax = noHandler }

const noHandler = uint64(1<<64 + restartNoHand)

// rewound returns the registers with which user mode makes the interrupted
// call again from its beginning, for a return that runs no restart logic:
// rt_sigreturn(2). Relative timeouts start anew.
func rewound(r unix.PtraceRegs) unix.PtraceRegs {
	if !inSyscall(&r) {
		return r
	}
	switch int64(r.Rax) {
	case restartSys, restartNoIntr, restartNoHand, restartBlock:
		r.Rax = r.Orig_rax
		r.Rip -= syscallInsnSize
	}
	r.Orig_rax = ^uint64(0)
	return r
}
