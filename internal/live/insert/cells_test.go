package insert

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/sweep"
)

// What the threads of the two programs can be in; and which of it many can be in at one
// time. A process has one alarm(2), and only a few can compute on a few CPUs.
var (
	cStates = []string{
		"read", "poll", "ppoll", "epoll", "epoll_pwait", "select", "futex", "cond", "nanosleep", "nanosleep_abs", "recv", "accept",
		"semop", "semtimedop", "sigtimedwait", "waitpid", "io_getevents", "io_uring", "signals", "vfork", "spawn", "alarm", "compute",
		"compute-zmm", "call", "clone", "fork",
	}
	goStates = []string{
		"read", "poll", "epoll", "select", "futex", "nanosleep", "nanosleep_abs", "recv", "accept", "semtimedop", "sigtimedwait",
		"waitpid", "io_getevents", "io_uring", "signals", "spawn", "clone", "compute", "go", "net",
	}
	mainlessStates = []string{"read", "epoll", "futex", "nanosleep", "waitpid", "compute", "call", "clone", "fork", "vfork"}
	alone          = []string{"alarm"}
)

// group is a victim and all that is done to it.
type group struct {
	program, state string
	threads        int
}

func groups() (list []group) {
	for program, states := range map[string][]string{cProgram: cStates, mainless: mainlessStates, goProgram: goStates} {
		for _, state := range states {
			list = append(list, group{program, state, 1})
			if !slices.Contains(alone, state) && (program != mainless || state == "epoll") {
				list = append(list, group{program, state, 64})
			}
		}
	}
	slices.SortFunc(list, func(a, b group) int { return strings.Compare(a.program+a.state, b.program+b.state) })
	return list
}

// verb is what is swept, and where the process stands when it begins.
type verb struct{ name, spy, from string }

var verbs = []verb{
	{"first insert", "insert", settleOut}, // into a process without an arena
	{"insert", "insert", settleOut},
	{"mode", "mode", settleIn},
	{"remove", "remove", settleIn},
	{"repair", "repair", settleIn}, // of a removal that was killed
}

var deaths = []struct {
	name sweep.Death
	sig  syscall.Signal
}{{sweep.Stopped, unix.SIGSTOP}, {sweep.Killed, unix.SIGKILL}}

// A pie that is killed, or stopped, at any step of any verb, or at any other moment, in
// whatever state the process's threads are, leaves it alive, with every thread going on
// within 0.6 s and every result right; and a fresh pie names what was left, repairs it and
// guards or unguards the process.
func TestCellSweep(t *testing.T) {
	s := sweep.Open(t)
	all := groups()
	rows := len(all) * len(verbs) * len(deaths)
	for _, g := range all {
		t.Run(strings.Join([]string{g.program, g.state, map[int]string{1: "1", 64: "64"}[g.threads]}, "/"), func(t *testing.T) {
			t.Parallel()
			var v *stateVictim
			for _, verb := range verbs {
				for _, death := range deaths {
					r := &cellRow{s, sweep.Row{Verb: verb.name, Program: g.program, State: g.state, Threads: g.threads, Death: death.name}, verb.spy, verb.from, death.sig, 0}
					v = r.run(t, v, rows)
				}
			}
		})
	}
}

// cellRow is a row of the sweep on its way.
type cellRow struct {
	s *sweep.Sweep
	sweep.Row
	spy, from string
	sig       syscall.Signal
	untouched time.Duration // what every thread takes to go on when nobody touches the process
}

// sample is how many cells CI runs of a row: one of the rows with one thread, and of
// some with many; two verbs of each victim.
func (r *cellRow) sample() int {
	if r.Threads > 1 && !slices.Contains([]string{"epoll", "io_uring", "go"}, r.State) {
		return 0
	}
	verb := slices.IndexFunc(verbs, func(v verb) bool { return v.name == r.Verb })
	two := (slices.Index(cStates, r.State) + r.Threads + verb) % len(verbs)
	if stops := r.State == "epoll" || r.State == "go"; two > 1 || r.Death == sweep.Stopped && !stops {
		return 0
	}
	return 1
}

