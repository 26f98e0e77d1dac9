package observe

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// LeftKind is a kind of Leftover.
type LeftKind uint8

// What a pie that was killed may leave, in the order in which it is put right.
const (
	LeftSpare      LeftKind = iota // guards of a prepatch were being given other code
	LeftPartly                     // some guards of a prepatch are in
	LeftLeaving                    // a removal had begun
	LeftUnrecorded                 // every guard is in, the records do not say so yet
	LeftMode                       // the guards of a prepatch differ in mode or trial
	LeftPrepared                   // code and records of a prepatch none of whose guards is in
	LeftCode                       // code that no record refers to
	LeftMapping                    // memory that was mapped and has no header yet
	LeftArena                      // an arena that no site ever led into
	LeftPadding                    // an arena in padding, or a part of one, that no prepatch uses
	LeftFrame                      // the frame of a remote system call
)

// Leftover is one thing that a killed pie left in a process. What a pie does that
// is at work right now looks the same.
type Leftover struct {
	Kind  LeftKind
	ID    string       // of the prepatch, for the kinds that are about one
	Range arena.Range  // of memory, for the others
	Arena *arena.Arena // for LeftCode and LeftArena
	// Padding is where what is to be cleared stands, for LeftPadding.
	Padding arena.Padding
}

// String says what it is as operators call it.
func (l Leftover) String() string {
	switch l.Kind {
	case LeftSpare:
		return fmt.Sprintf("%s was being given other code; every call is looked at", l.ID)
	case LeftPartly:
		return fmt.Sprintf("%s is in at some of its places only", l.ID)
	case LeftLeaving:
		return fmt.Sprintf("the removal of %s had begun", l.ID)
	case LeftUnrecorded:
		return fmt.Sprintf("%s is in, and not recorded so", l.ID)
	case LeftMode:
		return fmt.Sprintf("the mode of %s was changed in some of its guards only", l.ID)
	case LeftPrepared:
		return fmt.Sprintf("%s was prepared and is not in", l.ID)
	case LeftCode:
		return "code that no guard uses"
	case LeftMapping:
		return fmt.Sprintf("%d KiB mapped at %v, empty", (l.Range.End-l.Range.Start)>>10, l.Range.Start)
	case LeftArena:
		return fmt.Sprintf("%d KiB mapped at %v that no guard ever used", (l.Range.End-l.Range.Start)>>10, l.Range.Start)
	case LeftPadding:
		return fmt.Sprintf("%d bytes behind the program's code at %v, and %d behind its data, that no guard uses", l.Range.End-l.Range.Start, l.Range.Start, l.Padding.State.End-l.Padding.State.Start)
	}
	return fmt.Sprintf("the frame of a remote system call on its stack, at %v", l.Range.Start)
}

// Leftovers says what a killed pie has left in a process, in the order in which
// it is to be put right. Arenas that cannot be read are in the error.
func Leftovers(p Process) ([]Leftover, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	return LeftoversIn(p, maps)
}

// LeftoversIn is Leftovers for mappings that were read already.
func LeftoversIn(p Process, maps []proc.Mapping) ([]Leftover, error) {
	arenas, bad := ArenasIn(p, maps)
	left := spares(arenas)
	for _, pp := range statusOf(p, arenas, ringIDs(p, arenas, maps)) {
		if kind, ok := leftKind(pp); ok {
			left = append(left, Leftover{Kind: kind, ID: pp.ID})
		}
	}
	for _, a := range arenas {
		if !a.Unreached() && abandoned(a) {
			left = append(left, Leftover{Kind: LeftCode, Range: a.Code(), Arena: a})
		}
	}
	for _, r := range Strays(p, maps) {
		left = append(left, Leftover{Kind: LeftMapping, Range: r})
	}
	for _, p := range unusedPaddings(p, maps, arenas) {
		left = append(left, Leftover{Kind: LeftPadding, Range: p.Code, Padding: p})
	}
	for _, a := range arenas {
		if _, padded := a.Padding(); !padded && a.Empty() && a.Unreached() {
			left = append(left, Leftover{Kind: LeftArena, Range: a.Range(), Arena: a})
		}
	}
	for _, f := range tracee.LeftFrames(p, maps) {
		left = append(left, Leftover{Kind: LeftFrame, Range: arena.Range{Start: f.At, End: f.At.Add(int64(f.Length))}})
	}
	return left, bad
}

