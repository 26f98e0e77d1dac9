package autopsy

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// How far up a stack is looked, in bytes: for return addresses in PIE's code, and for
// the frames of signals, above which the program's handlers may have called much.
const (
	callDepth  = 16 << 10
	frameDepth = 64 << 10
)

// onStack judges a thread that is nowhere near PIE by what is on its stack, above its
// stack pointer.
//
// Many programs handle the signals of a crash, and end only then. The frame of such a
// signal tells where the fault was, and that is what is judged; the gravest, where one
// fault led to another. PIE's code may be below in other ways, too: a signal that was
// sent interrupted it, or it called a function of the program. Guards call parts of
// themselves as well; of those the stack may hold return addresses long after. What lies
// there may still be old, so that it is a hint.
func onStack(p observe.Process, arenas []*arena.Arena, maps []proc.Mapping, t Thread) (Finding, bool) {
	b := make([]byte, frameDepth)
	sp := (t.SP + 7) &^ 7
	n, _ := p.ReadAt(b, sp)
	worst := Finding{Verdict: Theirs}
	keep := func(f Finding) {
		if f.Verdict < worst.Verdict {
			worst = f
		}
	}
	for off := 0; off+8 <= n; off += 8 {
		if below, ok := parseFrame(b[off:n]); ok {
			keep(underHandler(p, arenas, maps, below))
			off += frameSize - 8
			continue
		}
		word := address.Addr(order.Uint64(b[off:]))
		for _, a := range arenas {
			if off < callDepth && a.Code().Contains(word) && (inHandler(a, word) || calledOut(p, a, word)) {
				f := inCode(p, a, word)
				keep(Finding{Verdict: Near, Where: fmt.Sprintf("the stack holds at %v an address in %s", sp.Add(int64(off)), f.Where), ID: f.ID})
			}
		}
	}
	return worst, worst.Verdict != Theirs
}

// underHandler judges where a signal interrupted a thread, whose handler is at work.
func underHandler(p observe.Process, arenas []*arena.Arena, maps []proc.Mapping, below Thread) Finding {
	f, ok := placed(p, arenas, maps, below)
	switch {
	case !ok || handled(p, arenas, below.PC):
		return Finding{Verdict: Theirs}
	case below.Signal.sent(p.Pid()) && f.Verdict == Moved:
		return Finding{Verdict: Theirs}
	case below.Signal.Number == 0 && f.Verdict == Ours: // a frame without siginfo does not tell what came
		f.Verdict = Near
	}
	f.Where = fmt.Sprintf("a handler of the program was at work; the signal came at %v, %s", below.PC, f.Where)
	return f
}

// handled tells whether PIE's handler had a thread go on at pc: what is left of a frame
// that was returned from.
func handled(p observe.Process, arenas []*arena.Arena, pc address.Addr) bool {
	for _, a := range arenas {
		if !a.HasHandler() || len(a.Handler.Block) < jit.FaultsCount+8 {
			continue
		}
		at := address.Addr(order.Uint64(a.Handler.Block[jit.FaultsTable:]))
		entries := order.Uint64(a.Handler.Block[jit.FaultsCount:])
		b := make([]byte, min(entries, arena.CodeSize/jit.FaultEntrySize)*jit.FaultEntrySize)
		n, _ := p.ReadAt(b, at)
		for b = b[:n]; len(b) >= jit.FaultEntrySize; b = b[jit.FaultEntrySize:] {
			start, landing := address.Addr(order.Uint64(b)), int64(int32(order.Uint32(b[12:])))
			if start.Add(landing) == pc {
				return true
			}
		}
	}
	return false
}

// A signal frame of x86-64: struct rt_sigframe of Linux, which is the restorer's address,
// struct ucontext (arch/x86/include/uapi/asm/sigcontext.h) and struct siginfo.
const (
	frameRSP     = 8 + 40 + 15*8
	frameRIP     = 8 + 40 + 16*8
	frameFlags   = 8 + 40 + 17*8
	frameCS      = 8 + 40 + 18*8 // then gs, fs and ss
	frameSiginfo = 8 + 304
	frameSize    = frameSiginfo + 128
)

// parseFrame reads, of a signal frame at the beginning of b, where the signal came, and
// what it was. A frame is known by the segments of a 64-bit program and by flags, as the
// kernel writes them. Its siginfo is written for handlers that ask for it only; what is
// none is left out.
func parseFrame(b []byte) (Thread, bool) {
	const (
		flagsAlways = 1 << 1  // reads as one
		flagsEnd    = 1 << 22 // the rest reads as zero
		segments    = 0x2b<<48 | 0x33
	)
	if len(b) < frameSize {
		return Thread{}, false
	}
	flags, cs := order.Uint64(b[frameFlags:]), order.Uint64(b[frameCS:])
	if flags&flagsAlways == 0 || flags >= flagsEnd || cs != segments {
		return Thread{}, false
	}
	below := Thread{PC: address.Addr(order.Uint64(b[frameRIP:])), SP: address.Addr(order.Uint64(b[frameRSP:]))}
	below.Signal, _ = parseSiginfo(b[frameSiginfo:])
	return below, true
}

// inHandler tells whether a lies in PIE's signal handler: frames of it hold its
// restorer.
func inHandler(a *arena.Arena, at address.Addr) bool {
	for i, s := range a.Slots {
		if s.Size != 0 && s.Kind == arena.SlotHandler && a.SlotRange(i).Contains(at) {
			return true
		}
	}
	return false
}

// calledOut tells whether at follows a call that leaves the arena's code.
func calledOut(p observe.Process, a *arena.Arena, at address.Addr) bool {
	for length := 2; length <= 7; length++ { // from call %rax to call *disp32(%rip)
		code := make([]byte, length)
		if n, _ := p.ReadAt(code, at.Add(int64(-length))); n < length {
			continue
		}
		inst, err := amd64.Decode(code, at.Add(int64(-length)))
		if err != nil || inst.Len != length {
			continue
		}
		if inst.Flow == amd64.FlowIndirectCall || inst.Flow == amd64.FlowCall && !a.Code().Contains(inst.Target) {
			return true
		}
	}
	return false
}
