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
	f, ok := placed(p, arenas, maps, t)
	if !ok {
		f, _ = onStack(p, arenas, maps, t)
	}
	f.Thread = t
	return f
}

// placed judges a thread by where it is; not ok when that has nothing to do with PIE.
func placed(p observe.Process, arenas []*arena.Arena, maps []proc.Mapping, t Thread) (f Finding, ok bool) {
	for _, a := range arenas {
		if a.Code().Contains(t.PC) {
			return excused(inCode(p, a, t.PC), p.Pid(), maps, t), true
		}
	}
	for _, a := range arenas {
		for i, g := range a.Guards {
			if g.State != arena.Free && g.Site < t.PC && t.PC < g.Vacated() {
				if s, _ := observe.Site(p, a, i); s != observe.SiteOut {
					return Finding{Verdict: Ours, Where: fmt.Sprintf("in the middle of the jump at %v in %s", g.Site, g.Function), ID: idOf(a, i)}, true
				}
			}
		}
	}
	if !executable(maps, t.PC) {
		return altered(p, arenas)
	}
	return Finding{Verdict: Theirs}, false
}

// excused is what PIE's code does not answer for, where a thread ended in it: that
// somebody sent a signal just then, or that the program had used up its stack.
func excused(f Finding, pid int, maps []proc.Mapping, t Thread) Finding {
	switch {
	case f.Verdict != Ours:
	case t.Signal.sent(pid):
		f.Verdict = Near
		f.Where = fmt.Sprintf("%s, when %s came: it did not fault there", f.Where, t.Signal)
	case t.Signal.ofMemory() && usedUp(maps, t.SP):
		f.Verdict = Theirs
		f.Where += ", where the thread had used up its stack"
	}
	return f
}

// usedUp tells whether sp is at the lower end of what can be written, so that a thread
// can push no word.
func usedUp(maps []proc.Mapping, sp address.Addr) bool {
	const atMost = 4096 // more than a guard uses
	below := sp.Add(-8)
	return slices.ContainsFunc(maps, func(m proc.Mapping) bool {
		return m.Perms&proc.Write != 0 && below < m.Start && m.Start-below <= atMost
	}) && !slices.ContainsFunc(maps, func(m proc.Mapping) bool { return m.Perms&proc.Write != 0 && m.Contains(below) })
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
		case arena.SlotEntrance:
			return Finding{Verdict: Ours, Where: "a jump to a guard"}
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
		if inst.Flow == amd64.FlowJump && inst.Target-g.Vacated() < maxReplaced {
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
