package observe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/clock"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// SiteState is what the bytes at a guard's site say.
type SiteState uint8

// States of a site.
const (
	SiteOut     SiteState = iota // the original bytes: the guard is not reached
	SiteIn                       // the patch
	SiteAltered                  // neither: somebody else wrote there
	SiteGone                     // its image is not mapped there any more, as after dlclose
)

func (s SiteState) String() string {
	return [...]string{"out", "in", "altered", "gone"}[min(s, SiteGone)]
}

// State is what a prepatch is in a process.
type State uint8

// States of a prepatch.
const (
	StateIn       State = iota // every guard is in
	StatePartial               // some guards are in: a pie was killed between two writes
	StatePrepared              // none is in: a pie was killed before it wrote
	StateAltered               // somebody else wrote over a site
	StateLost                  // guards were in that are not: their library was unloaded, or loaded anew
)

func (s State) String() string {
	return [...]string{"in", "partly in", "prepared", "altered", "lost"}[min(s, StateLost)]
}

// Guard is one guard in a process.
type Guard struct {
	Arena     *arena.Arena
	Index     int // in the arena
	Function  string
	Image     arena.Image
	Site      address.Addr
	SiteState SiteState
	Record    arena.State // what the record says: a claim
	FaultMode jit.FaultMode
	Mode      jit.Mode
	Tripped   jit.Trip
	TrialEnd  time.Time // zero when there is no trial
	Counts    arena.Counts
	Found     []byte // the bytes at the site
	// Lost: the records say that it is in, and it is not. No pie that is killed leaves it
	// so; a library that is unloaded takes the jump with it, also where it is loaded again.
	Lost bool
}

// Prepatch is one prepatch in a process.
type Prepatch struct {
	ID       string
	Hash     [32]byte
	Inserted time.Time // zero before it was in
	Flags    arena.Flags
	State    State
	Guards   []Guard
	// Missing is how many guards the records announce beyond those found.
	Missing int
	// Counters names the memory the counts are in. Processes that forked from
	// one another share it: their counts are the same ones, not to be added up.
	Counters RingID
	// Inside is how many threads are in functions that its guards called, Nested how
	// many calls passed because their thread was.
	Inside, Nested uint64
	// Quiet: its arena is one in padding, which keeps no events.
	Quiet bool
}

// Status returns the prepatches in a process, verified against the bytes at
// their sites. Arenas that cannot be read are reported in the error, beside
// those that can.
func Status(p Process) ([]Prepatch, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	return StatusIn(p, maps)
}

// StatusIn is Status for mappings that were read already.
func StatusIn(p Process, maps []proc.Mapping) ([]Prepatch, error) {
	arenas, bad := ArenasIn(p, maps)
	all := statusOf(p, arenas, ringIDs(p, arenas, maps))
	readCalls(p, maps, all)
	return all, bad
}

func statusOf(p Process, arenas []*arena.Arena, rings []RingID) []Prepatch {
	var out []Prepatch
	for k, a := range arenas {
		now := clockOf(a)
		for i, rec := range a.Prepatches {
			if rec.State == arena.Free {
				continue
			}
			at := index(out, rec.ID, rec.Hash)
			if at < 0 {
				at = len(out)
				_, _, slots, _ := a.Ring()
				out = append(out, Prepatch{ID: rec.ID, Hash: rec.Hash, Inserted: rec.Inserted, Flags: rec.Flags, Counters: rings[k], Quiet: slots == 0})
			}
			guards := slices.DeleteFunc(a.GuardsOf(i), func(j int) bool { return a.SpareOf(j) >= 0 })
			for _, j := range guards {
				out[at].Guards = append(out[at].Guards, readGuard(p, a, j, now))
			}
			out[at].Missing += max(0, rec.Guards-len(guards))
		}
	}
	for i := range out {
		out[i].State = stateOf(out[i])
	}
	return out
}

// Reached tells whether a call may still get to one of its guards.
func (p Prepatch) Reached() bool {
	return slices.ContainsFunc(p.Guards, func(g Guard) bool { return g.SiteState == SiteIn || g.SiteState == SiteAltered })
}

// index finds the prepatch that has guards in several arenas.
func index(ps []Prepatch, id string, hash [32]byte) int {
	for i, p := range ps {
		if p.ID == id && p.Hash == hash {
			return i
		}
	}
	return -1
}

