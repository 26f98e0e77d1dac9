// Package gate holds new processes until they are guarded, so that a guard is in
// before the first instruction of the program runs.
//
// Four kinds of process take part, so that none can hold a program for long:
//
//	agent    says which executables and which prepatches, and listens
//	gate     has the fanotify group; answers "allow", always and in time
//	second   ends a gate that does not answer
//	workers  seize the thread, insert, let go; one process each at a time
//
// The kernel keeps a thread that executes a marked file inside execve(2)
// (FAN_OPEN_EXEC_PERM) until the gate answers; programs whose files are not marked
// wait for nobody, unless they are new in the folder of one that is, which the gate
// answers at once. The gate first has a worker
// seize the thread, which stops nobody, and answers as soon as that is done. The
// gap between this open of the file and the mapping of it is so closed: a seized
// thread reports its exec before it runs anything of the new program, and
// stands still there until the worker has put the guards in (tracee.Held).
//
// An exec that the workers are not likely to come to in time, as more start at once than
// they can guard, is let go of at once, and told: the agent guards it as it runs (forecast.go).
// A worker that is not done in time lets the process go and guards it as it runs;
// how long that took is reported. Limit after the event, the gate answers whatever
// has become of it, and kills a worker that still holds: the death of a tracer
// lets go of what it holds, guarded or as it was. A process that was let go of so
// is reported as late, and the agent guards it.
//
// The agent is not needed for any of this; it may
// be stopped. If it ends, gate, second and workers end. If the gate dies, the kernel
// allows all that wait. If it is stopped, its second ends it (second.go).
//
// A file that replaces a held one is held from its first start on (executables.go),
// and the gate can be told of other files. Other prepatches take another gate, which is
// ready before the old one is closed.
package gate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/operate/target"
)

// MaxLimit is the longest time a process may be held.
const MaxLimit = 50 * time.Millisecond

// Config is what a gate is made for.
type Config struct {
	Limit      time.Duration // how long a process is held at most; at most MaxLimit
	Files      []File
	Prepatches []Prepatch
	Workers    int // 0: as many as there are processors, at most maxWorkers
}

func (c Config) workers() int {
	if c.Workers > 0 {
		return min(c.Workers, maxWorkers)
	}
	return min(runtime.NumCPU(), maxWorkers)
}

// File is an executable to be held.
type File struct {
	Path       string // leads to it now
	Dev, Inode uint64 // as stat(2) gives them: what is at Path must be this
	Use        []int  // indices of Config.Prepatches
}

// Prepatch is one prepatch as source: the worker compiles and verifies it itself.
type Prepatch struct {
	ID           string
	Sources      map[string][]byte
	Fingerprints map[string][]byte // by the name the directives give them
	Where        target.Spec       // further conditions: Unit and Container
	Audit        bool
	Partial      bool
	Build        string
}

// Kinds of a Report.
const (
	Ready       = "ready"       // the executables are marked
	Unavailable = "unavailable" // processes cannot be held on this machine
	Guarded     = "guarded"     // a process was guarded before it ran
	Refused     = "refused"     // a process could not be guarded
	Late        = "late"        // a process was let go of before it was guarded
	Broken      = "broken"      // something is wrong with gate or worker
	Lost        = "lost"        // reports could not be told: look at all processes
)

// Report is what a gate tells the agent.
type Report struct {
	Kind   string        `json:"kind"`
	Pid    int           `json:"pid,omitempty"`
	ID     string        `json:"id,omitempty"`
	Code   string        `json:"code,omitempty"` // of a refusal
	Error  string        `json:"error,omitempty"`
	Held   time.Duration `json:"held_ns,omitempty"` // from its exec to its first instruction, or to when it was let go of
	Pause  time.Duration `json:"pause_ns,omitempty"`
	Window time.Duration `json:"window_ns,omitempty"` // how long it ran before it was guarded, when the limit was over
	Marked int           `json:"marked,omitempty"`
	Notes  []string      `json:"notes,omitempty"`
	// Of those that are lost: starts guarded before they ran, and starts let go of.
	Guarded int `json:"guarded,omitempty"`
	Late    int `json:"late,omitempty"`
}

