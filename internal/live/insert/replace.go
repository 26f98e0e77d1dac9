package insert

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Replace gives guards that are in other code (plan.Input.Again), without a moment in
// which a call is not looked at: in the stopped world what led to the old code is led to
// the new. Mode, trial, counters and state go on as they were; of o only TableIfSafe
// counts. A thread that is in the old code goes on there, and by its end.
//
// Errors are those of Insert, and ErrNotIn; the guards are as they were then.
func Replace(ctx context.Context, t *tracee.Tracer, p *tracee.Process, pl *plan.Plan, o Options) (Report, error) {
	guards := slices.Clone(pl.Guards()) // their records change
	for i := range guards {
		guards[i].Moves, guards[i].Vacated = nil, 0 // nobody is in the site: a jump stands there
	}
	return insertGuards(ctx, t, p, prepatch{pl.ID(), pl.Hash(), pl.State(), pl.Caps(), guards, true}, Options{TableIfSafe: o.TableIfSafe})
}

// stands refuses to give other code to what is not in, or not as the plan has it.
func (in *insertion) stands(maps []proc.Mapping) error {
	if err := present(in.p, maps, in.pp.id, in.pp.hash); !IsIn(err) {
		if err == nil {
			err = fmt.Errorf("pid %d: %s: %w", in.p.Pid(), in.pp.id, ErrNotIn)
		}
		return err
	}
	if b := in.pp.state; b != nil && !b.Mapped {
		return fmt.Errorf("pid %d: the state of %s is gone: %w", in.p.Pid(), in.pp.id, ErrStale)
	}
	for _, g := range in.pp.guards {
		chain, at, _, err := in.chain(g)
		if err != nil {
			return err
		}
		if a := g.Place.Arena; at < 0 || a.PrepatchByID(in.pp.id) != a.Guards[chain[at]].Prepatch {
			return fmt.Errorf("pid %d: %s: no call of it goes through the guard: %w", in.p.Pid(), g.Function, ErrStale)
		}
	}
	return nil
}

// chain is the guards that a call of g's site goes through, and where among them is the
// one that g is other code for; −1 where it is not. found is the bytes at the site.
func (in *insertion) chain(g plan.Guard) (chain []int, at int, found []byte, err error) {
	found = make([]byte, len(g.Original))
	if _, err := in.p.ReadAt(found, g.Site); err != nil {
		return nil, -1, nil, fmt.Errorf("pid %d: %s at %v: %w", in.p.Pid(), g.Function, g.Site, err)
	}
	chain, err = observe.Chain(in.p, g.Place.Arena, g.Site, found)
	return chain, slices.Index(chain, g.Place.Guard), found, err
}

// spareRecord is the record of g's code until the guard takes it over.
func (in *insertion) spareRecord(a *arena.Arena, g plan.Guard) {
	was, spare := a.Guards[g.Place.Guard], a.Guards[g.Place.Index]
	was.State = arena.Prepared
	was.Patch, was.Slot, was.Body, was.Link, was.FaultMode = g.Patch, spare.Slot, g.Code.Body, g.Code.Link, uint8(g.Faults)
	a.Guards[g.Place.Index] = was
	a.Slots[spare.Slot].Content = arena.ContentHash(g.Code.Bytes)
}

// replacing returns which guard of this replacement is other code for guard i of a, or −1.
func (in *insertion) replacing(a *arena.Arena, i int) int {
	return slices.IndexFunc(in.pp.guards, func(g plan.Guard) bool { return g.Place.Arena == a && g.Place.Guard == i })
}

// findLinks finds where the new code goes on: where the old does or, where that is code
// which is replaced, too, to the new.
func (in *insertion) findLinks() error {
	for _, g := range in.pp.guards {
		a := g.Place.Arena
		chain, at, _, err := in.chain(g)
		if err != nil || at < 0 {
			return errors.Join(err, ErrStale)
		}
		to := address.Addr(0)
		if at+1 < len(chain) {
			to = a.Body(chain[at+1])
			if m := in.replacing(a, chain[at+1]); m >= 0 {
				to = bodyOf(in.pp.guards[m])
			}
		}
		link, err := jit.Link(g.Place.Code.Add(int64(g.Code.Link)), to)
		if err != nil {
			return err
		}
		in.links = append(in.links, link)
	}
	return nil
}

