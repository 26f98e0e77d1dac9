package pie

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/autopsy"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// ThreadFinding is where one thread was. Verdict is stable: "ours" (in PIE's code,
// or in the middle of a jump that PIE wrote), "near" (PIE's code is on its stack),
// "moved" (an instruction of the program that PIE had moved: it would have done the
// same in place), "theirs", or "without" (nothing of PIE is in the process).
type ThreadFinding struct {
	Tid     int    `json:"tid"`
	PC      string `json:"pc"` // in hex
	Verdict string `json:"verdict"`
	Where   string `json:"where,omitempty"`
	ID      string `json:"id,omitempty"` // of the prepatch
}

// Autopsy says whether PIE had a part in what became of a process.
type Autopsy struct {
	Pid  int    `json:"pid"`
	Name string `json:"name"` // as the process called itself, or the executable
	Core bool   `json:"core"` // of a core file: the first thread is that which crashed
	// Verdict is that of the thread that crashed; of a live process the gravest.
	Verdict    string           `json:"verdict"`
	Threads    []ThreadFinding  `json:"threads"`
	Prepatches []PrepatchStatus `json:"prepatches"`
	Events     []Event          `json:"events"` // the last ones, oldest first
	Problem    string           `json:"problem,omitempty"`
}

// AutopsyCore reads a core file.
func AutopsyCore(path string) (*Autopsy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, refuse(CodeNoCore, err, "name a core file, or a process by its number", "%v", err)
	}
	defer f.Close()
	c, err := autopsy.Read(f)
	if err != nil {
		return nil, refuse(CodeNoCore, err, "name the core file that the kernel wrote, unpacked", "%s: %v", path, err)
	}
	out := &Autopsy{Pid: c.Pid(), Name: c.Name(), Core: true}
	if err := out.read(c, c.Threads()); err != nil {
		return nil, err
	}
	out.Verdict = out.Threads[0].Verdict
	return out, nil
}

// AutopsyProcess looks at a process that is still there, as one that hangs: it
// stops its threads for as long as it takes to read their registers.
func AutopsyProcess(ctx context.Context, pid int) (*Autopsy, error) {
	p, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	defer p.close()
	threads, err := threadsOf(ctx, p)
	if err != nil {
		return nil, err
	}
	out := &Autopsy{Pid: pid, Name: baseName(p.exe)}
	if err := out.read(p.read, threads); err != nil {
		return nil, explain(err, p.String())
	}
	grave := func(a, b autopsy.Finding) int { return int(a.Verdict) - int(b.Verdict) }
	if found, _ := autopsy.Judge(p.read, threads); len(found) > 0 {
		out.Verdict = slices.MinFunc(found, grave).Verdict.String()
	}
	return out, nil
}

// threadsOf reads where the threads of a process are.
func threadsOf(ctx context.Context, p *process) ([]autopsy.Thread, error) {
	w, err := p.attachable()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	t, err := tracee.NewTracer(tracee.Options{})
	if err != nil {
		return nil, fmt.Errorf("preparing to stop threads: %w", err)
	}
	defer t.Close()
	threads := make([]autopsy.Thread, 0, maxAutopsyThreads)
	_, err = t.StopWorld(ctx, w, nil, func(world *tracee.World) error {
		for _, th := range world.Threads() {
			if len(threads) < cap(threads) {
				threads = append(threads, autopsy.Thread{Tid: th.Tid, PC: th.PC, SP: th.SP})
			}
		}
		return nil
	})
	return threads, explain(err, p.String())
}

// maxAutopsyThreads bounds the threads that are looked at in a live process.
const maxAutopsyThreads = 4096

// read judges the threads, and adds what else is known.
func (a *Autopsy) read(p observe.Process, threads []autopsy.Thread) error {
	found, err := autopsy.Judge(p, threads)
	var corrupt *arena.CorruptError
	switch {
	case errors.As(err, &corrupt):
		a.Problem = corrupt.Error()
	case err != nil:
		return err
	}
	for _, f := range found {
		a.Threads = append(a.Threads, ThreadFinding{f.Thread.Tid, f.Thread.PC.String(), f.Verdict.String(), f.Where, f.ID})
	}
	all, _ := observe.Status(p)
	for _, in := range all {
		a.Prepatches = append(a.Prepatches, describePrepatch(in))
	}
	events, _, _ := observe.Events(p, observe.Cursor{})
	for _, e := range events[max(0, len(events)-lastEvents):] {
		a.Events = append(a.Events, describeEvent(e, a.Pid, a.Name))
	}
	return nil
}

// lastEvents is how many events are told.
const lastEvents = 10
