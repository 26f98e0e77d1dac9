package pie

import "time"

// Prepatch is a prepatch that was compiled and proven safe.
type Prepatch struct {
	ID      string
	Fixed   string // the first version with the vendor's fix, as its directive says
	Expires time.Time
	Guards  []GuardInfo
}

// GuardInfo is what the operator is shown of one guard.
type GuardInfo struct {
	Name      string        `json:"name"`
	Where     string        `json:"where"` // "strdup in libc.so.6 of iperf3"
	Exe       string        `json:"exe,omitempty"`
	Lib       string        `json:"lib,omitempty"`
	Func      string        `json:"func"`
	FailsOpen []string      `json:"fails_open,omitempty"` // one sentence each
	Insns     int           `json:"instructions"`
	Reads     int           `json:"guarded_reads"` // loads that may meet unreadable memory
	Loops     int           `json:"fuelled_loops"` // loops the verifier could not bound
	Stack     int           `json:"stack_bytes"`
	Worst     time.Duration `json:"worst_ns"`
	Clients   string        `json:"clients,omitempty"` // what a rejected call returns
}

// Load compiles and verifies the Go files of one prepatch. Errors are
// *Refusal with every complaint on a line of its own, as file:line:col.
func Load(files map[string][]byte) (*Prepatch, error) {
	return nil, errNotBuilt
}
