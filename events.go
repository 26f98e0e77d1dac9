package pie

import (
	"context"
	"time"
)

// Event is one noteworthy call, as the process wrote it down: a claim.
type Event struct {
	Time     time.Time `json:"time"`
	Pid      int       `json:"pid"`
	Exe      string    `json:"exe"`
	Tid      int       `json:"tid,omitempty"`
	ID       string    `json:"id"`
	Function string    `json:"function"`
	Kind     string    `json:"kind"` // reject, audit, error, ran_long, log
	Code     uint32    `json:"code,omitempty"`
	Args     []uint64  `json:"args"` // argument words 0–3
	Seq      uint64    `json:"seq"`
}

// A Follower reads the events of the selected processes, each once.
type Follower struct {
	sel  Select
	seen map[int]uint64
	Lost uint64 // events overwritten before they were read
}

// NewFollower returns a follower that has read nothing yet.
func NewFollower(sel Select) *Follower {
	return &Follower{sel: sel, seen: map[int]uint64{}}
}

// Next returns the events that appeared since the last call, oldest first.
func (f *Follower) Next(ctx context.Context) ([]Event, error) {
	return nil, errNotBuilt
}
