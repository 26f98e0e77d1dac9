package insert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// edit is one write of a commit: a site, or a link between guards.
type edit struct {
	at       address.Addr
	old, new []byte
	function string
	vacated  address.Addr // behind a site: no thread may stand before it; 0: behind old
	moves    []plan.Move  // of threads inside
	punned   bool         // the jump of the site is a punned one: what is from vacated on runs on
}

// end is behind the bytes that threads must not be in.
func (e *edit) end() address.Addr {
	if e.punned {
		return e.vacated
	}
	return max(e.vacated, e.at.Add(int64(len(e.old))))
}

// edits are the writes that let the prepared guards be reached: the patch of
// each unguarded site, or the link of the last guard of a guarded one. Ahead of
// them come the links of guards whose code was left in place when they were removed,
// and differs in its link; no thread may be in that code.
func (in *insertion) edits() (edits []edit, quiet []arena.Range, err error) {
	if f := in.faults; f != nil && f.live {
		edits = append(edits, f.edit(in.arenas[f.in]))
	}
	for k, g := range in.pp.guards {
		e, err := in.relink(k)
		if err != nil {
			return nil, nil, err
		}
		if e.at != 0 {
			edits = append(edits, e)
			quiet = append(quiet, arena.Range{Start: g.Place.Code, End: g.Place.Code.Add(int64(len(g.Code.Bytes)))})
		}
	}
	if in.pp.again {
		led, err := in.leads()
		return append(edits, led...), quiet, err
	}
	for k, g := range in.pp.guards {
		if !in.firstAt(k) {
			continue
		}
		others := in.others(g)
		if len(others) == 0 {
			led, err := in.siteEdits(k)
			if err != nil {
				return nil, nil, err
			}
			edits = append(edits, led...)
			continue
		}
		e, err := linkEdit(g.Place.Arena, others[len(others)-1], 0, bodyOf(g))
		if err != nil {
			return nil, nil, err
		}
		edits = append(edits, e)
	}
	return edits, quiet, nil
}

// relink changes the link of guard k's code where the process has another one
// there; else the edit is none.
func (in *insertion) relink(k int) (edit, error) {
	g := in.pp.guards[k]
	link, err := in.link(k)
	if err != nil {
		return edit{}, err
	}
	at := g.Place.Code.Add(int64(g.Code.Link))
	has := make([]byte, len(link))
	if _, err := in.p.ReadAt(has, at); err != nil {
		return edit{}, fmt.Errorf("pid %d: link at %v: %w", in.p.Pid(), at, err)
	}
	if bytes.Equal(has, link) {
		return edit{}, nil
	}
	return edit{at: at, old: has, new: link, function: g.Function}, nil
}

// linkEdit makes guard i's link lead to to instead of from; 0 is back to the
// function.
func linkEdit(a *arena.Arena, i int, from, to address.Addr) (edit, error) {
	at := a.Link(i)
	was, err := jit.Link(at, from)
	if err != nil {
		return edit{}, err
	}
	is, err := jit.Link(at, to)
	return edit{at: at, old: was, new: is, function: a.Guards[i].Function}, err
}

// A commit waits for a thread to leave a site in which its pc, or a signal
// frame of it, cannot be moved: so often, so long apart.
const (
	commitTries = 40
	commitWait  = 5 * time.Millisecond
)

// commit stops the world and lets the prepared guards be reached: all, or none.
func (in *insertion) commit(ctx context.Context) (tracee.Stop, error) {
	edits, quiet, err := in.edits()
	if err != nil {
		return tracee.Stop{}, err
	}
	c := newCommitment(edits)
	c.quiet, c.rseq = quiet, in.rseq()
	if f := in.faults; f != nil && f.live {
		a := in.arenas[f.in]
		c.quiet = append(c.quiet, a.SlotRange(a.Handler.Slot))
	}
	if in.pp.again {
		c.doneSeen, c.done = in.takeOver()
	} else {
		in.setState(arena.In)
		c.doneSeen = changes(in.arenas)
		c.done = changes(endQuarantines(in.arenas))
		c.ahead = guardChanges(in.arenas)
	}
	for _, a := range in.arenas {
		c.rely(a.Code(), a.State(), a.Shared())
		if a.Quarantined() || in.pp.again {
			c.watch = append(c.watch, a.Code())
		}
	}
	if b := in.pp.state; b != nil {
		c.rely(b.Range())
	}
	stop, err := c.run(ctx, in.t, in.p)
	if err != nil && !c.early {
		in.setState(arena.Prepared)
		return stop, err
	}
	if !c.seen {
		for _, a := range in.arenas {
			a.EndQuarantine()
		}
	}
	wrote(in.arenas)
	if err != nil {
		in.setState(arena.Prepared)
		return stop, err
	}
	if c.recorded != nil {
		return stop, fmt.Errorf("pid %d: guarded, but not recorded so: %w: %w", in.p.Pid(), ErrUnproven, c.recorded)
	}
	return stop, nil
}

