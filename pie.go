// Package pie puts prepatches into running processes, watches them and takes
// them out. It is what the commands and the agent are made of.
//
// A prepatch is Go source that is compiled to bytecode and proven safe (Load).
// A process is pinned by its pidfd, start time and executable, so that a pid
// used again is never mistaken for it. Plan resolves a prepatch against one
// process without touching it; Insert carries the plan out, in a whole tree of
// processes, and reads back what it wrote; Remove, SetMode and Keep are its
// inverses. Status and Events need only the process: all that PIE knows is in
// the arena inside it, and no state file exists.
//
// What a caller can rely on:
//
//   - A *Refusal changed nothing.
//   - Insert leaves each process guarded or as it was, whenever the context ends
//     or pie is killed; the Report says which.
//   - Strings that come from a process (names, paths, event values) are raw:
//     whoever prints them escapes them.
//
// # Where a line is
//
//	what all verbs have   pie.go: options and reports; refusal.go: refusals and their codes; explain.go: of errors from below
//	                      process.go: one process, pinned; translated.go: whom none of this can guard; group.go: several, and patience; engine.go: what verbs share;
//	                      background.go: giving way to the program while its change is prepared
//	a prepatch            prepatch.go: loading; cost.go, limit.go, capability.go: what it costs, how far it looks, what it may do
//	before a change       plan.go: for people; prepare.go: a prepatch against a process, with match.go (fingerprints),
//	                      sandboxing.go: whether the program may enter a sandbox later;
//	                      debug.go, result.go (what debug information contradicts), thread.go, state.go (what guards ask for)
//	changes               insert.go, remove.go, mode.go, repair.go; change.go: one change, process after process;
//	                      reads.go: how guards that are in read memory, changed; early.go: into a process that has not run yet; executed.go: children that execute the program anew; quiet.go: into one in which no system call can be made
//	looking               status.go, handlers.go, events.go, scan.go, scan_kept.go, doctor.go, text.go, autopsy.go
//	recorded calls        record.go, record_tap.go: taking them down; replay.go
//	writing a guard       described.go: a function as debug information has it
package pie

import (
	"context"
	"time"
)

// Mode is what a guard does with a call it rejects.
type Mode string

// Modes. A guard in ModeOff costs a load and a branch.
const (
	ModeEnforce Mode = "enforce" // reject it
	ModeAudit   Mode = "audit"   // count it and let it pass
	ModeOff     Mode = "off"     // do not look at calls
)

// Select lists the pids a verb works on. Insert asks again until it lists none
// that is new, so that children started meanwhile are guarded too.
type Select func(ctx context.Context) ([]int, error)

// Pids selects a fixed list.
func Pids(pids ...int) Select {
	return func(context.Context) ([]int, error) { return pids, nil }
}

// Options are the operator's decisions for one insertion.
type Options struct {
	Mode      Mode          // ModeEnforce or ModeAudit
	Trial     time.Duration // the guard stops rejecting after it; 0 for no trial
	MaxReject float64       // share of calls, 0–1, above which a trial ends; 0 for none
	Partial   bool          // guard although some copies of the function stay uncovered
	// AcceptMatch guards a function that a fingerprint found without being sure:
	// somebody has looked at the evidence.
	AcceptMatch bool
	// CopyReads has guards read the process's memory by process_vm_readv(2), which takes
	// about a microsecond a read, where they would by plain loads and a signal handler:
	// for a function that the program's own handlers call on small signal stacks.
	CopyReads bool
	// Debuginfod are servers that are asked for the symbols of stripped files, by
	// build ID; none unless the operator names one.
	Debuginfod []string
	Build      string       // of pie, recorded in the process
	Progress   func(string) // told what is being done; may be nil

	known *known // of the Engine at work; may be nil
	early bool   // the program has not run yet
	again bool   // the prepatch is in, and its guards are to get other code
	quiet bool   // no system call can be made in the process
	blank bool   // and nothing of PIE's is in it: it has just been executed
	// placed is told where the guards go in a process that gets them; may be nil.
	placed func(pid int, r *resolved)
}

// ProcessState says what a verb found or left in one process.
type ProcessState string

// States of a process in a Report.
const (
	StateGuarded   ProcessState = "guarded"
	StateUnguarded ProcessState = "not guarded"
	StateGone      ProcessState = "gone"
)

// Copies counts the places that the code of the guarded functions has in a
// process: each function, each clone a compiler made of it, each place it is known
// to be inlined at, in every image that was loaded more than once.
type Copies struct {
	Guarded int `json:"guarded"`
	All     int `json:"all"` // 0: not counted
}

// ProcessReport is what was done in one process.
type ProcessReport struct {
	Pid     int           `json:"pid"`
	Exe     string        `json:"exe"`
	State   ProcessState  `json:"state"`
	Changed bool          `json:"changed"`
	Mode    Mode          `json:"mode,omitempty"`   // of one that had the prepatch already, where it is not the one asked for
	Copies  *Copies       `json:"copies,omitempty"` // of an insertion
	Pause   time.Duration `json:"pause_ns"`         // the longest time one of its threads was stopped
	Reason  Code          `json:"reason,omitempty"`
	Error   string        `json:"error,omitempty"`
	Details []string      `json:"details,omitempty"`
	Instead string        `json:"instead,omitempty"`
	Notes   []string      `json:"notes,omitempty"`     // what the operator should know, one line each
	KiB     int           `json:"stays_kib,omitempty"` // memory of PIE that stays mapped after a removal
}

// Report is what a verb did, process by process.
type Report struct {
	ID        string          `json:"id"`
	Changed   bool            `json:"changed"`
	Mode      Mode            `json:"mode,omitempty"`
	TrialEnd  *time.Time      `json:"trial_end,omitempty"`
	Caps      []string        `json:"capabilities,omitempty"` // what an inserted prepatch may do: rewrite, write …
	Processes []ProcessReport `json:"processes"`
}

// Guarded counts the processes that have the prepatch.
func (r *Report) Guarded() int {
	n := 0
	for _, p := range r.Processes {
		if p.State == StateGuarded {
			n++
		}
	}
	return n
}

// Copies counts the copies of the guarded functions in the process that has the
// most of them uncovered.
func (r *Report) Copies() Copies {
	var worst Copies
	for _, p := range r.Processes {
		if p.Copies != nil && (worst.All == 0 || p.Copies.All-p.Copies.Guarded > worst.All-worst.Guarded) {
			worst = *p.Copies
		}
	}
	return worst
}

// Pause returns the longest time a thread of any process was stopped.
func (r *Report) Pause() time.Duration {
	var longest time.Duration
	for _, p := range r.Processes {
		longest = max(longest, p.Pause)
	}
	return longest
}
