package background

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

// keyboardStops are what Ctrl-Z and a terminal send.
var keyboardStops = [...]unix.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}

// holdJobControl makes the process deaf to the keyboard's stop signals, which
// would freeze the tracees with it, and spares it one SIGCHLD for every thread
// that stops. The returned function puts everything back. Dispositions belong
// to the whole process, so a mask of this thread's would not do.
//
// The signals get the Go runtime's own handler, SIGCHLD's, which lets pass what
// nobody has asked to be notified of: an ignored signal would stay ignored in a
// program that another goroutine starts meanwhile.
func holdJobControl() (restore func()) {
	var stops [len(keyboardStops)]sigaction
	var child sigaction
	setAction(unix.SIGCHLD, nil, &child)
	deaf := child
	if deaf.handler <= sigIgnore { // the runtime does not handle signals here
		deaf.handler = sigIgnore
	}
	for i, sig := range keyboardStops {
		setAction(sig, &deaf, &stops[i])
	}
	quiet := child
	quiet.flags |= noChildStop
	setAction(unix.SIGCHLD, &quiet, nil)
	return func() {
		setAction(unix.SIGCHLD, &child, nil)
		for i, sig := range keyboardStops {
			setAction(sig, &stops[i], nil)
		}
	}
}

func setAction(sig unix.Signal, set, old *sigaction) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	runtime.KeepAlive(set)
	runtime.KeepAlive(old)
}
