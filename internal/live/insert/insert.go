package insert

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Options are the operator's decisions for one insertion.
type Options struct {
	Mode      jit.Mode
	Trial     time.Duration // the guards stop rejecting after it; 0: no trial
	MaxReject float64       // share of calls, 0–1, above which a trial ends; 0: none
	Partial   bool          // recorded: copies of the function stay uncovered
	Early     bool          // recorded: the program has not run yet
	// TableIfSafe refuses table mode, by *AltStackError, in a process with a handler
	// that runs on an alternate stack, and by *ReplacedHandlerError where PIE's own, of an
	// earlier insertion, is not the one that the process has.
	TableIfSafe bool
	// Blank: the process has just been executed, and has not run. Nothing of PIE's can
	// be in it, neither guards nor what a killed pie has left, and it is not looked for.
	Blank bool
}

// Report is what an insertion did.
type Report struct {
	Sites    []SiteReport
	Threads  int           // stopped for the commit
	Pause    time.Duration // the longest time one thread was off
	Wall     time.Duration
	Dirtied  int       // bytes of memory the target is charged for: whole pages
	TrialEnd time.Time // zero when there is no trial
	Forked   []int     // children born meanwhile: they may have no guard yet
}

// SiteReport is one site that was written, and read back.
type SiteReport struct {
	Function      string
	Image         arena.Image
	Site          address.Addr
	Before, After []byte
}

// Insert carries out pl in p. Its guards go in together or not at all; an error
// says that nothing was changed, unless it wraps ErrUnproven. Other errors
// a caller decides on: ErrAlreadyIn, ErrOtherVersion, ErrPartial, ErrStale,
// ErrBusySite, *SiteError, *HeadroomError, *MappingsError, *AltStackError, *ReplacedHandlerError, and tracee's.
func Insert(ctx context.Context, t *tracee.Tracer, p *tracee.Process, pl *plan.Plan, o Options) (Report, error) {
	return insertGuards(ctx, t, p, prepatch{pl.ID(), pl.Hash(), pl.State(), pl.Caps(), pl.Guards(), false}, o)
}

// prepatch is what a plan says.
type prepatch struct {
	id     string
	hash   [32]byte
	state  *arena.Block // nil when it has none
	caps   bpf.Caps
	guards []plan.Guard
	again  bool // they are in, and get other code (Replace)
}

func insertGuards(ctx context.Context, t *tracee.Tracer, p *tracee.Process, pp prepatch, o Options) (Report, error) {
	start := time.Now()
	unlock, err := p.Lock()
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	in := newInsertion(t, p, pp, o)
	if err := in.check(); err != nil {
		return Report{}, orGone(p, err)
	}
	if err := in.model(); err != nil {
		return Report{}, orGone(p, err)
	}
	if err := in.prepare(ctx); err != nil {
		return Report{}, err
	}
	stop, err := in.commit(ctx)
	if err != nil && !errors.Is(err, ErrUnproven) {
		return Report{}, errors.Join(err, in.undo(ctx))
	}
	in.report.Threads, in.report.Forked = stop.Threads, stop.Forked
	in.report.Pause = max(in.report.Pause, stop.Pause)
	if pp.again {
		in.tookOver()
	}
	if err := errors.Join(err, in.prove()); err != nil {
		return in.report, err
	}
	in.report.Wall = time.Since(start)
	return in.report, nil
}

// orGone puts ahead of err that the process has ended, where it has: what its
// memory seems to hold then, at its sites or anywhere, means nothing.
func orGone(p *tracee.Process, err error) error {
	if IsIn(err) {
		return err
	}
	return errors.Join(p.Check(), err)
}

// insertion is an insertion on its way.
type insertion struct {
	t      *tracee.Tracer
	p      *tracee.Process
	pp     prepatch
	o      Options
	arenas []*arena.Arena
	before [][]byte        // the arenas' records as the process had them
	mapped []arena.Regions // regions that prepare has mapped, by arena; in padding all, once the anchor is written
	bare   []bool          // the arena is one in padding that has yet to be written, by arena
	strays []arena.Range   // mapped by a pie that was killed before it named them
	links  [][]byte        // of the guards' code, where they get other code
	state  stateMade       // what prepare has made for the prepatch's state
	faults *faultTable     // nil without table mode
	pages  map[address.Addr]bool
	report Report
}

func newInsertion(t *tracee.Tracer, p *tracee.Process, pp prepatch, o Options) *insertion {
	in := &insertion{t: t, p: p, pp: pp, o: o, pages: map[address.Addr]bool{}}
	for _, g := range pp.guards {
		if a := g.Place.Arena; in.arena(a) < 0 {
			in.arenas = append(in.arenas, a)
			in.before = append(in.before, a.Snapshot())
		}
	}
	in.mapped = make([]arena.Regions, len(in.arenas))
	in.bare = make([]bool, len(in.arenas))
	return in
}

func (in *insertion) arena(a *arena.Arena) int {
	for i, x := range in.arenas {
		if x == a {
			return i
		}
	}
	return -1
}

