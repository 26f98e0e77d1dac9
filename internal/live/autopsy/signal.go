package autopsy

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Signal is what came to a thread, as the kernel's siginfo says it. Number is 0 where
// it is not known.
type Signal struct {
	Number, Code int32
	Sender       int32 // pid of who sent it, as the process sees it; 0 for none
}

// parseSiginfo reads a struct siginfo; not ok when it is none.
func parseSiginfo(b []byte) (Signal, bool) {
	const (
		lastSignal = 64
		sender     = 16
		user       = 0  // SI_USER
		thread     = -6 // SI_TKILL
		minCode    = -60
		maxCode    = 0x80 // SI_KERNEL
	)
	if len(b) < sender+4 {
		return Signal{}, false
	}
	s := Signal{Number: int32(order.Uint32(b)), Code: int32(order.Uint32(b[8:]))}
	if s.Number < 1 || s.Number > lastSignal || s.Code < minCode || s.Code > maxCode {
		return Signal{}, false
	}
	if s.Code == user || s.Code == thread {
		s.Sender = int32(order.Uint32(b[sender:]))
	}
	return s, true
}

// ofCode tells whether the signal is one that an instruction raises.
func (s Signal) ofCode() bool {
	switch unix.Signal(s.Number) {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGTRAP, unix.SIGFPE, unix.SIGSYS:
		return true
	}
	return false
}

// sent tells whether the signal has nothing to do with the instruction at which it came:
// somebody sent it, or the kernel did, as for a limit of processor time. A process that
// sends itself such a signal is a handler that has it happen again.
func (s Signal) sent(pid int) bool {
	return s.Number != 0 && !(s.ofCode() && (s.Code > 0 || int(s.Sender) == pid))
}

// ofMemory tells whether the signal says that memory could not be reached.
func (s Signal) ofMemory() bool {
	return unix.Signal(s.Number) == unix.SIGSEGV || unix.Signal(s.Number) == unix.SIGBUS
}

func (s Signal) String() string {
	name := unix.SignalName(unix.Signal(s.Number))
	if name == "" {
		name = fmt.Sprintf("signal %d", s.Number)
	}
	if s.Sender != 0 {
		return fmt.Sprintf("%s from process %d", name, s.Sender)
	}
	return name
}