// run runs the row's cells in v, which it starts when it is nil, and returns the victim
// that there is now.
func (r *cellRow) run(t *testing.T, v *stateVictim, rows int) *stateVictim {
	t.Helper()
	fresh := r.Verb == "first insert"
	if !r.s.Wants(r.Row, rows, r.sample()) {
		return v
	}
	if v == nil || fresh {
		v = r.start(t, v)
	}
	r.settle(t, v, r.from)
	names, took := r.rehearse(t, v)
	r.untouched = v.goOn(t)
	all := true
	for _, step := range r.s.Steps(r.Row, rows, names, r.sample()) {
		if all = !r.s.Over(); !all {
			break
		}
		for attempt := 1; ; attempt++ {
			if fresh {
				v = r.start(t, v)
			}
			if r.cell(t, v, step, took) {
				break
			}
			if attempt == 4 {
				t.Fatalf("%v, step %d: frozen, four times", r, step)
			}
			r.settle(t, v, r.from)
			r.untouched = v.goOn(t)
		}
	}
	if all {
		r.s.RanAll(r.Row)
	}
	if !fresh {
		r.settle(t, v, settleOut)
		textEqualsFile(t, v.p)
	}
	return v
}

func (r *cellRow) start(t *testing.T, old *stateVictim) *stateVictim {
	if old != nil {
		old.stop()
	}
	return startStates(t, r.Program, r.State, r.Threads)
}

// settle repairs the process and brings it to where the verb begins. A spy that its own
// watchdog ended is no finding: the machine is busy.
func (r *cellRow) settle(t *testing.T, v *stateVictim, to string) {
	t.Helper()
	for range 5 {
		if _, died := v.startSpy(t, to, 0, unix.SIGKILL); !died {
			v.isGuarded(t, to == settleIn)
			return
		}
	}
	t.Fatalf("%v: five spies did not get through", r)
}

// rehearse returns the steps of the verb, and how long they take.
func (r *cellRow) rehearse(t *testing.T, v *stateVictim) (names []string, took time.Duration) {
	t.Helper()
	for range 5 {
		r.breakOff(t, v)
		began := time.Now()
		spy := v.beginSpy(t, r.spy, 0, r.sig)
		names, done := steps(spy.says(t))
		if took := time.Since(began); spy.wait() == nil && done && len(names) > 0 {
			r.settle(t, v, r.from)
			return names, took
		}
		r.settle(t, v, r.from)
	}
	t.Fatalf("%v: five spies did not get through", r)
	return nil, 0
}

// breakOff leaves a repair something to do: a removal that was killed when it had begun.
func (r *cellRow) breakOff(t *testing.T, v *stateVictim) {
	t.Helper()
	if r.Verb != "repair" {
		return
	}
	for range 5 {
		spy := v.beginSpyAt(t, "remove", "write", unix.SIGKILL) // the first says that it has begun
		_ = spy.says(t)
		_ = spy.wait()
		left, err := observe.Leftovers(v.p)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(left, func(l observe.Leftover) bool { return l.Kind == observe.LeftLeaving }) {
			return
		}
		r.settle(t, v, r.from)
	}
	t.Fatalf("%v: nothing is left of a removal", r)
}

// cell runs one spy that dies after a step, and reports whether the victim went on in
// time; whatever else is wrong fails the test.
func (r *cellRow) cell(t *testing.T, v *stateVictim, step int, duration time.Duration) bool {
	t.Helper()
	r.breakOff(t, v)
	spy := v.beginSpy(t, r.spy, step, r.sig)
	if step == 0 {
		time.Sleep(rand.N(duration + time.Millisecond))
		_ = spy.cmd.Process.Signal(r.sig)
	} else if line := spy.says(t); line == "" {
		_ = spy.wait()
		return false // its watchdog ended it before the step
	}
	took := v.goOnAfter(t, fmt.Sprintf("%v, step %d: ", r, step))
	_ = spy.cmd.Process.Kill() // one that stopped itself when nobody was stopped
	err := spy.wait()
	if err != nil && !endedBySignal(err) {
		t.Fatalf("%v, step %d: the spy ended by %v: %s", r, step, err, spy.errs.String())
	}
	if took > frozenLimit+r.untouched {
		t.Logf("%v, step %d: went on after %v, untouched after %v", r, step, took, r.untouched)
		return false
	}
	if r.sig == unix.SIGSTOP {
		v.goOn(t)
	}
	r.settle(t, v, r.from)
	if err != nil { // else it had done with fewer steps than at first
		r.s.Ran(r.Row, step, took)
	}
	return true
}

func endedBySignal(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled()
}
