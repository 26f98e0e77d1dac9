package pie

import (
	"context"
	"time"
)

// GuardStatus is one guard in one process.
type GuardStatus struct {
	Function string `json:"function"`
	Image    string `json:"image"`
	Site     string `json:"site"`       // address of the bytes replaced, in hex
	Intact   bool   `json:"intact"`     // the site holds what was written there
	Faults   string `json:"fault_mode"` // table, probe or copy
	Calls    uint64 `json:"calls"`
	Rejects  uint64 `json:"rejects"`  // calls turned into a failure
	Audited  uint64 `json:"audited"`  // calls that would have been rejected
	Errors   uint64 `json:"errors"`   // calls on which the guard could not read memory
	RanLong  uint64 `json:"ran_long"` // calls on which the guard ran too long
	Logs     uint64 `json:"logs"`     // calls the guard asked to note
}

// PrepatchStatus is one prepatch in one process.
type PrepatchStatus struct {
	ID       string        `json:"id"`
	Hash     string        `json:"hash"` // of the prepatch's content, hex
	State    string        `json:"state"`
	Mode     Mode          `json:"mode"`
	Inserted time.Time     `json:"inserted"`
	TrialEnd *time.Time    `json:"trial_end,omitempty"` // also when it is past
	Stopped  string        `json:"stopped,omitempty"`   // why the guard turned itself off
	Partial  bool          `json:"partial,omitempty"`   // copies of the function are not covered
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
	KiB        int              `json:"kib"` // memory PIE holds in the process
	Problem    string           `json:"problem,omitempty"`
}

// Status reads the arenas of the selected processes without stopping them.
// Processes without an arena are left out.
func Status(ctx context.Context, sel Select) ([]ProcessStatus, error) {
	return nil, errNotBuilt
}