// endQuarantines returns models of the arenas as they are when no thread is in
// their code.
func endQuarantines(arenas []*arena.Arena) []*arena.Arena {
	out := make([]*arena.Arena, len(arenas))
	for i, a := range arenas {
		out[i] = a.Clone()
		out[i].EndQuarantine()
	}
	return out
}

// setState sets the state of the insertion's records in the model.
func (in *insertion) setState(s arena.State) {
	for _, g := range in.pp.guards {
		rec := &g.Place.Arena.Guards[g.Place.Index]
		rec.State = s
		g.Place.Arena.Prepatches[rec.Prepatch].State = s
	}
}

// run makes the edits in the stopped world: all, or none. An error that wraps
// ErrUnproven says that some may have been made.
func (c *commitment) run(ctx context.Context, t *tracee.Tracer, p *tracee.Process) (tracee.Stop, error) {
	var longest time.Duration
	for try := 1; ; try++ {
		c.asleep = sightings{}
		stop, err := t.StopSleepersFirst(ctx, p, c.avoid, c.look, c.apply)
		longest = max(longest, stop.Pause)
		stop.Pause = longest
		switch {
		case err == nil || c.applied: // what happens after apply takes nothing back
			return stop, nil
		case c.stuck != nil:
			return stop, fmt.Errorf("%w: %w: %w", c.explain(p, err), ErrUnproven, c.stuck)
		}
		if !errors.Is(err, ErrBusySite) && !errors.Is(err, tracee.ErrBusy) || try == commitTries {
			return stop, c.explain(p, err)
		}
		select {
		case <-ctx.Done():
			return stop, ctx.Err()
		case <-time.After(commitWait):
		}
	}
}

// commitment is the edits with all that is needed while the world is stopped.
type commitment struct {
	edits  []edit
	avoid  []tracee.Range
	frames frames
	pcs    []int // threads to move: index of the thread
	tos    []address.Addr
	failed *edit
	asleep sightings     // of threads that sleep
	watch  []arena.Range // code that the edits lead away from
	seen   bool          // a thread or a signal frame was in it
	inner  []arena.Range // the sites behind their starts: no signal frame may return there
	quiet  []arena.Range // code that no thread may be in while the edits are made
	rseq   jit.RseqArea  // what every thread must have
	// relied is where what the guards work with begins. A pie that died may have been about
	// to unmap some of it, when it was looked at.
	relied []address.Addr
	gone   address.Addr

	// Records: what is begun, ahead of the edits; what is done, behind them, and
	// the same when seen is set. That one was not written is no failure of the
	// commit: the sites say what is true.
	begun, done, doneSeen []block
	// ahead is what of done is written ahead of the edits where threads are moved; nil: all.
	ahead    []block
	recorded error

	early   bool  // ahead was written, in this try or one before
	applied bool  // all edits were made
	stuck   error // why an edit could not be taken back
}

func newCommitment(edits []edit) *commitment {
	c := &commitment{edits: edits, frames: newFrames(), inner: interiors(edits), pcs: make([]int, 0, maxMoves), tos: make([]address.Addr, 0, maxMoves)}
	for _, e := range edits {
		c.avoid = append(c.avoid, tracee.Range{Start: e.at, End: e.end()})
	}
	return c
}

// maxMoves bounds the threads that one stop moves out of sites.
const maxMoves = 4096

// sightings are what threads were found in.
type sightings struct {
	site  bool // a signal frame returns into a site, or a thread is in quiet code
	watch bool // a thread, or a signal frame, is in watched code
}

// sight looks at all threads that were not shown yet.
func (c *commitment) sight(w *tracee.World) (s sightings) {
	s.site = c.frames.anyReturns(w, c.inner) || c.frames.anyIn(w, c.quiet)
	s.watch = !s.site && c.frames.anyIn(w, c.watch)
	return s
}

// look runs while only threads that sleep stand still: their stacks take longest to
// read. It allocates nothing. What apply reads first is read here, too, for nothing but that
// it then is in caches and page tables: a third of what apply takes else.
func (c *commitment) look(w *tracee.World) error {
	c.failed = nil
	if c.rseq.Known && !w.AllHaveRseq(c.rseq.Offset) {
		return ErrNoRseq
	}
	_ = w.Mapped(c.relied)
	for i := range c.edits {
		e := &c.edits[i]
		_ = w.Read(c.frames.buf[:min(len(e.old), frameReach)], e.at)
	}
	if c.asleep = c.sight(w); c.asleep.site {
		return ErrBusySite
	}
	return nil
}

