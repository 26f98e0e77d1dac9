package tracee

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// A dynamic linker shows that it is done in one of two ways.
//
// It calls an empty function for debuggers, _dl_debug_state (link.h, struct r_debug):
// in glibc before it maps libraries and again once all are relocated, in musl the
// second time only. A breakpoint there costs two or three stops.
//
// Where that cannot be had, the linker is followed from system call to system call,
// two stops each, some 500 for a large server, until it protects the program's
// relocated data (RELRO).

// Linker is where a dynamic linker has what debuggers use; zero when it is not known.
type Linker struct {
	Ready address.Addr // _dl_debug_state
	State address.Addr // r_state of _r_debug, a 32-bit word; zero: Ready is called once only
}

// consistent is RT_CONSISTENT of r_state: nothing is being mapped.
const consistent = 0

// loader is a program about to be linked: where it and its dynamic linker lie.
type loader struct {
	process         *Process
	program, linker []Range // linker is nil for a static program
	entry           address.Addr
	signs           Linker
}

// Entries of the auxiliary vector, getauxval(3).
const (
	auxBase  = 7 // AT_BASE: where the dynamic linker is, 0 without one
	auxEntry = 9 // AT_ENTRY: the program's entry
)

func findLoader(p *Process) (loader, error) {
	aux, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", p.Pid()))
	if err != nil {
		return loader{}, fmt.Errorf("pid %d: %w", p.Pid(), p.goneOr(err))
	}
	var base, entry address.Addr
	for ; len(aux) >= 16; aux = aux[16:] {
		v := address.Addr(binary.LittleEndian.Uint64(aux[8:]))
		switch binary.LittleEndian.Uint64(aux) {
		case auxBase:
			base = v
		case auxEntry:
			entry = v
		}
	}
	if base == 0 {
		return loader{}, nil
	}
	maps, err := p.Maps()
	if err != nil {
		return loader{}, err
	}
	return loader{process: p, program: fileAround(maps, entry), linker: fileAround(maps, base), entry: entry}, nil
}

// fileAround returns the mappings of the file that is mapped at a.
func fileAround(maps []proc.Mapping, a address.Addr) []Range {
	var out []Range
	for _, m := range maps {
		if !m.Contains(a) || !m.HasFile() {
			continue
		}
		for _, o := range maps {
			if o.File == m.File {
				out = append(out, Range{Start: o.Start, End: o.End})
			}
		}
	}
	return out
}

// run resumes a stopped thread until the linker is done, and leaves it in an
// event stop.
func (l *loader) run(ctx context.Context, h *hand, tid int, limit time.Duration) (late bool, err error) {
	begin := time.Now()
	if b := l.breakpoints(h, tid); b != nil {
		late, err = l.runToBreakpoint(ctx, h, tid, b.signal, begin, limit)
		b.clear() // before the thread goes on
	} else {
		late, err = l.runBySyscalls(ctx, h, tid, begin, limit)
	}
	if err != nil {
		return late, err
	}
	return late, h.settle(ctx, tid, begin, limit)
}

// linkerBreaks are the breakpoints of a loader: at the end of its linking and, should
// that be passed by, at the program's entry.
type linkerBreaks struct {
	signal       unix.Signal
	ready, entry *breakpoint
}

func (b *linkerBreaks) clear() {
	b.ready.clear()
	b.entry.clear()
}

// breakpoints returns nil where the linker is to be followed otherwise.
func (l *loader) breakpoints(h *hand, tid int) *linkerBreaks {
	if !h.breakable() {
		return nil
	}
	b := &linkerBreaks{signal: h.harmless(tid)}
	if !inside(l.signs.Ready, l.linker) || l.signs.State != 0 && !inside(l.signs.State, l.linker) || b.signal == 0 {
		return nil
	}
	var err error
	if b.ready, err = breakAt(tid, l.signs.Ready, b.signal); err != nil {
		return nil
	}
	if b.entry, err = breakAt(tid, l.entry, b.signal); err != nil {
		b.ready.clear()
		return nil
	}
	return b
}

