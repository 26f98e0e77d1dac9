package pie

import "context"

// ScanState says what a catalogue prepatch is to a running process.
type ScanState string

// States of a ScanResult.
const (
	ScanGuardable ScanState = "would guard"
	ScanGuarded   ScanState = "guarded"
	ScanFixed     ScanState = "fixed"
	ScanRefused   ScanState = "cannot guard"
)

// ScanResult is one prepatch and one process it is about.
type ScanResult struct {
	ID      string    `json:"id"`
	Pid     int       `json:"pid"`
	Exe     string    `json:"exe"`
	State   ScanState `json:"state"`
	Reason  Code      `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
}

// Scan compares processes with prepatches. Processes that no prepatch is about
// give no result.
func Scan(ctx context.Context, prepatches []*Prepatch, sel Select) ([]ScanResult, error) {
	return nil, errNotBuilt
}
