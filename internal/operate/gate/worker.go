package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/target"
)

// job is one exec for the worker, or files that it shall read beforehand.
type job struct {
	Learn  []File        `json:"learn,omitempty"`
	Seq    int           `json:"seq"`
	Tid    int           `json:"tid"`
	Use    []int         `json:"use"`
	Within time.Duration `json:"within"`
}

// answer is what the worker says of a job: first that the thread may go on, then
// that it is done. Ready comes before the first job, and when files were read.
type answer struct {
	Ready   bool     `json:"ready,omitempty"`
	Seq     int      `json:"seq"`
	LetGo   bool     `json:"let_go,omitempty"` // the process runs; guarding it goes on
	Done    bool     `json:"done,omitempty"`
	Reports []Report `json:"reports,omitempty"`
}

// maxMessage bounds a job or an answer, in bytes.
const maxMessage = 64 << 10

// worker is the gate's side of a worker process. The gate's own goroutine alone
// uses it.
type worker struct {
	process  *exec.Cmd // nil until the first start
	socket   int
	ready    bool
	began    time.Time
	at       *hold  // what it is at; nil while it waits
	learn    []File // that it is still to be told of
	learning bool
}

// begun is a process that was started for a worker.
type begun struct {
	process *exec.Cmd
	socket  int
	at      time.Time
}

// begin starts a worker process. It takes milliseconds, on a busy machine many of them,
// so the gate's own goroutine does not wait for it.
func begin(config *os.File) (b begun, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return b, fmt.Errorf("socket of the worker: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "jobs")
	defer theirs.Close()
	b = begun{process: command(workerName, config, theirs), socket: pair[0], at: time.Now()}
	// The socket's end tells a worker that its gate is gone, but not one that is
	// stopped, which would hold for ever what it has stopped itself. The signal
	// comes with the end of the thread that started it (prctl(2)).
	b.process.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := ordinarily(b.process.Start); err != nil {
		unix.Close(pair[0])
		return b, fmt.Errorf("starting the worker: %w", err)
	}
	return b, nil
}

// take makes the process the worker's; what it says goes to answers.
func (w *worker) take(b begun, answers chan<- said) {
	w.process, w.socket, w.ready, w.began = b.process, b.socket, false, b.at
	go w.listen(b.process, b.socket, answers)
}

func (w *worker) listen(process *exec.Cmd, socket int, answers chan<- said) {
	buf := make([]byte, maxMessage)
	for {
		n, err := unix.Read(socket, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		var m answer
		if err != nil || n == 0 || json.Unmarshal(buf[:n], &m) != nil {
			break
		}
		answers <- said{answer: m, worker: w}
	}
	_ = process.Process.Kill()
	_ = process.Wait()
	answers <- said{worker: w, ended: true}
}

// close is for the gate's own goroutine, when the process has ended: until then it
// may send, and the number of a closed socket may be that of another file.
func (w *worker) close() { unix.Close(w.socket) }

// kill ends the process, which lets go of what it holds, such as thread held. It returns the
// thread that traces that, or nobody.
func (w *worker) kill(held int) (tracer int) {
	w.ready = false
	if w.process == nil {
		return nobody
	}
	tracer = w.hasten(held)
	_ = w.process.Process.Kill()
	return tracer
}

func (w *worker) send(j job) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = unix.Write(w.socket, b)
	return err
}

// hands is the worker process.
type hands struct {
	engine     *pie.Engine
	prepatches []ready
}

// ready is a prepatch that can be inserted, or why it cannot.
type ready struct {
	early pie.Early
	where *target.Selector // nil without conditions beside the executable
	err   error
}

// work is the worker process's main function. It ends with its socket.
func work() int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGTSTP, unix.SIGPIPE)
	unix.CloseOnExec(configFD)
	unix.CloseOnExec(jobsFD)
	c, err := readConfig()
	if err != nil {
		return 1
	}
	h := &hands{}
	if h.engine, err = pie.NewEngine(); err != nil {
		return 1
	}
	defer h.engine.Close()
	h.prepare(c)
	debug.FreeOSMemory()
	h.practise() // behind it: memory that is used again is there, and costs no page faults
	hurry(-20)   // now only: who takes the place of one that was killed compiles while others start
	if say(answer{Ready: true}) != nil {
		return 1
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := unix.Read(jobsFD, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		var j job
		if err != nil || n == 0 || json.Unmarshal(buf[:n], &j) != nil {
			return 0
		}
		out := answer{Ready: true}
		if len(j.Learn) > 0 {
			h.read(j.Learn)
		} else {
			out = h.do(j)
		}
		if say(out) != nil {
			return 0
		}
	}
}

