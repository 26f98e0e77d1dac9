package insert

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// A fault in table mode is a signal, whose frame goes below the stack pointer. On an
// alternate stack (sigaltstack(2)) of little more than one frame there is no room for
// a second one, and the kernel ends the process. How large such stacks are is told by
// nothing outside the process; which handlers run on one, rt_sigaction(2) tells.
//
// The signals of a crash are left out: their handlers have the alternate stack for
// the program's last words, and call nothing that is guarded.

// AltStackError says that a handler of the program runs on an alternate stack, and so
// perhaps the guarded function, called by it. Nothing was changed.
type AltStackError struct {
	Pid    int
	Signal unix.Signal
}

func (e *AltStackError) Error() string {
	return fmt.Sprintf("pid %d: its handler for %v runs on an alternate stack, which may be too small for a guard's fault", e.Pid, e.Signal)
}

// lastWords are the signals of a crash.
const lastWords = 1<<(unix.SIGSEGV-1) | 1<<(unix.SIGBUS-1) | 1<<(unix.SIGILL-1) | 1<<(unix.SIGFPE-1) |
	1<<(unix.SIGTRAP-1) | 1<<(unix.SIGABRT-1) | 1<<(unix.SIGSYS-1)

// libcSignals are those that a C library keeps to itself, 32 to 34: its handlers, which
// run on alternate stacks, call nothing of the program's.
const libcSignals = 7 << (32 - 1)

// altStackSteps ask for each handler of the program where it runs.
func (in *insertion) altStackSteps() ([]step, error) {
	if in.faults == nil || !in.o.RefuseAltStacks {
		return nil, nil
	}
	st, err := in.p.Status()
	if err != nil {
		return nil, err
	}
	var out []step
	for caught := st.SigCgt &^ (lastWords | libcSignals); caught != 0; caught &= caught - 1 {
		out = append(out, step{arena: in.faults.in, ask: unix.Signal(bits.TrailingZeros64(caught) + 1)})
	}
	return out, nil
}

// askAltStack asks about the handler of one signal.
func (in *insertion) askAltStack(at *tracee.Attached, s *step) error {
	scratch := in.arenas[s.arena].Scratch()
	var action [sigactionSize]byte
	if _, err := at.Syscall(unix.SYS_RT_SIGACTION, uint64(s.ask), 0, uint64(scratch), sigsetSize); err != nil {
		return err
	}
	if err := at.Read(action[:], scratch); err != nil {
		return err
	}
	const ignore = 1 // SIG_IGN; 0 is SIG_DFL
	le := binary.LittleEndian
	if le.Uint64(action[:]) > ignore && le.Uint64(action[8:])&saOnStack != 0 {
		return &AltStackError{in.p.Pid(), s.ask}
	}
	return nil
}
