package plan

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// Build places and compiles every guard of one prepatch for one process: all
// of them or, with an error, none. It books room in in.Space, which is then to
// be used for nothing else. Errors are *Refusal.
func Build(in Input) (*Plan, error) {
	p := &Plan{id: in.ID, hash: in.Hash}
	if in.State > 0 && len(in.Guards) > 0 {
		var err error
		if p.state, err = in.Space.Block(in.Blocks, in.Hash, in.State, in.SharedState, in.Guards[0].Mapped); err != nil {
			return nil, noRoom(in.Guards[0], err)
		}
		in.state = p.state.At
	}
	in.again = map[guardAt]bool{}
	for _, g := range in.Guards {
		built, err := buildGuard(&in, g)
		if errors.Is(err, errSame) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p.guards = append(p.guards, built)
		p.caps |= g.Program.Unit().Caps
	}
	return p, nil
}

func buildGuard(in *Input, g GuardInput) (Guard, error) {
	site, err := ChooseSite(g.Function)
	if err != nil {
		return Guard{}, err
	}
	site.Warnings = append(site.Warnings, unusualResults(g.Program, g.Function)...)
	place, entrance, err := allot(in, g, site)
	if err != nil {
		return Guard{}, err
	}
	if err := site.reaches(place.Code); err != nil {
		return Guard{}, err
	}
	code, err := jit.Compile(g.Program, site.JIT(), layout(in, g, site, place))
	if err != nil {
		return Guard{}, &Refusal{Code: GuardPlace, Msg: fmt.Sprintf("guard %s for %s: %v", g.Name, g.Function.Name, err), Err: err}
	}
	if err := place.Arena.Fit(place, len(code.Bytes)); err != nil {
		if _, padded := place.Arena.Padding(); padded {
			return Guard{}, &Refusal{
				Code: ArenaFull, Err: err, Instead: paddingInstead,
				Msg: fmt.Sprintf("guard %s for %s takes %d bytes of code, and %d are unused behind the code of the process, in which nothing can be mapped", g.Name, g.Function.Name, len(code.Bytes), place.Room),
			}
		}
		return Guard{}, noRoom(g, err)
	}
	patch, err := patchOf(site, place, entrance)
	if err != nil {
		return Guard{}, outOfReach(site, err)
	}
	moves, err := site.moves(place.Code, code)
	if err != nil {
		return Guard{}, err
	}
	return Guard{
		Name: g.Name, Place: place, Function: g.Function.Name, Image: g.Image,
		Site: site.Start, SiteOff: g.EntryOff + address.Off(site.Start-site.Entry),
		Original: site.Original, Patch: patch, Entrance: entrance.At, Vacated: site.vacated(), Moves: moves,
		Code: code, Faults: recorded(g.Faults, code), Where: site,
	}, nil
}

// recorded is the mode that the process is told of: code without a place that may
// raise a signal (StackUsed ends a guard without one) relies on no handler, and none is
// installed for it.
func recorded(m jit.FaultMode, code *jit.Code) jit.FaultMode {
	if m == jit.Table && len(code.Faults) == 0 {
		return jit.Copy
	}
	return m
}

func need(in *Input, g GuardInput, site Site) arena.Need {
	return arena.Need{
		Program: in.Hash, Guard: g.Name, Variant: variant(in, g, site), Site: site.Start, Site0: site.Original,
		Calls: g.Program.Unit().Caps&bpf.CapCall != 0,
	}
}

// variant is all that a guard's code depends on but its program and place.
func variant(in *Input, g GuardInput, s Site) string {
	return fmt.Sprintf("%s %v %v %v %v %v %v %v %v %v %+v", in.Build, in.state, g.Symbols, g.Errno, g.Rseq, g.StackEnd, g.Pointer, g.Gettid, g.Faults, g.XSave, s.JIT())
}

func noRoom(g GuardInput, err error) error {
	return &Refusal{
		Code: ArenaFull, Err: err, Msg: fmt.Sprintf("guard %s for %s: %v", g.Name, g.Function.Name, err),
		Instead: "remove a prepatch that is no longer needed",
	}
}

// paddingInstead is the advice where padding has no room.
const paddingInstead = "guard the process that it was forked from: a child inherits guards, and enters its sandbox with them"

// checkOverlap refuses a function of which another guard's jump replaces bytes
// that this site keeps or moves, or overlaps them: one guard would bypass the
// other. Guards that replace the same bytes follow one another.
func checkOverlap(arenas []*arena.Arena, s Site) error {
	mine := arena.Range{Start: s.Entry, End: max(s.Resume, s.Start.Add(int64(len(s.Original))))}
	for _, a := range arenas {
		for _, g := range a.Guards {
			if g.State == arena.Free || g.Site == s.Start && sameSite(g, s) {
				continue
			}
			other := arena.Range{Start: g.Site, End: g.Site.Add(int64(len(g.Original)))}
			if other.Overlaps(mine) {
				return overlap(s, fmt.Sprintf("a guard's jump stands at %v already", g.Site))
			}
		}
	}
	return nil
}

// sameSite reports whether a guard at s.Start replaces the bytes that s does. One
// of a plan under way has none recorded.
func sameSite(g arena.Guard, s Site) bool {
	return len(g.Original) == 0 || bytes.Equal(g.Original, s.Original)
}

func overlap(s Site, why string) error {
	return &Refusal{
		Code: SiteOverlap, Msg: fmt.Sprintf("%s at %v cannot be guarded at %v: %s", s.Function, s.Entry, s.Start, why),
		Instead: "remove that prepatch first",
	}
}

func layout(in *Input, g GuardInput, s Site, p arena.Place) jit.Layout {
	l := jit.Layout{
		Code: p.Code, Control: p.Control, Counters: p.Counters, Events: p.Events,
		Guard: uint32(p.Guard), Symbols: g.Symbols, State: in.state, Errno: g.Errno, Rseq: g.Rseq,
		StackEnd: g.StackEnd, Pointer: g.Pointer,
		Gettid: g.Gettid, Faults: g.Faults, XSave: g.XSave,
		Quiet:    p.Events == 0,
		OwnStart: p.Reach.Start, OwnEnd: p.Reach.End, After: s.writeAfter,
	}
	if len(s.Before) > 0 {
		l.Before = s.writeBefore
	}
	return l
}