func say(a answer) error {
	b, err := json.Marshal(a)
	if err == nil {
		_, err = unix.Write(jobsFD, b)
	}
	return err
}

// prepare compiles the prepatches, and reads the executables beforehand: what is
// known of them need not be looked for while a process is held.
func (h *hands) prepare(c Config) {
	for _, p := range c.Prepatches {
		h.prepatches = append(h.prepatches, load(p))
	}
	h.read(c.Files)
}

func (h *hands) read(files []File) {
	for _, f := range files {
		for _, i := range f.Use {
			if i >= 0 && i < len(h.prepatches) && h.prepatches[i].err == nil {
				h.engine.Prepare(f.Path, h.prepatches[i].early.Prepatch)
			}
		}
	}
}

func load(p Prepatch) (r ready) {
	r.early.Options = pie.Options{Mode: pie.ModeEnforce, Partial: p.Partial, Build: p.Build}
	if p.Audit {
		r.early.Options.Mode = pie.ModeAudit
	}
	if r.early.Prepatch, r.err = pie.Load(p.Sources); r.err != nil {
		return r
	}
	for name, data := range p.Fingerprints {
		if err := r.early.Prepatch.UseFingerprint(name, data); err != nil {
			r.err = err
			return r
		}
	}
	if where := (target.Spec{Unit: p.Where.Unit, Container: p.Where.Container}); where.Given() {
		r.where, r.err = target.New(where)
	}
	return r
}

// spare is how long before the gate would kill it a worker lets go by itself. It
// guards the process as it runs then, for which it has workTime.
const (
	spare    = 7 * time.Millisecond
	workTime = time.Second
)

// do guards the process that thread j.Tid is about to make.
func (h *hands) do(j job) answer {
	out := answer{Seq: j.Seq, Done: true}
	ctx, cancel := context.WithTimeout(context.Background(), workTime)
	defer cancel()
	var all []pie.Early
	for _, i := range j.Use {
		if i < 0 || i >= len(h.prepatches) {
			continue
		}
		p := h.prepatches[i]
		if p.where != nil {
			if ok, err := p.where.Has(j.Tid); err != nil || !ok {
				continue
			}
		}
		if p.err == nil {
			all = append(all, p.early)
		}
	}
	if len(all) == 0 {
		return out
	}
	allow := func() { _ = say(answer{Seq: j.Seq}) }
	letGo := func() { _ = say(answer{Seq: j.Seq, LetGo: true}) }
	for _, g := range h.engine.GuardExec(ctx, j.Tid, allow, j.Within-spare, letGo, all) {
		out.Reports = append(out.Reports, reportOf(g))
	}
	return out
}

// reportOf says what became of one prepatch in a held process.
func reportOf(g pie.EarlyReport) Report {
	r := Report{Kind: Guarded, Pid: g.Pid, ID: g.ID, Pause: g.Pause, Window: g.Window, Notes: g.Notes}
	code := pie.ReasonOf(g.Err)
	switch {
	case errors.Is(g.Err, context.DeadlineExceeded), code == pie.CodeInterrupted, code == pie.CodeStale, code == pie.CodeNoProcess, code == pie.CodeKernelThread:
		r.Kind, r.Error = Late, g.Err.Error()
	case g.Err != nil:
		r.Kind, r.Error, r.Code = Refused, g.Err.Error(), string(code)
	}
	return r
}