// runToBreakpoint resumes the thread until it stands where the linker is done. A
// signal of the same number that somebody else sends changes nothing: nobody handles it
// yet.
func (l *loader) runToBreakpoint(ctx context.Context, h *hand, tid int, hit unix.Signal, begin time.Time, limit time.Duration) (late bool, err error) {
	sig := unix.Signal(0)
	for {
		_ = h.cont(tid, sig) // ESRCH: the wait says how it ended
		ws, err := h.awaitStop(ctx, tid, begin, limit)
		if err != nil {
			return false, err
		}
		why, s := whyStopped(ws)
		if sig = s; why == stopExec {
			return false, ErrNoExec
		}
		if why != stopSignal || s != hit {
			continue
		}
		var regs unix.PtraceRegs
		if errno := h.getRegs(tid, &regs); errno != 0 {
			return false, lostOr(errno)
		}
		sig = 0
		switch pc := address.Addr(regs.Rip); {
		case !inside(pc, l.linker):
			return true, nil
		case pc == l.signs.Ready && l.consistent():
			return false, nil
		}
	}
}

// consistent tells whether the linker says that all is mapped.
func (l *loader) consistent() bool {
	if l.signs.State == 0 {
		return true
	}
	var b [4]byte
	_, err := l.process.ReadAt(b[:], l.signs.State)
	return err == nil && binary.LittleEndian.Uint32(b[:]) == consistent
}

// runBySyscalls is runToBreakpoint without breakpoints.
func (l *loader) runBySyscalls(ctx context.Context, h *hand, tid int, begin time.Time, limit time.Duration) (late bool, err error) {
	sig := unix.Signal(0)
	for {
		_ = h.toSyscall(tid, sig)
		ws, err := h.awaitStop(ctx, tid, begin, limit)
		if err != nil {
			return false, err
		}
		why, s := whyStopped(ws)
		sig = s
		switch why {
		case stopExec:
			return false, ErrNoExec
		case stopSyscall:
			var regs unix.PtraceRegs
			if errno := h.getRegs(tid, &regs); errno != 0 {
				return false, lostOr(errno)
			}
			if done, late := l.linked(&regs); done {
				return late, nil
			}
		}
	}
}

// settle moves a stopped thread on to an event stop, before its next instruction or at
// the end of the system call that it is in.
func (h *hand) settle(ctx context.Context, tid int, begin time.Time, limit time.Duration) error {
	sig := unix.Signal(0)
	for {
		_ = h.interrupt(tid)
		_ = h.cont(tid, sig)
		ws, err := h.awaitStop(ctx, tid, begin, limit)
		if err != nil {
			return err
		}
		why, s := whyStopped(ws)
		switch sig = s; why {
		case stopEvent:
			return nil
		case stopExec:
			return ErrNoExec
		}
	}
}

// linked tells from the registers at a system call stop whether the linker is
// done: it protects the program's data, or somebody else runs already.
func (l *loader) linked(regs *unix.PtraceRegs) (done, late bool) {
	if !inside(address.Addr(regs.Rip), l.linker) {
		return true, true
	}
	return regs.Orig_rax == unix.SYS_MPROTECT && regs.Rdx == unix.PROT_READ && inside(address.Addr(regs.Rdi), l.program), false
}

// awaitStop waits for the next stop of a thread. What does not stop in time is
// let go of by the end of the OS thread.
func (h *hand) awaitStop(ctx context.Context, tid int, begin time.Time, limit time.Duration) (unix.WaitStatus, error) {
	since := time.Now()
	for {
		got, ws, errno := h.poll(tid)
		switch {
		case errno != 0, got != 0 && !ws.Stopped():
			return 0, ErrGone
		case got != 0:
			return ws, nil
		case time.Since(begin) > limit || ctx.Err() != nil:
			h.abandoned = true
			return 0, ErrNoExec
		}
		h.restAtMost(min(limit-time.Since(begin), longestRest), 1, time.Since(since))
	}
}
