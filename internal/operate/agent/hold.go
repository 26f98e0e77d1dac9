package agent

import (
	"context"
	"encoding/hex"
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

// rehold makes the gate hold what the rules and the files on disk say now. The
// new gate is there before the old one goes.
func (a *Agent) rehold() {
	a.watch.forget()
	if a.c.PollOnly {
		return
	}
	config := a.gateConfig()
	a.dirs.watchAll(config.Files)
	want := describe(config)
	if want == a.gateFor && a.gate != nil {
		return
	}
	if len(config.Files) == 0 {
		a.closeGate()
		a.gateFor = want
		return
	}
	g, err := gate.Start(config)
	if err != nil {
		if a.gateErr == nil {
			a.log.Warn("new processes are not held until they are guarded; the unguarded window is measured", "reason", err)
		}
		a.gateErr = err
		a.closeGate()
		return
	}
	a.closeGate()
	a.gate, a.gateFor, a.gateErr = g, want, nil
	a.holds = map[[2]uint64]bool{}
	for _, f := range config.Files {
		a.holds[[2]uint64{f.Dev, f.Inode}] = true
	}
	a.log.Info("new processes are held until they are guarded", "executables", g.Marked, "limit_ms", gate.MaxLimit.Milliseconds())
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

// describe is equal for equal configurations.
func describe(c gate.Config) string {
	var b strings.Builder
	for _, f := range c.Files {
		fmt.Fprintln(&b, f.Dev, f.Inode, f.Use)
	}
	for _, p := range c.Prepatches {
		h := pie.HashOf(p.Sources)
		fmt.Fprintln(&b, p.ID, hex.EncodeToString(h[:]), p.Audit, p.Partial, p.Where.Unit, p.Where.Container)
	}
	return b.String()
}

// gateConfig lists the executables that active rules name, as they are now.
func (a *Agent) gateConfig() gate.Config {
	c := gate.Config{Limit: gate.MaxLimit}
	at := map[[2]uint64]int{}
	for _, r := range a.active() {
		files := a.executablesOf(r)
		if len(files) == 0 {
			continue
		}
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
	names := r.prepatch.executables()
	if r.Where.Exe != "" {
		names = []string{r.Where.Exe}
	}
	for _, name := range names {
		if filepath.IsAbs(name) {
			add(name)
			continue
		}
		for _, dir := range searched {
			add(filepath.Join(dir, name))
		}
	}
	if len(names) == 0 {
		return files // any program: nobody may hold them all
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

// sameFile tells whether a path of ours leads to what a process runs.
func sameFile(path string, pid int) bool {
	var here, there unix.Stat_t
	return unix.Stat(path, &here) == nil && unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &there) == nil &&
		here.Dev == there.Dev && here.Ino == there.Ino
}

func exeOf(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return path
}

// gateSays takes a report of the gate; ok is false when it has ended.
func (a *Agent) gateSays(ctx context.Context, r gate.Report, ok bool) {
	if !ok {
		a.gate, a.gateFor = nil, ""
		a.log.Error("the gate ended; it is started again")
		a.rehold()
		return
	}
	switch r.Kind {
	case gate.Guarded:
		if r.Window == 0 {
			a.Stats.held(r.Held)
		} else {
			a.Stats.late()
			a.Stats.window(r.Window)
		}
		a.Stats.pause(r.Pause)
		if k, ok := a.keyOf(r.Pid, r.ID); ok {
			delete(a.kept, k)
			a.note(k, &Process{ID: r.ID, Pid: r.Pid, Exe: exeOf(r.Pid), State: Guarded, Held: r.Window == 0, Window: r.Window, Since: time.Now()})
		}
	case gate.Late:
		a.Stats.late()
		a.log.Warn("a process was let go of before it was guarded", "pid", r.Pid, "held_ms", r.Held.Milliseconds())
		a.gaveUp(ctx, groupOf(r.Pid))
	case gate.Refused:
		a.log.Warn("a held process was not guarded", "prepatch", r.ID, "pid", r.Pid, "code", r.Code, "error", r.Error)
		a.gaveUp(ctx, groupOf(r.Pid))
	case gate.Lost:
		a.missed = true
	case gate.Broken:
		a.log.Error("gate", "error", r.Error)
	}
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