// ErrUnavailable says that processes cannot be held on this machine.
var ErrUnavailable = errors.New("new processes cannot be held")

// Gate is a running gate and its worker.
type Gate struct {
	reports chan Report
	control *os.File
	process *exec.Cmd
	Marked  int // executables
}

// startTime bounds how long a gate may take to mark its executables.
const startTime = 2 * readyTime

// Start starts a gate and waits until its executables are marked. The error
// wraps ErrUnavailable when the kernel does not let it.
func Start(c Config) (*Gate, error) {
	config, err := configFile(c)
	if err != nil {
		return nil, err
	}
	defer config.Close()
	theirs, control, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	g := &Gate{reports: make(chan Report, 1024), control: control}
	g.process = command(gateName, config, theirs)
	// A goroutine that starts a process keeps its processor until that has executed, and so
	// would a collection of memory keep all others: there are processors left for those who
	// answer, and hardly a collection.
	g.process.Env = append(g.process.Env, "GOMAXPROCS=4", "GOGC=off", "GOMEMLIMIT=16MiB")
	out, err := g.process.StdoutPipe()
	if err == nil {
		err = g.process.Start()
	}
	if err != nil {
		control.Close()
		return nil, fmt.Errorf("starting the gate: %w", err)
	}
	first := make(chan Report, 1)
	go g.listen(out, first)
	return g, g.awaitReady(first)
}

// configFile puts the configuration into memory that gate and worker inherit.
func configFile(c Config) (*os.File, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("pie-gate", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "config")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// command is this executable under another name, in a session of its own. Its
// descriptors from 3 on are files.
func command(name string, files ...*os.File) *exec.Cmd {
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{name}, Dir: "/", ExtraFiles: files,
		Env:         []string{"GOTRACEBACK=none", "GOMAXPROCS=2"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
}

func (g *Gate) awaitReady(first chan Report) error {
	var r Report
	select {
	case r = <-first:
	case <-time.After(startTime):
		r = Report{Kind: Broken, Error: fmt.Sprintf("no answer within %v", startTime)}
	}
	switch r.Kind {
	case Ready:
		g.Marked = r.Marked
		return nil
	case Unavailable:
		g.Close()
		return fmt.Errorf("%w: %s", ErrUnavailable, r.Error)
	}
	g.Close()
	return fmt.Errorf("starting the gate: %s", r.Error)
}

// maxReport bounds one line of a gate, in bytes.
const maxReport = 64 << 10

// listen passes on what the gate says until it ends. A reader that does not keep
// up has the pipe fill, and the gate count what it cannot tell; it is never held up.
func (g *Gate) listen(out io.Reader, first chan<- Report) {
	defer close(g.reports)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxReport)
	for lines.Scan() {
		var r Report
		if json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &r) != nil {
			continue
		}
		if first != nil {
			first <- r
			first = nil
			continue
		}
		g.reports <- r
	}
	if first != nil {
		first <- Report{Kind: Broken, Error: "it ended at once"}
	}
	_ = g.process.Wait()
}

// Reports tells what becomes of held processes. It is closed when the gate ends, and is
// to be read until then.
func (g *Gate) Reports() <-chan Report { return g.reports }

// Pid returns the gate's process.
func (g *Gate) Pid() int { return g.process.Process.Pid }

// orderTime bounds how long a gate may take to read what it is told.
const orderTime = time.Second

// Update makes the gate hold these files instead, for the prepatches that it has. A
// report of kind Ready says how many were marked.
func (g *Gate) Update(files []File) error {
	b, err := json.Marshal(update{files})
	if err == nil {
		_ = g.control.SetWriteDeadline(time.Now().Add(orderTime))
		_, err = g.control.Write(b)
	}
	if err != nil {
		return fmt.Errorf("telling the gate of other files: %w", err)
	}
	return nil
}

// Close ends gate and worker: nothing is held any more.
func (g *Gate) Close() { g.control.Close() }
