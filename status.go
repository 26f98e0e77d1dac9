package pie

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// GuardStatus is one guard in one process.
type GuardStatus struct {
	Function string `json:"function"`
	Image    string `json:"image"`
	Site     string `json:"site"`   // address of the bytes replaced, in hex
	Intact   bool   `json:"intact"` // the site holds what was written there
	// Lost: it was in, and is not, since its library was unloaded, or unloaded and loaded
	// again. Inserted again, the prepatch guards what is loaded now.
	Lost    bool   `json:"lost,omitempty"`
	Faults  string `json:"fault_mode"` // table, probe or copy
	Calls   uint64 `json:"calls"`
	Rejects uint64 `json:"rejects"` // calls turned into a failure
	Audited uint64 `json:"audited"` // calls that would have been rejected
	Errors  uint64 `json:"errors"`  // calls on which the guard could not read memory
	// Refused are those of Errors in which the kernel refused the read itself, whatever the
	// address: a sandbox of the program's does not let the guard look.
	Refused uint64 `json:"reads_refused,omitempty"`
	RanLong uint64 `json:"ran_long"` // calls on which the guard ran too long
	// Failing: most calls ended in a guard error, or ran too long. The prepatch is in
	// and guards nothing.
	Failing bool   `json:"failing,omitempty"`
	Logs    uint64 `json:"logs"` // calls the guard asked to note
}

// PrepatchStatus is one prepatch in one process.
type PrepatchStatus struct {
	ID       string     `json:"id"`
	Hash     string     `json:"hash"` // of the prepatch's content, hex
	State    string     `json:"state"`
	Mode     Mode       `json:"mode"`
	Inserted time.Time  `json:"inserted"`
	TrialEnd *time.Time `json:"trial_end,omitempty"` // also when it is past
	Stopped  string     `json:"stopped,omitempty"`   // why the guard turned itself off
	Partial  bool       `json:"partial,omitempty"`   // copies of the function are not covered
	Early    bool       `json:"early,omitempty"`     // inserted before its program's first instruction
	Caps     []string   `json:"capabilities,omitempty"`
	Inside   uint64     `json:"threads_in_calls,omitempty"` // in functions that its guards called
	Nested   uint64     `json:"nested_calls,omitempty"`     // calls that passed because their thread was in one
	NoEvents bool       `json:"no_events,omitempty"`        // it only counts: its process's sandbox leaves no memory for more
	// Counters names the memory the counts are in. Processes that forked from one
	// another have the same: their counts are the same ones, not to be added up.
	Counters string        `json:"counters"`
	Guards   []GuardStatus `json:"guards"`
}

// Rejecting reports whether the prepatch turns attacks away now.
func (p *PrepatchStatus) Rejecting(now time.Time) bool {
	return p.Mode == ModeEnforce && (p.TrialEnd == nil || now.Before(*p.TrialEnd))
}

// ProcessStatus is what one process says about the prepatches in it. All of it
// is the process's claim, except what Intact says.
type ProcessStatus struct {
	Pid        int              `json:"pid"`
	Exe        string           `json:"exe"`
	Prepatches []PrepatchStatus `json:"prepatches"`
	Problem    string           `json:"problem,omitempty"`
	// ReadsAtRisk: a guard that meets unreadable memory would end the process, since what
	// table mode relies on has changed. Problem says how. Inserted again, guards read by
	// system calls.
	ReadsAtRisk bool `json:"reads_at_risk,omitempty"`
	// HandlersUnasked: guards rely on PIE's signal handlers, and whether the program has put
	// others in their place was not looked at, which takes a stop of one thread: CheckHandlers.
	HandlersUnasked bool `json:"handlers_unasked,omitempty"`
	// Left is what a pie that was killed left half-done, one line each: Repair
	// finishes or undoes it. What a pie does at this moment looks the same.
	Left []string `json:"left,omitempty"`
}

// Status reads the arenas of the selected processes without stopping them.
// Processes with nothing of PIE in them are left out.
func Status(ctx context.Context, sel Select) ([]ProcessStatus, error) {
	pids, err := selected(ctx, sel)
	if err != nil {
		return nil, err
	}
	var all []ProcessStatus
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := settledStatusOf(ctx, pid)
		if err != nil && len(pids) == 1 {
			return nil, err
		}
		if err == nil && (len(s.Prepatches) > 0 || s.Problem != "" || len(s.Left) > 0) {
			all = append(all, s)
		}
	}
	return all, nil
}

// Unguarded lists the selected processes that run the same executable as one of
// guarded and have none of its prepatches: a second server that nobody named, or
// a worker whose parent was not guarded.
func Unguarded(ctx context.Context, sel Select, guarded []ProcessStatus) ([]ProcessStatus, error) {
	pids, err := selected(ctx, sel)
	if err != nil {
		return nil, err
	}
	runs := map[proc.Identity]bool{}
	known := map[int]bool{}
	for _, s := range guarded {
		known[s.Pid] = true
		if id, err := exeIdentity(s.Pid); err == nil && len(s.Prepatches) > 0 {
			runs[id] = true
		}
	}
	var out []ProcessStatus
	for _, pid := range pids {
		if id, err := exeIdentity(pid); err != nil || !runs[id] || known[pid] {
			continue
		}
		// One that was born since guarded was read has its parent's guards, and one
		// that is ending needs none.
		if s, err := settledStatusOf(ctx, pid); err == nil && len(s.Prepatches) == 0 {
			out = append(out, ProcessStatus{Pid: pid, Exe: s.Exe})
		}
	}
	return out, nil
}