func stateOf(p Prepatch) State {
	var n [SiteGone + 1]int
	lost := false
	for _, g := range p.Guards {
		n[g.SiteState]++
		lost = lost || g.Lost
	}
	switch {
	case n[SiteAltered] > 0:
		return StateAltered
	case lost:
		return StateLost
	case n[SiteIn] == 0:
		return StatePrepared
	case n[SiteOut] > 0 || p.Missing > 0:
		return StatePartial
	}
	return StateIn
}

func readGuard(p Process, a *arena.Arena, i int, c *clock.Clock) Guard {
	rec := a.Guards[i]
	g := Guard{
		Arena: a, Index: i, Function: rec.Function, Image: rec.Image, Site: rec.Site,
		Record: rec.State, FaultMode: jit.FaultMode(rec.FaultMode),
	}
	g.SiteState, g.Found = Site(p, a, i)
	if j := a.Spare(i); j >= 0 { // it is being given other code
		if s, _ := Site(p, a, j); s == SiteIn {
			g.SiteState, g.FaultMode = s, jit.FaultMode(a.Guards[j].FaultMode)
		}
	}
	in := rec.State == arena.In && a.Prepatches[rec.Prepatch].State == arena.In
	g.Lost = g.SiteState == SiteGone || in && g.SiteState == SiteOut
	b := a.Controls[i]
	g.Mode = jit.Mode(binary.LittleEndian.Uint32(b[jit.ControlMode:]))
	g.Tripped = jit.Trip(binary.LittleEndian.Uint32(b[jit.ControlTripped:]))
	if end := binary.LittleEndian.Uint64(b[jit.ControlTrialEnd:]); end != 0 {
		g.TrialEnd = c.At(end)
	}
	if total, err := Counts(p, a, i); err == nil {
		g.Counts = total.Sub(rec.Base)
	}
	return g
}

// Site reads the bytes at guard i's site and says what they are. The guard is in
// when the site's chain goes through it.
func Site(p Process, a *arena.Arena, i int) (SiteState, []byte) {
	g := a.Guards[i]
	b := make([]byte, len(g.Original))
	if _, err := p.ReadAt(b, g.Site); err != nil {
		return SiteGone, nil
	}
	if bytes.Equal(b, g.Original) {
		return SiteOut, b
	}
	chain, _ := Chain(p, a, g.Site, b)
	switch {
	case len(chain) == 0 && replaced(p, g):
		return SiteGone, nil
	case len(chain) == 0:
		return SiteAltered, b
	case !slices.Contains(chain, i):
		return SiteOut, b
	}
	return SiteIn, b
}

// replaced tells whether something else is where the code of g's image was. Of a core's
// mappings, files on no device, nobody can say.
func replaced(p Process, g arena.Guard) bool {
	maps, err := p.Maps()
	return err == nil && g.Image.Inode != 0 && !slices.ContainsFunc(maps, func(m proc.Mapping) bool {
		return m.Contains(g.Site) && m.Perms&proc.Exec != 0 && (m.File.Inode == g.Image.Inode || m.HasFile() && m.File.Major == 0 && m.File.Minor == 0)
	})
}

// Counts returns the sums over guard i's shards since the region was made.
func Counts(p Process, a *arena.Arena, i int) (arena.Counts, error) {
	at, shards, size := a.Counters(i)
	b := make([]byte, shards*size)
	if _, err := p.ReadAt(b, at); err != nil {
		return arena.Counts{}, fmt.Errorf("pid %d: counters at %v: %w", p.Pid(), at, err)
	}
	var c arena.Counts
	for s := 0; s < len(b); s += size {
		add := func(to *uint64, off int) { *to += binary.LittleEndian.Uint64(b[s+jit.CounterAt(size, off):]) }
		c.Calls += jit.SumCalls(b[s : s+size])
		add(&c.Rejects, jit.CounterRejects)
		add(&c.Audited, jit.CounterAudited)
		add(&c.Faults, jit.CounterFaults)
		add(&c.Fuel, jit.CounterFuel)
		add(&c.Logs, jit.CounterLogs)
		add(&c.Refused, jit.CounterRefused)
	}
	return c, nil
}

// clockOf relates the counter to the time with the longest base there is: the
// time since the arena was made, so that the frequency's error does not grow.
func clockOf(a *arena.Arena) *clock.Clock {
	h := a.Header
	return clock.Between(h.TSC, h.Created, h.TSCHz)
}
