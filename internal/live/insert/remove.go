package insert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Original returns the bytes that the file of g's image has at g.SiteOff, as
// many as g.Original. It is how a removal checks what the process claims.
type Original func(g arena.Guard) ([]byte, error)

// Removal is what a removal did.
type Removal struct {
	Sites   []SiteReport // restored, or, with After as Before, still used by other prepatches
	Threads int
	Pause   time.Duration
	Wall    time.Duration
	StaysKB int  // memory of PIE that stays mapped in the process, in KiB
	Busy    bool // a thread may still be in the removed code, which only the same program reuses
	Was     observe.State
}

// Remove takes the prepatch id out of p and proves that its sites hold their
// original bytes again. Other prepatches on the same function stay. It needs
// only the process: any pie can remove what any other inserted. file may be
// nil: then the bytes recorded in the process are taken as they are.
//
// Errors: ErrNotIn, *SiteError (nothing was changed), ErrBusySite, ErrUnproven,
// and tracee's.
func Remove(ctx context.Context, t *tracee.Tracer, p *tracee.Process, id string, file Original) (Removal, error) {
	start := time.Now()
	unlock, err := p.Lock()
	if err != nil {
		return Removal{}, err
	}
	defer unlock()
	r := removal{t: t, p: p, file: file}
	if err := settleSpares(t, p); err != nil && errors.Is(err, tracee.ErrGone) {
		return Removal{}, err
	}
	if err := r.find(id); err != nil {
		return Removal{}, orGone(p, err)
	}
	if err := r.plan(); err != nil {
		return Removal{}, orGone(p, err)
	}
	if err := r.carryOut(ctx); err != nil {
		return r.report, err
	}
	if err := errors.Join(r.prove(), r.clearPaddings(ctx), r.stays()); err != nil {
		return r.report, err
	}
	r.report.Wall = time.Since(start)
	return r.report, nil
}

// removal is a removal on its way.
type removal struct {
	t      *tracee.Tracer
	p      *tracee.Process
	file   Original
	arenas []*arena.Arena
	guards []leaving
	edits  []edit
	report Removal
}

// leaving is one guard to be removed.
type leaving struct {
	a     *arena.Arena
	i     int
	was   arena.State
	state observe.SiteState
	found []byte
}

func (l leaving) record() *arena.Guard { return &l.a.Guards[l.i] }

func (r *removal) find(id string) error {
	all, err := observe.Status(r.p)
	if err != nil && len(all) == 0 {
		return err
	}
	for _, pp := range all {
		if pp.ID != id {
			continue
		}
		r.report.Was = pp.State
		for _, g := range pp.Guards {
			r.addArena(g.Arena)
			r.guards = append(r.guards, leaving{g.Arena, g.Index, g.Record, g.SiteState, g.Found})
		}
		if len(pp.Guards) == 0 {
			return r.dropEmpty(id)
		}
	}
	if len(r.guards) == 0 {
		return fmt.Errorf("pid %d: %s: %w", r.p.Pid(), id, ErrNotIn)
	}
	return nil
}