func exeIdentity(pid int) (proc.Identity, error) {
	p, err := proc.Open(pid)
	if err != nil {
		return proc.Identity{}, err
	}
	defer p.Close()
	return p.ExeIdentity()
}

// changeTime is how long a change by another pie is waited for: longer than its watchdog
// lets one stop a process.
const changeTime = time.Second

// settledStatusOf is statusOf at a time when no other instance of PIE is in the middle of a
// change, which looks like one that was left half-done.
func settledStatusOf(ctx context.Context, pid int) (ProcessStatus, error) {
	end := time.Now().Add(changeTime)
	for {
		s, claimed, err := statusAndClaim(pid)
		if !claimed || time.Now().After(end) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(changeTime / 50):
		}
	}
}

// statusAndClaim is statusOf, and whether what it says may be a change under way. One that
// ends between the two is looked at again.
func statusAndClaim(pid int) (s ProcessStatus, claimed bool, err error) {
	p, err := openProcess(pid)
	if err != nil {
		return ProcessStatus{}, false, err
	}
	defer p.close()
	s, err = p.status()
	if err != nil || s.settled() {
		return s, false, err
	}
	if p.read.Claimed() {
		return s, true, nil
	}
	s, err = p.status()
	return s, false, err
}

// settled tells that nothing looks half-done.
func (s ProcessStatus) settled() bool {
	return s.Problem == "" && len(s.Left) == 0 &&
		!slices.ContainsFunc(s.Prepatches, func(in PrepatchStatus) bool { return in.State != observe.StateIn.String() })
}

func statusOf(pid int) (ProcessStatus, error) {
	p, err := openProcess(pid)
	if err != nil {
		return ProcessStatus{}, err
	}
	defer p.close()
	return p.status()
}

func (p *process) status() (ProcessStatus, error) {
	out := ProcessStatus{Pid: p.pid, Exe: p.exe}
	maps, err := p.read.Maps()
	if err != nil {
		return out, explain(err, p.String())
	}
	found, err := observe.StatusIn(p.read, maps)
	if left, lerr := observe.LeftoversIn(p.read, maps); lerr == nil {
		out.Left = leftovers(left)
	}
	var corrupt *arena.CorruptError
	if errors.As(err, &corrupt) {
		out.Problem = corrupt.Error()
	} else if err != nil {
		return out, explain(err, p.String())
	}
	for _, in := range found {
		out.Prepatches = append(out.Prepatches, describePrepatch(in))
	}
	if out.Problem == "" {
		out.Problem = observe.LastingTableProblem(p.read.Status, found)
		out.ReadsAtRisk = out.Problem != ""
	}
	out.HandlersUnasked = out.Problem == "" && out.readsByTable()
	return out, nil
}

func describePrepatch(in observe.Prepatch) PrepatchStatus {
	s := PrepatchStatus{
		Caps: capsOf(in.Flags), Inside: in.Inside, Nested: in.Nested, NoEvents: in.Quiet,
		ID: in.ID, Hash: hex.EncodeToString(in.Hash[:]), State: in.State.String(), Inserted: in.Inserted,
		Partial: in.Flags&arena.FlagPartial != 0, Early: in.Flags&arena.FlagEarly != 0, Counters: countersName(in.Counters),
	}
	for i, g := range in.Guards {
		if i == 0 {
			s.Mode = modeName(g.Mode)
			if !g.TrialEnd.IsZero() {
				s.TrialEnd = &g.TrialEnd
			}
		}
		if g.Tripped != jit.TripNone {
			s.Stopped = tripWords(g.Tripped)
		}
		s.Guards = append(s.Guards, GuardStatus{
			Function: g.Function, Image: g.Image.Name, Site: g.Site.String(), Intact: g.SiteState == observe.SiteIn, Lost: g.Lost,
			Faults: faultWords(g.FaultMode), Calls: g.Counts.Calls, Rejects: g.Counts.Rejects, Audited: g.Counts.Audited,
			Errors: g.Counts.Faults, Refused: g.Counts.Refused, RanLong: g.Counts.Fuel, Logs: g.Counts.Logs, Failing: failing(g.Counts),
		})
	}
	return s
}

// leastJudged is the number of calls from which on it is said of a guard that it fails.
const leastJudged = 10

// failing tells whether most calls of a guard ended in an error, or took too long: what
// it looks at is not there, as where a struct is laid out otherwise, and its prepatch
// guards nothing. Attacks alone are hardly most calls of a program that serves.
func failing(c arena.Counts) bool {
	return c.Calls >= leastJudged && (c.Faults > c.Calls/2 || c.Fuel > c.Calls/2)
}

// countersName is what PrepatchStatus.Counters calls the memory that counts are in.
func countersName(id observe.RingID) string {
	if id.Pid != 0 {
		return fmt.Sprintf("pid %d", id.Pid)
	}
	return fmt.Sprintf("%d:%d:%d", id.File.Major, id.File.Minor, id.File.Inode)
}

// Why a guard turned itself off at one call, in PrepatchStatus.Stopped. Setting its mode
// switches it on again.
const (
	StoppedByError = "a guard error during the trial"
	StoppedByTime  = "a guard that ran too long during the trial"
)

// tripWords says why a guard turned itself off, as operators call it.
func tripWords(t jit.Trip) string {
	switch t {
	case jit.TripTrialEnd:
		return "the trial is over"
	case jit.TripFault:
		return StoppedByError
	case jit.TripFuel:
		return StoppedByTime
	case jit.TripMaxReject:
		return "more rejects than --max-reject during the trial"
	}
	return fmt.Sprintf("reason %d", t)
}
