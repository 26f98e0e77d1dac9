package plan

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// Build places and compiles every guard of one prepatch for one process: all
// of them or, with an error, none. It books room in in.Space, which is then to
// be used for nothing else. Errors are *Refusal.
func Build(in Input) (*Plan, error) {
	p := &Plan{id: in.ID, hash: in.Hash}
	for _, g := range in.Guards {
		built, err := buildGuard(&in, g)
		if err != nil {
			return nil, err
		}
		p.guards = append(p.guards, built)
	}
	return p, nil
}

func buildGuard(in *Input, g GuardInput) (Guard, error) {
	site, err := ChooseSite(g.Function)
	if err != nil {
		return Guard{}, err
	}
	site.Warnings = append(site.Warnings, unusualResults(g.Program, g.Function)...)
	place, err := allot(in, g, site)
	if err != nil {
		return Guard{}, err
	}
	code, err := jit.Compile(g.Program, site.JIT(), layout(g, place))
	if err != nil {
		return Guard{}, &Refusal{Code: GuardPlace, Msg: fmt.Sprintf("guard %s for %s: %v", g.Name, g.Function.Name, err), Err: err}
	}
	if err := place.Arena.Fit(place, len(code.Bytes)); err != nil {
		return Guard{}, noRoom(g, err)
	}
	d, err := detour(site, place)
	if err != nil {
		return Guard{}, err
	}
	return Guard{
		Name: g.Name, Place: place, Function: g.Function.Name, Image: g.Image,
		Site: site.Start, SiteOff: g.EntryOff + address.Off(site.Start-site.Entry),
		Original: site.Original, Patch: d.patch, Moves: d.moves, Trampoline: d.trampoline,
		Code: code, Faults: g.Faults, Where: site,
	}, nil
}

// allot books the guard's place, and refuses bytes that another prepatch has
// replaced in another way.
func allot(in *Input, g GuardInput, site Site) (arena.Place, error) {
	if err := checkOverlap(in.Space.Arenas(), site); err != nil {
		return arena.Place{}, err
	}
	a, err := in.Space.Near(g.Mapped)
	if err != nil {
		return arena.Place{}, &Refusal{
			Code: SiteRange, Err: err, Msg: fmt.Sprintf("%s: no room for PIE's memory within 2 GiB below its image: %v", g.Function.Name, err),
		}
	}
	place, err := a.Allot(arena.Need{
		Program: in.Hash, Guard: g.Name, Variant: variant(in, g, site), Site: site.Start, Site0: site.Original,
	})
	if err != nil {
		return arena.Place{}, noRoom(g, err)
	}
	for _, other := range a.GuardsAt(site.Start) {
		if a.SlotAddr(a.Guards[other].Dispatcher) != place.Dispatcher {
			return arena.Place{}, overlap(site, "another version of pie has guarded it")
		}
	}
	return place, nil
}

// variant is all that a guard's code depends on but its program and place.
func variant(in *Input, g GuardInput, s Site) string {
	return fmt.Sprintf("%s %v %v %v %v %v %v %+v", in.Build, g.Symbols, g.Errno, g.StackEnd, g.Pointer, g.Gettid, g.Faults, s.JIT())
}

func noRoom(g GuardInput, err error) error {
	return &Refusal{
		Code: ArenaFull, Err: err, Msg: fmt.Sprintf("guard %s for %s: %v", g.Name, g.Function.Name, err),
		Instead: "remove a prepatch that is no longer needed",
	}
}

// checkOverlap refuses a function of which another guard's jump replaces bytes
// that this site keeps or moves, or overlaps them: one guard would bypass the
// other. A jump at the same place is that of a dispatcher, which both share.
func checkOverlap(arenas []*arena.Arena, s Site) error {
	mine := arena.Range{Start: s.Entry, End: max(s.Resume, s.Start.Add(jumpLen))}
	for _, a := range arenas {
		for _, g := range a.Guards {
			if g.State == arena.Free || g.Site == s.Start {
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

func overlap(s Site, why string) error {
	return &Refusal{
		Code: SiteOverlap, Msg: fmt.Sprintf("%s at %v cannot be guarded at %v: %s", s.Function, s.Entry, s.Start, why),
		Instead: "remove that prepatch first",
	}
}

func layout(g GuardInput, p arena.Place) jit.Layout {
	return jit.Layout{
		Code: p.Code, Control: p.Control, Counters: p.Counters, Events: p.Events, Next: p.Next,
		Guard: uint32(p.Index), Symbols: g.Symbols, Errno: g.Errno, StackEnd: g.StackEnd, Pointer: g.Pointer, Gettid: g.Gettid, Faults: g.Faults,
	}
}

// detouring is what stands at a site and in its trampoline.
type detouring struct {
	patch, trampoline []byte
	moves             []Move
}

// detour makes the site's jump and the trampoline:
//
//	trampoline: again, after, jmp resume
//	            before, jmp dispatcher        only where something runs ahead of the guards
func detour(s Site, p arena.Place) (detouring, error) {
	var d detouring
	run := append(append([]amd64.Inst(nil), s.Again...), s.After...)
	if err := d.add(run, s, p.Trampoline, s.Resume); err != nil {
		return detouring{}, err
	}
	to := p.Dispatcher
	if len(s.Before) > 0 {
		to = p.Trampoline.Add(int64(len(d.trampoline)))
		if err := d.add(s.Before, s, p.Trampoline, p.Dispatcher); err != nil {
			return detouring{}, err
		}
	}
	if len(d.trampoline) > arena.TrampolineRoom {
		return detouring{}, &Refusal{Code: ArenaFull, Msg: fmt.Sprintf("%s: the moved instructions take %d bytes, %d are the most", s.Function, len(d.trampoline), arena.TrampolineRoom)}
	}
	jump, err := jmpTo(s.Start, to)
	if err != nil {
		return detouring{}, outOfReach(s, err)
	}
	d.patch = jump
	return d, nil
}

// add appends a moved run and a jump to next, and tells where threads inside
// the overwritten bytes go. One at the site's start needs no move.
func (d *detouring) add(run []amd64.Inst, s Site, trampoline, next address.Addr) error {
	here := trampoline.Add(int64(len(d.trampoline)))
	moved, err := relocateRun(run, here)
	if errors.Is(err, amd64.ErrReach) {
		return outOfReach(s, err)
	} else if err != nil {
		return &Refusal{Code: SiteUndecodable, Err: err, Msg: fmt.Sprintf("%s: %v", s.Function, err)}
	}
	for _, step := range moved.Steps {
		from := runStart(run, here).Add(int64(step.Old))
		if from > s.Start && from < s.Start.Add(jumpLen) {
			d.moves = append(d.moves, Move{From: from, To: here.Add(int64(step.New))})
		}
	}
	d.trampoline = append(d.trampoline, moved.Code...)
	if !moved.Falls {
		return nil
	}
	jump, err := jmpTo(trampoline.Add(int64(len(d.trampoline))), next)
	if err != nil {
		return outOfReach(s, err)
	}
	d.trampoline = append(d.trampoline, jump...)
	return nil
}

func outOfReach(s Site, err error) error {
	return &Refusal{Code: SiteRange, Err: err, Msg: fmt.Sprintf("%s at %v: %v", s.Function, s.Entry, err)}
}

// jmpTo is jmp rel32 at from.
func jmpTo(from, to address.Addr) ([]byte, error) {
	d := int64(to - from.Add(jumpLen))
	if d != int64(int32(d)) {
		return nil, fmt.Errorf("jump from %v to %v: %w", from, to, amd64.ErrReach)
	}
	return binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(d)), nil
}
