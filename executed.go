package pie

import (
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// noteExecuted says of a process that has just been guarded that its parent, guarded as
// well, did not fork it and leave it at that: it executed the program once more, as what
// sshd, exim and squid start does. Whoever is started so later has no guard, although
// all that run are guarded now.
func (in *inserter) noteExecuted(out *ProcessReport, p *proc.Process) {
	at := parentOf(p.Pid())
	if !slices.ContainsFunc(in.report.Processes, func(o ProcessReport) bool { return o.Pid == at && o.State == StateGuarded }) {
		return
	}
	parent, err := proc.Open(at)
	if err != nil {
		return
	}
	defer parent.Close()
	if executedItself(p, parent) {
		out.Notes = append(out.Notes, fmt.Sprintf("pid %d started it, and it executed the program anew: what is started so later has no guard; pie agent guards it as it starts", at))
	}
}

// executedItself tells whether a process runs its parent's program, and not because it
// was forked from it: the heap of a fork begins where the parent's does, the kernel
// chooses a place at each execution.
func executedItself(p, parent *proc.Process) bool {
	mine, err := p.HeapStart()
	if err != nil || mine == 0 {
		return false
	}
	theirs, err := parent.HeapStart()
	if err != nil || theirs == 0 || mine == theirs {
		return false
	}
	exe, err := p.ExeIdentity()
	if err != nil {
		return false
	}
	same, err := parent.ExeIdentity()
	return err == nil && exe == same
}
