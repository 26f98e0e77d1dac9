package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/gate"
	"github.com/patch-integration-engine/pie/internal/operate/target"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// rehold makes the gate hold what the rules and the files on disk say now. One that
// runs is told of other files; other prepatches take a new gate, which is there before
// the old one goes.
func (a *Agent) rehold() {
	a.watch.forget()
	if a.c.PollOnly {
		return
	}
	config := a.gateConfig()
	a.dirs.watchAll(config.Files)
	rules, files := describeRules(config), describeFiles(config)
	switch {
	case a.gate != nil && rules == a.gateFor.rules && files == a.gateFor.files:
		return
	case len(config.Prepatches) == 0, len(config.Files) == 0 && a.gate == nil:
		a.closeGate()
		return
	case a.gate == nil || rules != a.gateFor.rules || a.gate.Update(config.Files) != nil:
		if !a.newGate(config) {
			return
		}
	}
	a.gateFor = held{rules, files}
	a.holds, a.named = map[[2]uint64]bool{}, nil
	for _, f := range config.Files {
		a.holds[[2]uint64{f.Dev, f.Inode}] = true
		a.named = append(a.named, f.Path)
	}
}

// held is what a gate was made for, and what it was told last.
type held struct{ rules, files string }

// holding tells whether the gate holds a file: one that it was told of, or one that has
// just come to a path of those.
func (a *Agent) holding(id [2]uint64) bool {
	if a.gate == nil || a.watch.knowsIrrelevant(id) {
		return false
	}
	for _, path := range a.named {
		var st unix.Stat_t
		if !a.holds[id] && unix.Stat(path, &st) == nil && id == [2]uint64{st.Dev, st.Ino} {
			a.holds[id] = true
		}
	}
	return a.holds[id]
}

// newGate starts another gate in place of the one there is. Its workers compile first,
// so questions are answered meanwhile.
func (a *Agent) newGate(config gate.Config) bool {
	var g *gate.Gate
	var err error
	started := make(chan struct{})
	go func() {
		defer close(started)
		g, err = gate.Start(config)
	}()
	a.answerUntil(started)
	a.closeGate()
	if err != nil {
		if a.gateErr == nil {
			a.log.Warn("new processes are not held until they are guarded; the unguarded window is measured", "reason", err)
		}
		a.gateErr = err
		return false
	}
	a.gate, a.gateErr = g, nil
	a.tellHeld(g.Marked)
	return true
}

// tellHeld says what is held from now on and, the first time, what makes a hold slower
// on this machine.
func (a *Agent) tellHeld(executables int) {
	a.log.Info("new processes are held until they are guarded", "executables", executables, "limit_ms", gate.MaxLimit.Milliseconds())
	if a.toldFollowed {
		return
	}
	a.toldFollowed = true
	if why := pie.FollowedByCalls(); why != "" {
		a.log.Warn("holds take longer on this machine", "reason", why)
	}
}

func (a *Agent) closeGate() {
	if a.gate == nil {
		return
	}
	a.gate.Close()
	go func(old *gate.Gate) {
		for range old.Reports() { // until it has ended
		}
	}(a.gate)
	a.gate = nil
}

// reports are the gate's; nil, which never tells anything, without a gate.
func (a *Agent) reports() <-chan gate.Report {
	if a.gate == nil {
		return nil
	}
	return a.gate.Reports()
}

// describeRules is equal for configurations that one gate can serve.
func describeRules(c gate.Config) string {
	var b strings.Builder
	for _, p := range c.Prepatches {
		fmt.Fprintln(&b, p.ID, contentsOf(p.Sources, p.Fingerprints), p.Audit, p.Partial, p.Where.Unit, p.Where.Container)
	}
	return b.String()
}

// describeFiles is equal for equal files.
func describeFiles(c gate.Config) string {
	var b strings.Builder
	for _, f := range c.Files {
		fmt.Fprintln(&b, f.Dev, f.Inode, f.Use)
	}
	return b.String()
}

// gateConfig lists the executables that active rules name, as they are now. Rules
// that any program may be about have none: nobody may hold them all.
func (a *Agent) gateConfig() gate.Config {
	c := gate.Config{Limit: gate.MaxLimit}
	at := map[[2]uint64]int{}
	for _, r := range a.active() {
		if len(r.names()) == 0 {
			continue
		}
		files := a.executablesOf(r)
		c.Prepatches = append(c.Prepatches, gate.Prepatch{
			ID: r.ID, Sources: r.prepatch.files, Fingerprints: r.prepatch.fingerprints,
			Where: target.Spec{Unit: r.Where.Unit, Container: r.Where.Container},
			Audit: r.Mode == pie.ModeAudit, Partial: r.Partial, Build: a.c.Version,
		})
		for _, f := range files {
			id := [2]uint64{f.Dev, f.Inode}
			i, ok := at[id]
			if !ok {
				i = len(c.Files)
				at[id] = i
				c.Files = append(c.Files, f)
			}
			c.Files[i].Use = append(c.Files[i].Use, len(c.Prepatches)-1)
		}
	}
	return c
}