// abandoned tells whether an arena has code of a guard that has no record. Fault
// tables that were replaced are as usual.
func abandoned(a *arena.Arena) bool {
	tidy := a.Clone()
	tidy.AbandonSlots()
	for i, s := range a.Slots {
		if (s.Kind == arena.SlotGuard || s.Kind == arena.SlotCaller || s.Kind == arena.SlotEntrance) && tidy.Slots[i].State != s.State {
			return true
		}
	}
	return false
}

// spares are the prepatches with a guard that was being given other code.
func spares(arenas []*arena.Arena) (left []Leftover) {
	for _, a := range arenas {
		for j := range a.Guards {
			if a.SpareOf(j) >= 0 {
				left = append(left, Leftover{Kind: LeftSpare, ID: a.Prepatches[a.Guards[j].Prepatch].ID, Arena: a})
			}
		}
	}
	return left
}

// leftKind says what is unfinished about a prepatch, if anything is. A site that
// somebody else wrote over is none of PIE's to finish, nor is a library that was unloaded.
func leftKind(pp Prepatch) (LeftKind, bool) {
	leaving, recorded := false, true
	for _, g := range pp.Guards {
		rec := g.Arena.Guards[g.Index]
		leaving = leaving || rec.State == arena.Leaving
		recorded = recorded && rec.State == arena.In && g.Arena.Prepatches[rec.Prepatch].State == arena.In
	}
	switch {
	case pp.State == StateAltered:
		return 0, false
	case leaving:
		return LeftLeaving, true
	case pp.State == StateLost:
		return 0, false
	case pp.State == StatePartial:
		return LeftPartly, true
	case pp.State == StatePrepared:
		return LeftPrepared, true
	case !recorded:
		return LeftUnrecorded, true
	case differ(pp.Guards):
		return LeftMode, true
	}
	return 0, false
}

// differ tells whether one command can not have left the guards so: a guard that
// turned itself off says why.
func differ(guards []Guard) bool {
	for _, g := range guards {
		if g.Tripped != jit.TripNone {
			return false
		}
	}
	for _, g := range guards {
		if g.Mode != guards[0].Mode || guards[0].TrialEnd.IsZero() && !g.TrialEnd.IsZero() {
			return true
		}
	}
	return false
}

// Strays are the mappings that a killed pie made and had no time to name.
func Strays(p Process, maps []proc.Mapping) []arena.Range {
	arenas, _ := ArenasIn(p, maps)
	var strays []arena.Range
	for _, f := range tracee.LeftFrames(p, maps) {
		if r := arena.Range(f.Mapping); isStray(p, maps, f.Mapping) && !inArena(arenas, r) {
			strays = append(strays, r)
		}
	}
	return strays
}

// inArena tells whether a range is part of an arena that has a header, and so a
// name: guards may be using it although nothing was written to it yet.
func inArena(arenas []*arena.Arena, r arena.Range) bool {
	return slices.ContainsFunc(arenas, func(a *arena.Arena) bool { return a.Range().Overlaps(r) })
}

// isStray tells whether a mapping that a dead tracer was to make is there, and is
// not used by anybody: exactly of that range, no longer than a state region or a
// block of state can be, anonymous memory in which nothing was ever written.
func isStray(p Process, maps []proc.Mapping, r tracee.Range) bool {
	for _, m := range maps {
		if _, ok := isBlock(m); !ok || m.Start != r.Start || m.End != r.End {
			continue
		}
		b := make([]byte, m.Size())
		if _, err := p.ReadAt(b, address.Addr(r.Start)); err != nil {
			return false
		}
		return bytes.Equal(b, make([]byte, len(b)))
	}
	return false
}
