package pie

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// maxRounds bounds how often a selection is made again while new processes appear.
const maxRounds = 64

// selected lists the pids of a selection once each, parents before children,
// so that a child forked after its parent was guarded inherits the guard. An
// empty selection is a Refusal, and so is one with pie itself in it.
func selected(ctx context.Context, sel Select) ([]int, error) {
	pids, err := sel(ctx)
	if err != nil {
		return nil, err
	}
	pids = slices.Clone(pids) // the selection's own
	slices.Sort(pids)
	pids = slices.Compact(pids)
	if len(pids) == 0 {
		return nil, refuse(CodeNoProcess, nil, "pie scan lists what runs here", "no process matches")
	}
	if slices.Contains(pids, os.Getpid()) {
		return nil, selfRefusal(os.Getpid())
	}
	return parentsFirst(pids, parentOf), nil
}

// inRounds calls do for each selected process, which says whether it changed
// something there; then for those that a selection made afterwards has besides:
// children born before their parent's turn came, which are as it was before. It
// ends with a round of new processes in which nothing was to be changed.
func inRounds(ctx context.Context, sel Select, childrenFirst bool, do func(pid int) (changed bool)) error {
	pids, err := selected(ctx, sel)
	if err != nil {
		return err
	}
	KeepOff(pids...)
	seen := map[int]bool{}
	for range maxRounds {
		if childrenFirst {
			slices.Reverse(pids)
		}
		changed := false
		for _, pid := range pids {
			if ctx.Err() != nil {
				return nil
			}
			if !seen[pid] {
				seen[pid] = true
				changed = do(pid) || changed
			}
		}
		if !changed {
			return nil
		}
		if pids, err = selected(ctx, sel); err != nil {
			return nil // all that matched have ended
		}
	}
	return nil
}

// parentsFirst orders pids so that whoever has its parent in the list comes
// after it.
func parentsFirst(pids []int, parent func(int) int) []int {
	if len(pids) < 2 {
		return pids
	}
	listed, parents, depth := map[int]bool{}, map[int]int{}, map[int]int{}
	for _, pid := range pids {
		listed[pid] = true
	}
	up := func(pid int) int { // siblings have the same ancestors: each is asked for once
		at, known := parents[pid]
		if !known {
			at = parent(pid)
			parents[pid] = at
		}
		return at
	}
	for _, pid := range pids {
		d := 0
		// Pids that are used again while they are read could seem to go in a circle, in
		// which nobody new is met.
		for at, steps := up(pid), 0; at > 0 && steps < len(parents); at, steps = up(at), steps+1 {
			if listed[at] {
				d++
			}
		}
		depth[pid] = d
	}
	out := slices.Clone(pids)
	slices.SortStableFunc(out, func(a, b int) int { return depth[a] - depth[b] })
	return out
}

// parentOf is the pid of a process's parent, 0 when it cannot be told.
func parentOf(pid int) int {
	p, err := proc.Open(pid)
	if err != nil {
		return 0
	}
	defer p.Close()
	parent, err := p.Parent()
	if err != nil {
		return 0
	}
	return parent
}

// A process is busy for a moment while another pie is at work on it, or while a
// thread of it stays where it cannot be moved; and it may have mapped or unmapped
// memory since it was planned for: so long, so often, it is tried again.
const (
	patience   = 3 * time.Second
	impatience = 100 * time.Millisecond
)

// patiently calls do until it says something else than that the process is busy
// or has changed.
func patiently(ctx context.Context, do func() error) error {
	end := time.Now().Add(patience)
	for {
		err := do()
		if r := ReasonOf(err); r != CodeBusy && r != CodeStale || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(impatience):
		}
	}
}
