package target

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strconv"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// maxDepth bounds a walk to the top of the process tree. Parents are read one
// after another, so a chain may even be a ring.
const maxDepth = 256

// entry is what is known of a process that has an executable.
type entry struct {
	Process
	id proc.Identity
}

// table is all processes of the machine that run an executable, by pid; kernel
// threads and zombies have none. Processes whose executable may not be looked
// at are in it with an empty identity, since they have children.
type table map[int]entry

func readTable(ctx context.Context) (table, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	t := table{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, err := readEntry(pid)
		if err != nil {
			if gone(err) != nil {
				return nil, err
			}
			continue
		}
		t[pid] = e
	}
	return t, nil
}

func readEntry(pid int) (entry, error) {
	p, err := proc.Open(pid)
	if err != nil {
		return entry{}, err
	}
	defer p.Close()
	e := entry{Process: Process{Pid: pid, Start: p.Start()}}
	if e.Parent, err = p.Parent(); err != nil {
		return entry{}, err
	}
	if e.Exe, _, err = p.ExePath(); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return e, nil
		}
		return entry{}, err
	}
	e.id, err = p.ExeIdentity()
	return e, err
}

// ancestors yields a process and its ancestors, nearest first.
func (t table) ancestors(pid int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for range maxDepth {
			e, ok := t[pid]
			if !ok || !yield(pid) {
				return
			}
			pid = e.Parent
		}
	}
}

func (t table) depth(pid int) int {
	n := 0
	for range t.ancestors(pid) {
		n++
	}
	return n
}

// addDescendants adds the descendants of chosen processes that run the same
// executable.
func (t table) addDescendants(chosen map[int]bool) {
	for pid := range t {
		for a := range t.ancestors(pid) {
			if chosen[a] && t[a].id == t[pid].id && pid != os.Getpid() {
				chosen[pid] = true
				break
			}
		}
	}
}