// check refuses what needs no stop to be refused.
func (in *insertion) check() error {
	if err := in.fits(); err != nil {
		return err
	}
	if err := in.p.Check(); err != nil {
		return err
	}
	maps, err := in.p.Maps()
	if err != nil {
		return err
	}
	switch {
	case in.pp.again:
		if err := in.stands(maps); err != nil {
			return err
		}
	case !in.o.Blank:
		if err := present(in.p, maps, in.pp.id, in.pp.hash); err != nil {
			return err
		}
		in.strays = observe.Strays(in.p, maps)
	}
	for _, a := range in.arenas {
		if err := in.fresh(a, maps); err != nil {
			return err
		}
	}
	if err := in.headroom(); err != nil {
		return err
	}
	return in.checkSites(maps)
}

// fits holds the plan against the format's limits: nothing may be cut short.
func (in *insertion) fits() error {
	if len(in.pp.guards) == 0 {
		return fmt.Errorf("pid %d: a plan without guards", in.p.Pid())
	}
	if n := len(in.pp.id); n == 0 || n > arena.MaxID {
		return fmt.Errorf("pid %d: an id of %d bytes, %q: it would not be found again; give it 1 to %d", in.p.Pid(), n, in.pp.id, arena.MaxID)
	}
	for _, g := range in.pp.guards {
		n := len(g.Original)
		switch {
		case n == 0 || n > arena.MaxPatch || len(g.Patch) != n || g.Site.Page() != g.Site.Add(int64(n)-1).Page():
			return fmt.Errorf("pid %d: %s: a site of %d bytes at %v, replaced by %d", in.p.Pid(), g.Function, n, g.Site, len(g.Patch))
		case len(g.Code.Bytes) > g.Place.Room:
			return fmt.Errorf("pid %d: %s: %d bytes of code: %w", in.p.Pid(), g.Function, len(g.Code.Bytes), arena.ErrFull)
		}
	}
	return nil
}

// fresh refuses a plan made for an arena that has changed since, or for one to
// be made where another pie has made one meanwhile.
func (in *insertion) fresh(a *arena.Arena, maps []proc.Mapping) error {
	if a.Mapped == 0 {
		now, err := observe.ArenasIn(in.p, maps)
		for _, other := range now {
			if other.Range().Overlaps(a.Range()) {
				return fmt.Errorf("pid %d: %v: %w", in.p.Pid(), a, ErrStale)
			}
		}
		return err
	}
	r := a.State()
	b := make([]byte, r.End-r.Start)
	if _, err := in.p.ReadAt(b, r.Start); err != nil {
		return fmt.Errorf("pid %d: %v: %w", in.p.Pid(), a, err)
	}
	if !a.Unchanged(b) {
		return fmt.Errorf("pid %d: %v: %w", in.p.Pid(), a, ErrStale)
	}
	return in.freshPadding(a, b)
}

// freshPadding notes whether an arena in padding has yet to be written, and refuses one
// whose bytes are not unused any more.
func (in *insertion) freshPadding(a *arena.Arena, state []byte) error {
	l, ok := a.Padding()
	if !ok || arena.HasMagic(state) {
		return nil
	}
	in.bare[in.arena(a)] = true
	for _, r := range []arena.Range{{Start: l.Code.Start, End: l.Anchor().End}, l.State} {
		if !isUnused(in.p, r) {
			return fmt.Errorf("pid %d: the bytes at %v are in use: %w", in.p.Pid(), r.Start, ErrStale)
		}
	}
	return nil
}

// headroom refuses when a limit would refuse or kill later: remote writes are
// charged to the target.
func (in *insertion) headroom() error {
	h, err := in.p.Headroom()
	if err != nil {
		return err
	}
	span, dirty := uint64(0), uint64(0)
	for _, a := range in.arenas {
		if a.Mapped != arena.HasAll {
			span += arena.Span
		}
		dirty += arenaDirty
	}
	dirty += uint64(len(in.pp.guards)) * pageSize
	if b := in.pp.state; b != nil {
		dirty += uint64(b.Size)
		if !b.Mapped {
			span += uint64(b.Size)
		}
	}
	if h.LocksFuture {
		dirty += span
	}
	if h.Cgroup < dirty+spare {
		return &HeadroomError{in.p.Pid(), "the memory limit of its cgroup", h.Cgroup, dirty + spare}
	}
	if h.AddressSpace < span {
		return &HeadroomError{in.p.Pid(), "RLIMIT_AS", h.AddressSpace, span}
	}
	if span > 0 && h.Mappings < SpareMappings {
		return &MappingsError{in.p.Pid(), h.Mappings}
	}
	return nil
}

const (
	pageSize = 4096
	// arenaDirty is the most memory an insertion touches in an arena, in bytes.
	arenaDirty = 24 << 10
	// spare is what must be left to a target below its cgroup's limit, in bytes.
	spare = 64 << 10
)

// SpareMappings is what must be left to a target below vm.max_map_count, of which an arena
// takes three or four.
const SpareMappings = 64
