package pie

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/observe"
)

// Event is one noteworthy call, as the process wrote it down: a claim.
type Event struct {
	Time     time.Time `json:"time"`
	Pid      int       `json:"pid"`
	Exe      string    `json:"exe"`
	Tid      int       `json:"tid,omitempty"`
	ID       string    `json:"id"`
	Function string    `json:"function"`
	Kind     string    `json:"kind"` // reject, rewrite, audit, error, ran_long, log
	Code     uint32    `json:"code,omitempty"`
	Args     []uint64  `json:"args"` // argument words 0–3
	Seq      uint64    `json:"seq"`
}

// A Follower reads the events of the selected processes, each once: processes
// that forked from one another share their events.
type Follower struct {
	Lost uint64 // events overwritten before they were read
	// Silent are processes with a prepatch that keeps no events, as they were first met.
	Silent []int

	met map[int]bool

	sel    Select
	cursor observe.Cursor
}

// NewFollower returns a follower that has read nothing yet.
func NewFollower(sel Select) *Follower {
	return &Follower{sel: sel, cursor: observe.Cursor{}, met: map[int]bool{}}
}

// Next returns the events that appeared since the last call, oldest first.
func (f *Follower) Next(ctx context.Context) ([]Event, error) {
	pids, err := selected(ctx, f.sel)
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got, err := f.read(pid)
		if err != nil && len(pids) == 1 {
			return nil, err
		}
		events = append(events, got...)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return events, nil
}

func (f *Follower) read(pid int) ([]Event, error) {
	p, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if !f.met[pid] {
		f.met[pid] = true
		all, _ := observe.Status(p.read)
		if slices.ContainsFunc(all, func(in observe.Prepatch) bool { return in.Quiet }) {
			f.Silent = append(f.Silent, pid)
		}
	}
	got, lost, err := observe.Events(p.read, f.cursor)
	f.Lost += lost
	var out []Event
	for _, e := range got {
		out = append(out, describeEvent(e, pid, p.exe))
	}
	return out, explain(err, p.String())
}

func describeEvent(e observe.Event, pid int, exe string) Event {
	return Event{
		Time: e.Time, Pid: pid, Exe: exe, Tid: int(e.Tid), ID: e.ID, Function: e.Function,
		Kind: kindName(jit.Kind(e.Kind)), Code: e.Code, Args: e.Args[:], Seq: e.Ticket,
	}
}

func kindName(k jit.Kind) string {
	switch k {
	case jit.KindReject:
		return "reject"
	case jit.KindAudited:
		return "audit"
	case jit.KindLog:
		return "log"
	case jit.KindFault:
		return "error"
	case jit.KindFuel:
		return "ran_long"
	case jit.KindExit:
		return "exit"
	case jit.KindRewrite:
		return "rewrite"
	}
	return fmt.Sprintf("kind %d", k)
}
