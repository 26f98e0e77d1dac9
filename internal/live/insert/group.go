package insert

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Member is one process of a family, and what guarding it gave.
type Member struct {
	Pid     int
	Changed bool  // false when it was guarded already: it inherited the arena
	Err     error // nil when it is guarded now
}

// Family guards every process that list names: parents before their children,
// so that whoever is born from then on inherits the guard; then it asks list
// again, until it names no new process that was not guarded already. guard is
// called once a process, and returns an error that wraps ErrAlreadyIn when
// there was nothing to do. Processes that are gone by then are left out.
//
// It ends while the family goes on forking, because a process that is in no
// list was born by a process that was guarded before it.
func Family(ctx context.Context, list func(context.Context) ([]int, error), guard func(context.Context, int) error) ([]Member, error) {
	var out []Member
	seen := map[int]uint64{}
	for {
		pids, err := list(ctx)
		if err != nil {
			return out, err
		}
		changed := false
		for _, pid := range byAge(pids, seen) {
			if err := ctx.Err(); err != nil {
				return out, err
			}
			err := guard(ctx, pid)
			if gone(err) {
				continue
			}
			m := Member{Pid: pid, Changed: err == nil, Err: err}
			if IsIn(err) {
				m.Err = nil
			}
			changed = changed || m.Changed
			out = append(out, m)
		}
		if !changed {
			return out, nil
		}
	}
}

// gone reports whether err says that a process has ended, or is about to: it
// has no memory any more, and so no mappings and no executable.
func gone(err error) bool {
	for _, target := range []error{tracee.ErrGone, proc.ErrGone, tracee.ErrZombie, tracee.ErrKernelThread, proc.ErrNoExe} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// byAge returns the processes that seen does not have, oldest first: a parent
// is older than its children, and of two started in the same tick the one is
// first that is not the other's child. It notes them in seen by their start.
func byAge(pids []int, seen map[int]uint64) []int {
	type process struct {
		pid, parent int
		start       uint64
	}
	var fresh []process
	for _, pid := range pids {
		p, err := proc.Open(pid)
		if err != nil {
			continue
		}
		start := p.Start()
		parent, err := p.Parent()
		p.Close()
		if err != nil || seen[pid] == start {
			continue
		}
		seen[pid] = start
		fresh = append(fresh, process{pid, parent, start})
	}
	slices.SortStableFunc(fresh, func(a, b process) int {
		if c := cmp.Compare(a.start, b.start); c != 0 {
			return c
		}
		switch {
		case a.parent == b.pid:
			return 1
		case b.parent == a.pid:
			return -1
		}
		return cmp.Compare(a.pid, b.pid)
	})
	out := make([]int, 0, len(fresh))
	for _, f := range fresh {
		out = append(out, f.pid)
	}
	return out
}