// searched is where an executable that a rule names without a path is looked for,
// besides where it runs.
var searched = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// names are the executables that a rule is about, as it or its prepatch names them.
func (r *rule) names() []string {
	if r.Where.Exe != "" {
		return []string{r.Where.Exe}
	}
	return r.prepatch.executables()
}

// executablesOf finds the files that a rule's executable names mean: at their
// path, in the usual folders, and where they run now.
func (a *Agent) executablesOf(r *rule) []gate.File {
	var files []gate.File
	add := func(path string) {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			return
		}
		if !slices.ContainsFunc(files, func(f gate.File) bool { return f.Dev == st.Dev && f.Inode == st.Ino }) {
			files = append(files, gate.File{Path: path, Dev: st.Dev, Inode: st.Ino})
		}
	}
	for _, name := range r.names() {
		if filepath.IsAbs(name) {
			add(name)
			continue
		}
		for _, dir := range searched {
			add(filepath.Join(dir, name))
		}
	}
	for k, p := range a.kept {
		if k.id == r.ID && p.State != Fixed {
			if path := exeOf(k.pid); path != "" && sameFile(path, k.pid) {
				add(path)
			}
		}
	}
	slices.SortFunc(files, func(x, y gate.File) int { return strings.Compare(x.Path, y.Path) })
	return files
}

// sameFile tells whether a path, which a process chose, leads from our root to what
// it runs. On the way nobody is asked who serves a file system.
func sameFile(path string, pid int) bool {
	self, err := proc.Open(os.Getpid())
	if err != nil {
		return false
	}
	defer self.Close()
	here, err := self.IdentityInRoot(path)
	if err != nil {
		return false
	}
	there, err := proc.ExeOf(pid)
	return err == nil && here == there
}

func exeOf(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return path
}

// gateSays takes a report of the gate; ok is false when it has ended.
func (a *Agent) gateSays(r gate.Report, ok bool) {
	if !ok {
		a.gate = nil
		a.log.Error("the gate ended; it is started again")
		a.rehold()
		return
	}
	a.longestHold = max(a.longestHold, r.Held)
	switch r.Kind {
	case gate.Guarded:
		a.Stats.held(r.Held)
		a.Stats.window(r.Window)
		a.Stats.pause(r.Pause)
		if r.Window > 0 {
			a.starts.Late++
			a.starts.LateGuarded++
			a.mayHaveForked(a.rulesOf(r.ID)...)
		} else {
			a.starts.Guarded++
		}
		a.guardedByGate(r)
	case gate.Late:
		a.Stats.held(r.Held)
		a.starts.Late++
		a.log.Warn("a process was let go of before it was guarded", "pid", r.Pid, "held_ms", r.Held.Milliseconds())
		a.gaveUp(groupOf(r.Pid))
	case gate.Refused:
		a.starts.Late++
		a.log.Warn("a held process was not guarded", "prepatch", r.ID, "pid", r.Pid, "code", r.Code, "error", r.Error)
		a.gaveUp(groupOf(r.Pid))
	case gate.Ready:
		a.gate.Marked = r.Marked
		a.tellHeld(r.Marked)
	case gate.Lost:
		a.lostReports(r)
	case gate.Broken:
		a.log.Error("gate", "error", r.Error)
	}
}

// rulesOf are the rules in force for a prepatch.
func (a *Agent) rulesOf(id string) []*rule {
	return slices.DeleteFunc(a.active(), func(r *rule) bool { return r.ID != id })
}

// lostReports takes note that the gate could not tell of some starts: that it was so is
// told, and a pass finds who still runs.
func (a *Agent) lostReports(r gate.Report) {
	a.missed = true
	a.starts.Guarded += r.Guarded
	a.starts.Late += r.Late
	a.starts.LateEnded += r.Late // or is found by the pass
	a.log.Warn("starts of which nothing else is told", "guarded_before_they_ran", r.Guarded, "let_go_of", r.Late)
}

// guardedByGate notes a process that the gate guarded. One that has ended since is
// logged alone: what ran for milliseconds was guarded, too.
func (a *Agent) guardedByGate(r gate.Report) {
	k, ok := a.keyOf(r.Pid, r.ID)
	if !ok {
		msg := "guarded before it ran"
		if r.Window > 0 {
			msg = Guarded
		}
		a.log.Info(msg, "prepatch", r.ID, "pid", r.Pid, "ended", true)
		return
	}
	a.outdate(k)
	a.note(k, &Process{ID: r.ID, Pid: r.Pid, Exe: exeOf(r.Pid), State: Guarded, Held: r.Window == 0, Hold: r.Held, Window: r.Window, Since: time.Now()})
}

// groupOf is the process of a thread.
func groupOf(tid int) int {
	p, err := proc.Open(tid)
	if err != nil {
		return tid
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return tid
	}
	return st.Tgid
}