// leads are the edits that lead to the new code what leads to the old. Behind code that is
// replaced, too, none is needed: the new has that link already.
func (in *insertion) leads() ([]edit, error) {
	var edits []edit
	for _, g := range in.pp.guards {
		a := g.Place.Arena
		chain, at, found, err := in.chain(g)
		switch {
		case err != nil || at < 0:
			return nil, errors.Join(err, ErrStale)
		case at == 0:
			e, err := leadTo(in.p, a, g.Site, found, a.Start(g.Place.Guard), g.Place.Code)
			if err != nil {
				return nil, err
			}
			e.function = g.Function
			edits = append(edits, e)
		case in.replacing(a, chain[at-1]) < 0:
			e, err := linkEdit(a, chain[at-1], a.Body(g.Place.Guard), bodyOf(g))
			if err != nil {
				return nil, err
			}
			edits = append(edits, e)
		}
	}
	return edits, nil
}

// takeOver makes the records what they are when every site leads to the new code, and
// returns the writes of that: with threads in the arenas' code, and without. The model
// stays as prepared: the commit may yet fail.
func (in *insertion) takeOver() (seen, clean []block) {
	after := make([]*arena.Arena, len(in.arenas))
	for k, a := range in.arenas {
		after[k] = a.Clone()
		for _, g := range in.pp.guards {
			if g.Place.Arena == a {
				after[k].TakeOver(g.Place.Guard, g.Place.Index)
			}
		}
	}
	return in.sparesLast(changes(after)), in.sparesLast(changes(endQuarantines(after)))
}

// sparesLast has the spare records freed when the guards have taken their code over: a pie
// that dies in between leaves no code without a record.
func (in *insertion) sparesLast(writes []block) []block {
	isSpare := func(b block) bool {
		return slices.ContainsFunc(in.pp.guards, func(g plan.Guard) bool {
			a := g.Place.Arena
			return b.at == a.State().Start.Add(int64(a.EncodeGuard(g.Place.Index).Off))
		})
	}
	slices.SortStableFunc(writes, func(x, y block) int {
		switch sx, sy := isSpare(x), isSpare(y); {
		case sx == sy:
			return 0
		case sx:
			return 1
		}
		return -1
	})
	return writes
}

// tookOver makes the model what the process has: prove looks for the guards by their own
// records.
func (in *insertion) tookOver() {
	for k := range in.pp.guards {
		g := &in.pp.guards[k]
		g.Place.Arena.TakeOver(g.Place.Guard, g.Place.Index)
		g.Place.Index = g.Place.Guard
	}
}

// Settle puts right what a pie left that died while it gave guards other code (Replace).
func Settle(t *tracee.Tracer, p *tracee.Process) error {
	unlock, err := p.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return settleSpares(t, p)
}

// settleSpares has a guard whose site leads to new code take it over; other new code is
// free. Nobody reads the records but pie, so that no thread need be stopped.
func settleSpares(t *tracee.Tracer, p *tracee.Process) error {
	arenas, err := observe.Arenas(p)
	for _, a := range arenas {
		for j := range a.Guards {
			i, spare := a.SpareOf(j), a.Guards[j]
			if i < 0 {
				continue
			}
			if s, _ := observe.Site(p, a, j); s == observe.SiteIn {
				a.TakeOver(i, j)
				a.Guards[j] = spare // until the guard's record is written
				if err := writeChanges(t, p, a); err != nil {
					return err
				}
			}
			a.Forget(j)
			if err := writeChanges(t, p, a); err != nil {
				return err
			}
		}
	}
	return err
}
