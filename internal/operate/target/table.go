package target

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// maxDepth bounds a walk to the top of the process tree. Parents are read one
// after another, so a chain may even be a ring.
const maxDepth = 256

// entry is one process. Exe and id are known only once identify has looked.
type entry struct {
	Process
	id     proc.Identity
	looked bool
	err    error // of looking
}

// table is all processes of the machine by pid, kernel threads and zombies
// among them.
type table map[int]*entry

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
		parent, start, err := proc.Stat(pid)
		if err != nil {
			if gone(err) != nil {
				return nil, err
			}
			continue
		}
		t[pid] = &entry{Process: Process{Pid: pid, Parent: parent, Start: start}}
	}
	return t, nil
}

// maxThreads is up to how many threads a process's children are asked for, one file a
// thread: of more, the table of all processes is the quicker way.
const maxThreads = 64

// readChildless is the table of some pids alone, where none of them has a child: what
// readTable would say of them and their descendants, for a hundredth of the time on a machine
// with many processes. ok is false where one has, or where that is not told (proc_pid_task(5);
// a thread that ends meanwhile leaves its children to another one). Lists that are not empty
// are no answer: the kernel may leave somebody out of them while others end.
func readChildless(pids []int) (t table, ok bool) {
	t = table{}
	for _, pid := range pids {
		parent, start, err := proc.Stat(pid)
		if err != nil || !childless(pid) {
			return nil, false
		}
		t[pid] = &entry{Process: Process{Pid: pid, Parent: parent, Start: start}}
	}
	return t, true
}

func childless(pid int) bool {
	tasks := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(tasks)
	if err != nil || len(threads) == 0 || len(threads) > maxThreads {
		return false
	}
	for _, thread := range threads {
		children, err := os.ReadFile(filepath.Join(tasks, thread.Name(), "children"))
		if err != nil || len(children) > 0 {
			return false
		}
	}
	return true
}

// identify looks at the executable of a process of the table. It is done for
// the few that may match: it costs several times as much as reading the table.
// A process whose executable may not be looked at has an empty identity.
func (t table) identify(pid int) (*entry, error) {
	e := t[pid]
	if !e.looked {
		e.looked = true
		e.err = e.look()
	}
	return e, e.err
}

func (e *entry) look() error {
	p, err := proc.Open(e.Pid)
	if err != nil {
		return err
	}
	defer p.Close()
	if p.Start() != e.Start {
		return fmt.Errorf("pid %d: %w", e.Pid, proc.ErrGone)
	}
	if e.Exe, _, err = p.ExePath(); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil
		}
		return err
	}
	e.id, err = p.ExeIdentity()
	return err
}

// runSame tells whether two processes of the table run the same executable.
func (t table) runSame(a, b int) bool {
	x, err := t.identify(a)
	if err != nil {
		return false
	}
	y, err := t.identify(b)
	return err == nil && x.id == y.id && x.id != (proc.Identity{})
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
			if chosen[a] && pid != os.Getpid() && t.runSame(a, pid) {
				chosen[pid] = true
				break
			}
		}
	}
}
