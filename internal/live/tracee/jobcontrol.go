package tracee

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's struct for rt_sigaction(2) on x86-64.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	sigIgnore   = 1 // SIG_IGN
	noChildStop = 1 // SA_NOCLDSTOP
)

// holdJobControl makes the process deaf to the keyboard's stop signals, which
// would freeze the tracees with it, and spares it one SIGCHLD for every thread
// that stops. The returned function puts everything back. Dispositions belong
// to the whole process, so a mask of this thread's would not do.
func holdJobControl() (restore func()) {
	var old [4]sigaction
	for i, sig := range [...]unix.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		setAction(sig, &sigaction{handler: sigIgnore}, &old[i])
	}
	setAction(unix.SIGCHLD, nil, &old[3])
	quiet := old[3]
	quiet.flags |= noChildStop
	setAction(unix.SIGCHLD, &quiet, nil)
	return func() {
		for i, sig := range [...]unix.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCHLD} {
			setAction(sig, &old[i], nil)
		}
	}
}

func setAction(sig unix.Signal, set, old *sigaction) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	runtime.KeepAlive(set)
	runtime.KeepAlive(old)
}