// dropEmpty frees the records of a prepatch whose pie died before it wrote
// any guard's.
func (r *removal) dropEmpty(id string) error {
	arenas, err := observe.Arenas(r.p)
	if err != nil {
		return err
	}
	for _, a := range arenas {
		if i := a.PrepatchByID(id); i >= 0 && len(a.GuardsOf(i)) == 0 {
			a.Prepatches[i].State = arena.Free
			r.addArena(a)
			if err := writeChanges(r.t, r.p, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *removal) addArena(a *arena.Arena) {
	for _, x := range r.arenas {
		if x == a {
			return
		}
	}
	r.arenas = append(r.arenas, a)
}

// plan refuses sites that do not hold what they must, and lays out the edits.
func (r *removal) plan() error {
	maps, err := r.p.Maps()
	if err != nil {
		return err
	}
	for _, l := range r.guards {
		g := l.record()
		e := &SiteError{Pid: r.p.Pid(), Function: g.Function, Site: g.Site, Want: g.Patch, Found: l.found}
		switch {
		case l.state == observe.SiteAltered:
			e.Code = nameOf(l.found, g.Patch)
			return e
		case l.state != observe.SiteIn:
			continue
		}
		if e.Code = mappingAt(maps, g.Site, len(g.Original), g.Image.Inode); e.Code != "" {
			return e
		}
		if err := r.checkOriginal(g); err != nil {
			return err
		}
	}
	return r.layOut()
}

// checkOriginal compares the recorded original bytes with the file's.
func (r *removal) checkOriginal(g *arena.Guard) error {
	if r.file == nil {
		return nil
	}
	want, err := r.file(*g)
	if err != nil {
		return fmt.Errorf("pid %d: %s: original bytes: %w", r.p.Pid(), g.Function, err)
	}
	if !bytes.Equal(want, g.Original) {
		return &SiteError{SiteOriginal, r.p.Pid(), g.Function, g.Site, want, g.Original}
	}
	return nil
}

// layOut makes the edits: where the prepatch's guards are the only ones of a
// site, its bytes; else the jump and the links that lead to them.
func (r *removal) layOut() error {
	done := map[address.Addr]bool{}
	for _, l := range r.guards {
		g := l.record()
		if l.state != observe.SiteIn || done[g.Site] {
			continue
		}
		done[g.Site] = true
		edits, err := r.bypass(l)
		if err != nil {
			return err
		}
		r.edits = append(r.edits, edits...)
	}
	return nil
}

// bypass makes the calls of l's site go past the guards of this removal: each jump
// or link to one leads to the next that stays, or back to the function.
func (r *removal) bypass(l leaving) ([]edit, error) {
	g := l.record()
	chain, err := observe.Chain(r.p, l.a, g.Site, l.found)
	switch {
	case err == nil:
	case r.leave(l.a, l.a.GuardsAt(g.Site)):
		chain = nil // whatever is behind them, no other guard is
	default:
		return nil, err
	}
	var edits []edit
	last := -1 // of those that stay
	add := func(skipped, next int) error {
		e, err := r.redirect(l, last, skipped, next)
		edits = append(edits, e)
		return err
	}
	skipped := -1
	if len(chain) == 0 {
		skipped = l.i
	}
	for _, j := range append(chain, -1) {
		if j >= 0 && r.leaves(l.a, j) {
			if skipped < 0 {
				skipped = j
			}
			continue
		}
		if skipped >= 0 {
			if err := add(skipped, j); err != nil {
				return nil, err
			}
		}
		last, skipped = j, -1
	}
	return edits, nil
}

// redirect makes what follows guard last, or with last −1 the site's jump, lead to
// guard next instead of guard from; next −1 is back to the function.
func (r *removal) redirect(l leaving, last, from, next int) (edit, error) {
	g, a := l.record(), l.a
	switch {
	case last < 0 && next < 0:
		return edit{at: g.Site, old: l.found, new: g.Original, function: g.Function, vacated: g.Vacated(), punned: g.Inner > 0}, nil
	case last < 0:
		e, err := leadTo(r.p, a, g.Site, l.found, a.Start(from), a.Start(next))
		e.function = g.Function
		return e, err
	case next < 0:
		return linkEdit(a, last, a.Body(from), 0)
	}
	return linkEdit(a, last, a.Body(from), a.Body(next))
}

// leave reports whether all of the guards do.
func (r *removal) leave(a *arena.Arena, guards []int) bool {
	return !slices.ContainsFunc(guards, func(j int) bool { return !r.leaves(a, j) })
}

func (r *removal) leaves(a *arena.Arena, j int) bool {
	for _, l := range r.guards {
		if l.a == a && l.i == j {
			return true
		}
	}
	return false
}

// carryOut commits the edits, with the records of the guards as leaving before
// and as free behind. Guards that no site leads to, left so by a pie that was
// killed, need no stop.
func (r *removal) carryOut(ctx context.Context) error {
	busy, clean := r.freed(false), r.freed(true)
	if len(r.edits) == 0 {
		return writeChanges(r.t, r.p, busy...)
	}
	c := newCommitment(r.edits)
	c.done, c.doneSeen = changes(clean), changes(busy)
	for _, l := range r.guards {
		l.record().State = arena.Leaving
	}
	c.begun = changes(r.arenas)
	for _, a := range r.arenas {
		c.watch = append(c.watch, a.Code())
	}
	stop, err := c.run(ctx, r.t, r.p)
	r.report.Threads, r.report.Pause, r.report.Busy = stop.Threads, stop.Pause, c.seen
	if err != nil {
		return errors.Join(err, r.stayed())
	}
	if c.recorded != nil {
		return fmt.Errorf("pid %d: removed, but not recorded so: %w: %w", r.p.Pid(), ErrUnproven, c.recorded)
	}
	return nil
}

// freed returns models of the arenas in which the records of the guards are
// free; clean says that no thread is in their code.
func (r *removal) freed(clean bool) []*arena.Arena {
	out := make([]*arena.Arena, len(r.arenas))
	for k, a := range r.arenas {
		out[k] = a.Clone()
		for _, l := range r.guards {
			if l.a != a {
				continue
			}
			if l.record().State == arena.Prepared && l.state != observe.SiteIn {
				out[k].Abandon(l.i)
			} else {
				out[k].Release(l.i, clean)
			}
			if pp := l.record().Prepatch; len(out[k].GuardsOf(pp)) == 0 {
				out[k].Prepatches[pp].State = arena.Free
			}
		}
		if clean {
			out[k].EndQuarantine()
		}
	}
	return out
}

// stayed takes back the records of a removal that was refused.
func (r *removal) stayed() error {
	wrote(r.arenas)
	for _, l := range r.guards {
		l.record().State = l.was
	}
	err := writeChanges(r.t, r.p, r.arenas...)
	if errors.Is(err, tracee.ErrGone) {
		return nil
	}
	return err
}

// prove reads the edited bytes back.
func (r *removal) prove() error {
	for _, e := range r.edits {
		b := make([]byte, len(e.new))
		if _, err := r.p.ReadAt(b, e.at); err != nil {
			return fmt.Errorf("pid %d: %s at %v: %w: %w", r.p.Pid(), e.function, e.at, ErrUnproven, err)
		}
		if !bytes.Equal(b, e.new) {
			return fmt.Errorf("pid %d: %s at %v holds % x: %w", r.p.Pid(), e.function, e.at, b, ErrUnproven)
		}
	}
	for _, l := range r.guards {
		g := l.record()
		now := make([]byte, len(g.Original))
		if _, err := r.p.ReadAt(now, g.Site); err == nil {
			r.report.Sites = append(r.report.Sites, SiteReport{g.Function, g.Image, g.Site, l.found, now})
		}
	}
	return nil
}

// stays says how much of PIE stays in the process.
func (r *removal) stays() (err error) {
	r.report.StaysKB, err = mappedKB(r.p)
	return err
}

// mappedKB sums up the arenas of a process, in KiB.
func mappedKB(p *tracee.Process) (int, error) {
	maps, err := p.Maps()
	if err != nil {
		return 0, err
	}
	all, err := observe.ArenasIn(p, maps)
	n := 0
	for _, b := range observe.BlocksIn(p, maps) {
		n += b.Size >> 10
	}
	for _, a := range all {
		n += (int(a.Range().End-a.Range().Start) + 1<<10 - 1) >> 10
	}
	return n, err
}
