package pie

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// process is one pinned process: what reads it, and what may change it.
type process struct {
	pid  int
	exe  string        // path of the executable as its namespace has it, for people
	read *proc.Process // reads only; enough for plan and status
}

// openProcess pins pid for reading.
func openProcess(pid int) (*process, error) {
	if pid == os.Getpid() {
		return nil, selfRefusal(pid)
	}
	r, err := proc.Open(pid)
	if err != nil {
		return nil, explain(err, fmt.Sprintf("pid %d", pid))
	}
	return &process{pid: pid, exe: pathOf(r), read: r}, nil
}

func selfRefusal(pid int) *Refusal {
	return refuse(CodeSelf, tracee.ErrSelf, "run pie in another process than the one to be guarded",
		"pid %d is pie itself", pid)
}

func (p *process) close() { p.read.Close() }

// String is what messages call the process. The name is escaped by who prints.
func (p *process) String() string {
	if p.exe == "" { // a kernel thread, an ended one, one that may not be looked at
		if s, err := p.read.Status(); err == nil {
			return fmt.Sprintf("pid %d (%s)", p.pid, s.Name)
		}
	}
	return fmt.Sprintf("pid %d (%s)", p.pid, baseName(p.exe))
}

// ExeName returns the file name of the executable that process pid runs, as a
// guard's exe= has it. The error is a *Refusal when nobody may know, or there is
// none.
func ExeName(pid int) (string, error) {
	p, err := openProcess(pid)
	if err != nil {
		return "", err
	}
	defer p.close()
	path, _, err := p.read.ExePath()
	if err != nil {
		return "", explain(err, p.String())
	}
	return filepath.Base(path), nil
}

func baseName(path string) string {
	if path == "" {
		return "?"
	}
	return filepath.Base(path)
}

// attachable pins the process for changing it, and checks that it is the same
// process that is read.
func (p *process) attachable() (*tracee.Process, error) { return p.attachableOn(&tracee.Host{}) }

// attachableOn is attachable, for who changes many processes.
func (p *process) attachableOn(on *tracee.Host) (*tracee.Process, error) {
	w, err := on.Open(p.pid)
	if errors.Is(err, tracee.ErrNotAMD64) {
		err = errors.Join(err, p.checkMachine())
	}
	if err != nil {
		return nil, explain(err, p.String())
	}
	if w.Start() != p.read.Start() {
		w.Close()
		return nil, explain(tracee.ErrGone, p.String())
	}
	return w, nil
}

// checkMachine says why the executable is not one that can be guarded.
func (p *process) checkMachine() error {
	f, err := p.read.OpenExe()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = binfile.Open(f, f.Size)
	return err
}

// exePath is the path behind /proc/PID/exe, empty when it cannot be read.
func exePath(pid int) string {
	p, err := proc.Open(pid)
	if err != nil {
		return ""
	}
	defer p.Close()
	return pathOf(p)
}

// pathOf is what exePath is, of a pinned process.
func pathOf(p *proc.Process) string {
	path, deleted, err := p.ExePath()
	switch {
	case err != nil:
		return ""
	case deleted:
		return path + " (deleted)"
	}
	return path
}
