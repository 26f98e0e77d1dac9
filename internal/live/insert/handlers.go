package insert

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
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

// ReplacedHandlerError says that the program has put a handler of its own in the place of
// PIE's, which an earlier insertion installed: a fault of a guard in table mode would be its.
// PIE's is not put in front of it again: it may hand on to PIE's, as handlers do to the one
// that they found, and the two would call each other for ever.
type ReplacedHandlerError struct {
	Pid    int
	Signal unix.Signal
}

func (e *ReplacedHandlerError) Error() string {
	return fmt.Sprintf("pid %d: the program has replaced PIE's handler for %v by one of its own", e.Pid, e.Signal)
}

// lastWords are the signals of a crash.
const lastWords = 1<<(unix.SIGSEGV-1) | 1<<(unix.SIGBUS-1) | 1<<(unix.SIGILL-1) | 1<<(unix.SIGFPE-1) |
	1<<(unix.SIGTRAP-1) | 1<<(unix.SIGABRT-1) | 1<<(unix.SIGSYS-1)

// libcSignals are those that a C library keeps to itself, 32 to 34: its handlers, which
// run on alternate stacks, call nothing of the program's.
const libcSignals = 7 << (32 - 1)

// askSteps ask for each handler of the program where it runs, and whether PIE's, if it was
// installed before, still stands.
func (in *insertion) askSteps() ([]step, error) {
	if in.faults == nil || !in.o.TableIfSafe {
		return nil, nil
	}
	st, err := in.p.Status()
	if err != nil {
		return nil, err
	}
	var out []step
	if in.faults.live {
		for _, signal := range faultSignals {
			out = append(out, step{arena: in.faults.in, ask: signal})
		}
	}
	for caught := st.SigCgt &^ (lastWords | libcSignals); caught != 0; caught &= caught - 1 {
		out = append(out, step{arena: in.faults.in, ask: unix.Signal(bits.TrailingZeros64(caught) + 1)})
	}
	return out, nil
}

// askHandler asks about the handler of one signal.
func (in *insertion) askHandler(at *tracee.Attached, s *step) error {
	a := in.arenas[s.arena]
	action, err := disposedOf(at, s.ask, a.Scratch())
	if err != nil {
		return err
	}
	const ignore = 1 // SIG_IGN; 0 is SIG_DFL
	switch handler := action.handler(); {
	case slices.Contains(faultSignals, s.ask):
		if handler != a.SlotAddr(a.Handler.Slot).Add(jit.HandlerEntry) {
			return &ReplacedHandlerError{in.p.Pid(), s.ask}
		}
	case handler > ignore && action.flags()&saOnStack != 0:
		return &AltStackError{in.p.Pid(), s.ask}
	}
	return nil
}

// faultSignals are those that PIE's handler is for.
var faultSignals = []unix.Signal{unix.SIGSEGV, unix.SIGBUS}

// HandlersStand asks, in a stop of one thread, whether PIE's handlers are those that the
// process has now: *ReplacedHandlerError if not. It is nil where none was installed.
func HandlersStand(ctx context.Context, t *tracee.Tracer, p *tracee.Process) error {
	arenas, err := observe.Arenas(p)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(arenas, (*arena.Arena).HasHandler)
	if i < 0 {
		return nil
	}
	a := arenas[i]
	entry := a.SlotAddr(a.Handler.Slot).Add(jit.HandlerEntry)
	return t.Attach(ctx, p, func(at *tracee.Attached) error {
		for _, signal := range faultSignals {
			action, err := disposedOf(at, signal, a.Scratch())
			if err != nil {
				return err
			}
			if action.handler() != entry {
				return &ReplacedHandlerError{p.Pid(), signal}
			}
		}
		return nil
	})
}

// sigaction is a struct kernel_sigaction: handler, flags, restorer, mask.
type sigaction [sigactionSize]byte

func (s sigaction) handler() address.Addr {
	return address.Addr(binary.LittleEndian.Uint64(s[:]))
}

func (s sigaction) flags() uint64 { return binary.LittleEndian.Uint64(s[8:]) }

// disposedOf is what the process does with a signal.
func disposedOf(at *tracee.Attached, signal unix.Signal, scratch address.Addr) (s sigaction, err error) {
	if _, err := at.Syscall(unix.SYS_RT_SIGACTION, uint64(signal), 0, uint64(scratch), sigsetSize); err != nil {
		return s, err
	}
	return s, at.Read(s[:], scratch)
}