// apply runs while the world is stopped: it allocates nothing.
//
// Threads are moved before the edits are made. A pie that dies in between leaves them in
// the guard's copy, which does what the site does; the guards' records have been written by
// then, so that nobody takes the copy for code that was never entered. The prepatch's, of an
// insertion, has not: what is recorded as in, and is not, was lost with its library.
func (c *commitment) apply(w *tracee.World) error {
	c.failed = nil
	if err := c.place(w); err != nil {
		return err
	}
	if c.gone = c.unmapped(w); c.gone != 0 {
		return ErrStale
	}
	if c.rseq.Known && !w.AllHaveRseq(c.rseq.Offset) {
		return ErrNoRseq
	}
	found := c.sight(w)
	if found.site {
		return ErrBusySite
	}
	c.seen = c.asleep.watch || found.watch
	if err := writeAll(w, c.begun); err != nil {
		return err
	}
	done := c.done
	if c.seen {
		done = c.doneSeen
	}
	if len(c.pcs) > 0 {
		c.early = true // some may be written although not all can be
		ahead := done
		if c.ahead != nil {
			ahead = c.ahead
		}
		if err := writeAll(w, ahead); err != nil {
			return err
		}
	}
	if err := c.move(w); err != nil {
		return err
	}
	for i := range c.edits {
		e := &c.edits[i]
		if err := w.Write(e.at, e.new, e.old); err != nil {
			c.failed = e
			c.takeBack(w, i)
			c.moveBack(w, len(c.pcs))
			return err
		}
	}
	c.recorded = writeAll(w, done)
	c.applied = true
	return nil
}

// move moves the threads that are inside sites: all, or none.
func (c *commitment) move(w *tracee.World) error {
	for i, k := range c.pcs {
		if err := w.SetPC(w.Threads()[k].Tid, c.tos[i]); err != nil {
			c.moveBack(w, i)
			return err
		}
	}
	return nil
}

// moveBack puts the first n of the threads that were moved where they were; who cannot be
// has ended.
func (c *commitment) moveBack(w *tracee.World, n int) {
	for _, k := range c.pcs[:n] {
		_ = w.SetPC(w.Threads()[k].Tid, w.Threads()[k].PC)
	}
}

// rely adds what the guards work with; an arena in padding has not all.
func (c *commitment) rely(ranges ...arena.Range) {
	for _, r := range ranges {
		if r.End > r.Start {
			c.relied = append(c.relied, r.Start)
		}
	}
}

// unmapped returns what of the relied on is not mapped any more; 0 is good.
func (c *commitment) unmapped(w *tracee.World) address.Addr {
	if w.Mapped(c.relied) {
		return 0
	}
	for i := range c.relied {
		if !w.Mapped(c.relied[i : i+1]) {
			return c.relied[i]
		}
	}
	return 0
}

func writeAll(w *tracee.World, bs []block) error {
	for i := range bs {
		if err := w.Write(bs[i].at, bs[i].bytes, nil); err != nil {
			return err
		}
	}
	return nil
}

// place finds where each thread inside a site goes. A thread at its start stays: it meets
// the new instruction. So it does not where a loop begins at the site.
func (c *commitment) place(w *tracee.World) error {
	c.pcs, c.tos = c.pcs[:0], c.tos[:0]
	threads := w.Threads()
	for k := range threads {
		pc := threads[k].PC
		for i := range c.edits {
			e := &c.edits[i]
			if pc < e.at || pc >= e.end() {
				continue
			}
			to, ok := e.move(pc)
			if pc == e.at && !ok {
				continue
			}
			if !ok || len(c.pcs) == cap(c.pcs) {
				c.failed = e
				return ErrBusySite
			}
			c.pcs, c.tos = append(c.pcs, k), append(c.tos, to)
		}
	}
	return nil
}

func (e *edit) move(pc address.Addr) (address.Addr, bool) {
	for i := range e.moves {
		if e.moves[i].From == pc {
			return e.moves[i].To, true
		}
	}
	return 0, false
}

// takeBack takes the first n edits back, the world still stopped.
func (c *commitment) takeBack(w *tracee.World, n int) {
	for i := range slices.Backward(c.edits[:n]) {
		e := &c.edits[i]
		if err := w.Write(e.at, e.old, e.new); err != nil {
			c.stuck = err
		}
	}
}

// explain names the site that stood in the way.
func (c *commitment) explain(p *tracee.Process, err error) error {
	if c.gone != 0 {
		return fmt.Errorf("pid %d: what was mapped at %v has gone: %w", p.Pid(), c.gone, err)
	}
	e := c.failed
	if e == nil {
		return fmt.Errorf("pid %d: %w", p.Pid(), err)
	}
	if errors.Is(err, tracee.ErrMismatch) {
		found := make([]byte, len(e.old))
		if _, rerr := p.ReadAt(found, e.at); rerr == nil {
			return &SiteError{nameOf(found, e.old), p.Pid(), e.function, e.at, e.old, found}
		}
	}
	return fmt.Errorf("pid %d: %s at %v: %w", p.Pid(), e.function, e.at, err)
}
