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

// loader is a program about to be linked: where it and its dynamic linker lie.
type loader struct {
	program, linker []Range // linker is nil for a static program
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
	return loader{program: fileAround(maps, entry), linker: fileAround(maps, base)}, nil
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
	done, sig := false, unix.Signal(0)
	for {
		if done {
			_ = h.interrupt(tid)
			_ = h.cont(tid, sig)
		} else {
			_ = h.toSyscall(tid, sig) // ESRCH: the wait says how it ended
		}
		ws, err := h.awaitStop(ctx, tid, begin, limit)
		if err != nil {
			return late, err
		}
		why, s := whyStopped(ws)
		sig = s
		switch {
		case why == stopEvent && done:
			return late, nil
		case why == stopExec:
			return late, ErrNoExec
		case why == stopSyscall && !done:
			var regs unix.PtraceRegs
			if errno := h.getRegs(tid, &regs); errno != 0 {
				return late, lostOr(errno)
			}
			done, late = l.linked(&regs)
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
	for turn := 0; ; turn++ {
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
		h.rest(turn, 1, time.Since(since))
	}
}
