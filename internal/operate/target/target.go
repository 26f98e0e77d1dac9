// Package target turns what an operator says about processes (TARGET on the
// command line) into a list of them, grouped by descent.
//
// One pass over /proc makes a table of all processes: parent, start time, and
// for those that may match, the identity of the executable. Conditions are then
// tested on it. Names never identify: an executable is compared by inode, a unit
// or container by cgroup. A pid stands for the process that had it when the
// Selector was made.
//
// The table is a picture of a moving thing. Who must miss no process asks
// again until nothing new appears; a process that ended meanwhile is dropped.
package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// Spec is a TARGET. All conditions given must hold; several pids are
// alternatives.
type Spec struct {
	Pids       []int
	Exe        string // name as proc.Process.RunsExe understands it, or absolute path: in the process's root or in ours
	Unit       string // systemd unit; without a suffix, .service
	Container  string // id or a prefix of it, at least MinContainer digits
	Host       bool   // every process
	NoChildren bool   // leave out descendants that run the same executable
	// Runs restricts to processes that run one of these executables: those a
	// prepatch is for. Empty: any.
	Runs []string
}

// Given tells whether the spec names any target.
func (s Spec) Given() bool {
	return len(s.Pids) > 0 || s.Exe != "" || s.Unit != "" || s.Container != "" || s.Host
}

// ErrNone says that no running process matches.
var ErrNone = errors.New("no matching process")

// Process is a selected process.
type Process struct {
	Pid    int
	Parent int
	Start  uint64 // clock ticks since boot; with Pid it names the process for good
	Exe    string // path of the executable, for people; chosen by who started it
}

// Group is processes that descend from one another: a server and its workers.
// Parents come before their children.
type Group []Process

// Selector selects the processes of a spec, time and again.
type Selector struct {
	spec  Spec
	roots map[int]uint64 // start time of each of spec.Pids
}

// New checks a spec and pins its pids. Errors: proc.ErrGone for a pid that no
// process has, and specs that make no sense.
func New(s Spec) (*Selector, error) {
	if s.Container != "" {
		if err := checkContainer(s.Container); err != nil {
			return nil, err
		}
	}
	if strings.Contains(s.Unit, "/") {
		return nil, fmt.Errorf("unit %q: give a unit's name, not a path", s.Unit)
	}
	for _, exe := range append([]string{s.Exe}, s.Runs...) {
		if strings.Contains(exe, "/") && !strings.HasPrefix(exe, "/") {
			return nil, fmt.Errorf("executable %q: give an absolute path, or a name alone", exe)
		}
	}
	sel := &Selector{spec: s, roots: map[int]uint64{}}
	for _, pid := range s.Pids {
		p, err := proc.Open(pid)
		if err != nil {
			return nil, err
		}
		sel.roots[pid] = p.Start()
		p.Close()
	}
	return sel, nil
}

// Select returns the pids that match now, parents before children, without the
// caller's own. It has the form that package pie asks for.
func (s *Selector) Select(ctx context.Context) ([]int, error) {
	groups, err := s.Groups(ctx)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, g := range groups {
		for _, p := range g {
			pids = append(pids, p.Pid)
		}
	}
	return pids, nil
}

// Groups returns the processes that match now, those that descend from one
// another together. Processes of one named unit or container are one group.
// The error is ErrNone when there is none.
func (s *Selector) Groups(ctx context.Context) ([]Group, error) {
	t, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	chosen, here := map[int]bool{}, s.executableHere()
	for pid := range t {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ok, err := s.matches(t, here, pid)
		if err != nil {
			return nil, err
		}
		if ok {
			chosen[pid] = true
		}
	}
	if len(s.spec.Pids) == 0 && !s.spec.NoChildren && s.spec.Exe != "" {
		t.addDescendants(chosen)
	}
	if len(chosen) == 0 {
		return nil, ErrNone
	}
	return t.group(chosen, s.spec.Unit != "" || s.spec.Container != ""), nil
}

// read returns the table of those that can match.
func (s *Selector) read(ctx context.Context) (table, error) {
	if pids := s.spec.Pids; len(pids) > 0 && len(pids) <= maxThreads {
		if t, ok := readChildless(pids); ok {
			return t, ctx.Err()
		}
	}
	return readTable(ctx)
}

