package autopsy

import (
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Verdict says whose a crash is.
type Verdict uint8

// Verdicts, the gravest first.
const (
	Ours    Verdict = iota // the thread was in PIE's code, in the middle of a jump that PIE wrote, or led astray by one
	Near                   // PIE's code is on the thread's stack
	Moved                  // an instruction of the program, which PIE had moved
	Theirs                 // nothing of PIE has to do with where the thread was
	Without                // there is nothing of PIE in the process
)

func (v Verdict) String() string {
	return [...]string{"ours", "near", "moved", "theirs", "without"}[min(v, Without)]
}

// Finding is what was found of one thread.
type Finding struct {
	Thread  Thread
	Verdict Verdict
	Where   string // in words; empty for Theirs and Without
	ID      string // of the prepatch, where it is about one
}

// stackDepth is how far up a stack PIE's code is looked for, in bytes.
const stackDepth = 16 << 10

// Judge says of each thread where it was. Arenas that cannot be read are in the
// error, beside what could be judged.
func Judge(p observe.Process, threads []Thread) ([]Finding, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	arenas, err := observe.ArenasIn(p, maps)
	out := make([]Finding, len(threads))
	for i, t := range threads {
		out[i] = judge(p, arenas, maps, t)
		if len(arenas) == 0 && err == nil {
			out[i].Verdict = Without
		}
	}
	return out, err
}

func judge(p observe.Process, arenas []*arena.Arena, maps []proc.Mapping, t Thread) Finding {
	for _, a := range arenas {
		if a.Code().Contains(t.PC) {
			f := inCode(p, a, t.PC)
			f.Thread = t
			return f
		}
	}
	for _, a := range arenas {
		for i, g := range a.Guards {
			if g.State != arena.Free && g.Site < t.PC && t.PC < g.Site.Add(int64(len(g.Patch))) {
				if s, _ := observe.Site(p, a, i); s != observe.SiteOut {
					return Finding{t, Ours, fmt.Sprintf("in the middle of the jump at %v in %s", g.Site, g.Function), idOf(a, i)}
				}
			}
		}
	}
	if !executable(maps, t.PC) {
		if f, ok := altered(p, arenas); ok {
			f.Thread = t
			return f
		}
	}
	if at, f, ok := onStack(p, arenas, t); ok {
		return Finding{t, Near, fmt.Sprintf("the stack holds at %v an address in %s", at, f.Where), f.ID}
	}
	return Finding{Thread: t, Verdict: Theirs}
}

// executable tells whether there is code at pc.
func executable(maps []proc.Mapping, pc address.Addr) bool {
	i := slices.IndexFunc(maps, func(m proc.Mapping) bool { return m.Contains(pc) })
	return i >= 0 && maps[i].Perms&proc.Exec != 0
}

// altered finds a site that holds neither what the function had nor the jump to its
// guard. A thread that came by may have gone anywhere from there.
func altered(p observe.Process, arenas []*arena.Arena) (Finding, bool) {
	for _, a := range arenas {
		for i, g := range a.Guards {
			if g.State == arena.Free {
				continue
			}
			if s, found := observe.Site(p, a, i); s == observe.SiteAltered {
				where := fmt.Sprintf("where there is no code; the bytes at %v in %s, % x, are neither the function's own nor the jump to its guard", g.Site, g.Function, found)
				return Finding{Verdict: Ours, Where: where, ID: idOf(a, i)}, true
			}
		}
	}
	return Finding{}, false
}

// inCode says what stands at pc in an arena's code.
func inCode(p observe.Process, a *arena.Arena, pc address.Addr) Finding {
	for i, s := range a.Slots {
		if s.Size == 0 || !a.SlotRange(i).Contains(pc) {
			continue
		}
		switch s.Kind {
		case arena.SlotHandler:
			if passesOn(p, pc) {
				return Finding{Verdict: Theirs, Where: "where PIE's handler passes on a signal that somebody had sent, and the program does not handle"}
			}
			return Finding{Verdict: Ours, Where: "PIE's signal handler"}
		case arena.SlotTable:
			return Finding{Verdict: Ours, Where: "PIE's fault table, which is no code"}
		}
		for j, g := range a.Guards {
			switch {
			case g.Site == 0 || g.Slot != i:
			case displaced(p, a, j, pc):
				return Finding{Verdict: Moved, Where: "the first instructions of " + g.Function + ", which were moved: the same would have happened in place", ID: idOf(a, j)}
			default:
				return Finding{Verdict: Ours, Where: "the guard in front of " + g.Function, ID: idOf(a, j)}
			}
		}
	}
	return Finding{Verdict: Ours, Where: "PIE's code memory, where no guard is"}
}

// passesOn tells whether a thread in PIE's handler stands behind the system call by
// which a signal that was sent, and is for nobody, happens again: syscall; ret.
func passesOn(p observe.Process, pc address.Addr) bool {
	code := make([]byte, 3)
	n, _ := p.ReadAt(code, pc.Add(-2))
	return n == len(code) && [3]byte(code) == [3]byte{0x0f, 0x05, 0xc3}
}

// displaced tells whether at pc stands what the site's jump displaced: ahead of the
// guard's body, or behind its link up to the jump back into the function. Code in
// which no such jump is found is not what was written.
func displaced(p observe.Process, a *arena.Arena, guard int, pc address.Addr) bool {
	if pc < a.Body(guard) {
		return true
	}
	g := a.Guards[guard]
	at := a.Link(guard).Add(jit.LinkSize)
	if pc < at {
		return false
	}
	code := make([]byte, maxDisplaced)
	n, _ := p.ReadAt(code, at)
	met := false
	for off := 0; off < n; {
		inst, err := amd64.Decode(code[off:n], at.Add(int64(off)))
		if err != nil {
			return false
		}
		if inst.Flow == amd64.FlowJump && inst.Target-g.Site.Add(int64(len(g.Original))) < maxReplaced {
			return met // back to the first instruction that stayed whole
		}
		met = met || pc == inst.Addr
		off += inst.Len
	}
	return false
}

// maxReplaced is more than the bytes of a site and of a loop that begins there, maxDisplaced
// more than their copy takes, where short branches have become long.
const (
	maxReplaced  = 256 + 16
	maxDisplaced = 3 * maxReplaced
)

func idOf(a *arena.Arena, guard int) string {
	if i := a.Guards[guard].Prepatch; i >= 0 && i < len(a.Prepatches) {
		return a.Prepatches[i].ID
	}
	return ""
}

// onStack looks on a thread's stack, above its stack pointer, for what tells that
// PIE's code is below: a signal frame that interrupted it, or where a call that left
// it returns to. Guards call parts of themselves, too; of those the stack may hold
// return addresses long after. What lies there may still be old, so that it is a hint.
func onStack(p observe.Process, arenas []*arena.Arena, t Thread) (at address.Addr, f Finding, ok bool) {
	b := make([]byte, stackDepth)
	sp := (t.SP + 7) &^ 7
	n, _ := p.ReadAt(b, sp)
	for off := 0; off+8 <= n; off += 8 {
		word := address.Addr(order.Uint64(b[off:]))
		for _, a := range arenas {
			if a.Code().Contains(word) && (interrupted(b[off:n]) || inHandler(a, word) || calledOut(p, a, word)) {
				return sp.Add(int64(off)), inCode(p, a, word), true
			}
		}
	}
	return 0, f, false
}

// interrupted tells whether a program counter stands where a signal frame has it:
// ahead of flags and the code segment of 64-bit programs (struct sigcontext).
func interrupted(frame []byte) bool {
	const (
		flagsAlways = 1 << 1  // reads as one
		flagsEnd    = 1 << 22 // the rest reads as zero
		userCode    = 0x33
	)
	if len(frame) < 24 {
		return false
	}
	flags := order.Uint64(frame[8:])
	return flags&flagsAlways != 0 && flags < flagsEnd && order.Uint16(frame[16:]) == userCode
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
