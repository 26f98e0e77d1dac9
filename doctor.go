package pie

import "context"

// Verdicts of a Finding.
const (
	FindingOK      = "ok"
	FindingNote    = "note"    // works, with a cost that is said
	FindingBlocked = "blocked" // stands in the way
)

// Finding is one thing Doctor looked at.
type Finding struct {
	What    string `json:"what"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
	Instead string `json:"instead,omitempty"`
	Code    Code   `json:"code,omitempty"`
}

// Diagnosis is what stands in the way of guarding one process.
type Diagnosis struct {
	Pid      int       `json:"pid"`
	Exe      string    `json:"exe"`
	Findings []Finding `json:"findings"`
}

// CanGuard reports whether nothing is in the way.
func (d *Diagnosis) CanGuard() bool {
	for _, f := range d.Findings {
		if f.Verdict == FindingBlocked {
			return false
		}
	}
	return true
}

// Doctor looks at a process without stopping it. Pid 0 looks at the machine alone.
func Doctor(ctx context.Context, pid int) (*Diagnosis, error) {
	return nil, errNotBuilt
}