// Has tells whether one process matches now: a process that is not the caller's
// own. Conditions on descent (pids) are not looked at.
func (s *Selector) Has(pid int) (bool, error) {
	p, err := proc.Open(pid)
	if err != nil {
		return false, gone(err)
	}
	defer p.Close()
	return s.matches(table{pid: &entry{Process: Process{Pid: pid, Start: p.Start()}}}, s.executableHere(), pid)
}

// executableHere identifies the executable of the spec by its path in our own root: so an
// operator may name a container's program by where its image lies here. It is zero when
// there is none, as for a name.
func (s *Selector) executableHere() proc.Identity {
	if !strings.HasPrefix(s.spec.Exe, "/") {
		return proc.Identity{}
	}
	self, err := proc.Open(os.Getpid())
	if err != nil {
		return proc.Identity{}
	}
	defer self.Close()
	id, err := self.IdentityInRoot(s.spec.Exe)
	if err != nil {
		return proc.Identity{} // it may be there in the process's root
	}
	return id
}

// runs tells whether a process runs the executable of the spec, or here, the file that
// the spec's path leads to from our root.
func (s *Selector) runs(p *proc.Process, here proc.Identity) (bool, error) {
	if here != (proc.Identity{}) {
		if id, err := p.ExeIdentity(); err == nil && id == here {
			return true, nil
		}
	}
	return p.RunsExe(s.spec.Exe)
}

// matches tests one process against every condition; here is executableHere.
func (s *Selector) matches(t table, here proc.Identity, pid int) (bool, error) {
	if pid == os.Getpid() || len(s.spec.Pids) > 0 && !s.underRoot(t, pid) {
		return false, nil
	}
	e, err := t.identify(pid)
	if err != nil {
		return false, gone(err)
	}
	if s.spec.Unit == "" && s.spec.Container == "" && s.spec.Exe == "" && len(s.spec.Runs) == 0 {
		return true, nil
	}
	p, err := proc.Open(pid)
	if err != nil {
		return false, gone(err)
	}
	defer p.Close()
	if p.Start() != e.Start {
		return false, nil
	}
	if s.spec.Unit != "" || s.spec.Container != "" {
		cgroup, err := p.Cgroup()
		if err != nil {
			return false, gone(err)
		}
		if s.spec.Unit != "" && !inUnit(cgroup, s.spec.Unit) || s.spec.Container != "" && !inContainer(cgroup, s.spec.Container) {
			return false, nil
		}
	}
	if s.spec.Exe != "" {
		if ok, err := s.runs(p, here); err != nil || !ok {
			return false, gone(err)
		}
	}
	for _, exe := range s.spec.Runs {
		if ok, err := p.RunsExe(exe); err != nil || ok {
			return ok, gone(err)
		}
	}
	return len(s.spec.Runs) == 0, nil
}

// underRoot tells whether the process is one of the pids of the spec, or
// descends from one and runs the same executable.
func (s *Selector) underRoot(t table, pid int) bool {
	for root := range t.ancestors(pid) {
		start, named := s.roots[root]
		if !named || t[root].Start != start {
			continue
		}
		if root == pid || !s.spec.NoChildren && t.runSame(pid, root) {
			return true
		}
	}
	return false
}

// gone makes nothing of a process that ended while it was looked at, or that
// may not be looked at: it is not a match.
func gone(err error) error {
	if errors.Is(err, proc.ErrGone) || errors.Is(err, proc.ErrNoExe) || errors.Is(err, os.ErrPermission) || errors.Is(err, proc.ErrSlowFile) {
		return nil
	}
	return err
}

// group puts the chosen processes into groups by their topmost chosen ancestor.
func (t table) group(chosen map[int]bool, one bool) []Group {
	byRoot := map[int]Group{}
	for pid := range chosen {
		root := 0
		if !one {
			for a := range t.ancestors(pid) {
				if chosen[a] {
					root = a
				}
			}
		}
		byRoot[root] = append(byRoot[root], t[pid].Process)
	}
	var out []Group
	for _, g := range byRoot {
		slices.SortFunc(g, func(a, b Process) int {
			if d := t.depth(a.Pid) - t.depth(b.Pid); d != 0 {
				return d
			}
			return a.Pid - b.Pid
		})
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b Group) int { return a[0].Pid - b[0].Pid })
	return out
}
