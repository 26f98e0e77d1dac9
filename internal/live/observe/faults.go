package observe

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// TableProblem says what has happened since to what table mode relies on, or "".
// It looks at what the kernel tells without a stop: whether the process still
// catches the fault signals, and whether its main thread blocks them.
func TableProblem(st proc.Status, found []Prepatch) string {
	const faults = 1<<(uint(unix.SIGSEGV)-1) | 1<<(uint(unix.SIGBUS)-1)
	switch {
	case !usesTable(found):
		return ""
	case st.SigCgt&faults != faults:
		return "the program has given up its handler for SIGSEGV or SIGBUS, and PIE's in front of it: a guard that meets unreadable memory would end it; remove the guard and insert it again"
	case st.SigBlk&faults != 0:
		return "a thread of it blocks SIGSEGV or SIGBUS: a guard that meets unreadable memory there would end it; remove the guard and insert it again"
	}
	return ""
}

// LastingTableProblem is TableProblem of a process whose status read tells, where it is the
// same each time in 20 ms: a libc blocks all signals for a moment while it
// starts a thread or forks, and a garbage collector such as Mono's in threads that it stops.
func LastingTableProblem(read func() (proc.Status, error), found []Prepatch) string {
	problem := ""
	for wait := time.Millisecond; ; wait *= 4 {
		st, err := read()
		if err != nil {
			return ""
		}
		if problem = TableProblem(st, found); problem == "" || wait > 16*time.Millisecond {
			return problem
		}
		time.Sleep(wait)
	}
}

func usesTable(found []Prepatch) bool {
	for _, pp := range found {
		for _, g := range pp.Guards {
			if g.SiteState == SiteIn && g.FaultMode == jit.Table {
				return true
			}
		}
	}
	return false
}
