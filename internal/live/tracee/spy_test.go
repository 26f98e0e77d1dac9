package tracee

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/sweep"
)

// The step sweep: a spy (this test binary under another name) does one
// operation on a victim and kills or stops itself after its Nth request, for
// every N there is. Whatever N is, the victim must live, go on within 0.6 s
// and find nothing wrong with its own results.

const (
	spyName = "pie-spy"
)

// spyMain is the spy: OPERATION PID TID ANSWER N SIGNAL. It says "N NAME"
// just before it dies, and "done NAME…", all its steps, when there is no step N.
func spyMain() bool {
	if os.Args[0] != spyName {
		return false
	}
	names, err := spy(os.Args[1:])
	if err != nil {
		fmt.Println("spy:", err)
		os.Exit(1)
	}
	fmt.Println("done", strings.Join(names, " "))
	return true
}

func spy(args []string) (names []string, err error) {
	var n [5]int
	for i := range n {
		v, err := strconv.Atoi(args[1+i])
		if err != nil {
			return nil, err
		}
		n[i] = v
	}
	pid, tid, answer, step, sig := n[0], n[1], address.Addr(n[2]), n[3], unix.Signal(n[4])
	p, err := Open(pid)
	if err != nil {
		return nil, err
	}
	tr, err := NewTracer(Options{OnStep: func(s Step) {
		names = append(names, s.Name)
		if s.N == step {
			fmt.Println(s.N, s.Name)
			_ = unix.Kill(os.Getpid(), sig)
			time.Sleep(time.Minute) // until the signal is there
		}
	}})
	if err != nil {
		return nil, err
	}
	switch args[0] {
	case "load":
		return names, loadUnderSpy(tr, pid, os.Getenv("PIE_SPY_PIPE"))
	case "attach":
		err := attachTo(tr, p, tid, mapUnmap)
		return names, err
	}
	if args[0] == "alone" {
		if err := tr.Attach(context.Background(), p, unmap(besides(answer))); err != nil {
			return nil, err
		}
		err := tr.Attach(context.Background(), p, mapAndAsk(besides(answer)))
		return names, err
	}
	_, err = tr.StopWorld(context.Background(), p, nil, func(w *World) error { return flipAnswer(w, answer+2) })
	return names, err
}

// flipAnswer changes the number that answer() adds from 1 to 2 or back.
func flipAnswer(w *World, at address.Addr) error {
	var b [1]byte
	if err := w.Read(b[:], at); err != nil {
		return err
	}
	return w.Write(at, []byte{3 - b[0]}, b[:])
}

// sweepCase is one victim that is spied on again and again.
type sweepCase struct {
	sweep.Row
	program string
	every   int // steps from one cell to the next, in CI
}

func (c sweepCase) signal() unix.Signal {
	if c.Death == sweep.Stopped {
		return unix.SIGSTOP
	}
	return unix.SIGKILL
}

// sweepCases are the rows that CI runs, or all of them.
func sweepCases(s *sweep.Sweep) []sweepCase {
	everyKill, everyStop := 1, 5
	if raceEnabled {
		everyKill, everyStop = 4, 9
	}
	var list []sweepCase
	add := func(verb, program, state string, threads int, kill, stop bool) {
		language := map[string]string{"govictim": "Go", mainless: "C, main ended"}[program]
		if language == "" {
			language = "C"
		}
		for _, d := range []struct {
			death sweep.Death
			short bool
			every int
		}{{sweep.Killed, kill, everyKill}, {sweep.Stopped, stop, everyStop}} {
			if d.short || !s.Samples() {
				if threads == 64 {
					d.every *= 16 // a step or more for each thread
				}
				list = append(list, sweepCase{sweep.Row{Verb: verb, Program: language, State: state, Threads: threads, Death: d.death}, program, d.every})
			}
		}
	}
	for _, state := range states {
		short := slices.Contains([]string{"read", "epoll", "nanosleep", "io_uring", "signals", "compute"}, state)
		if state != "clone" && state != "alarm" {
			add("attach", "victim", state, 1, short, state == "read" || state == "compute")
		}
		add("world", "victim", state, 1, short || state == "call", state == "epoll" || state == "call")
		if state != "alarm" {
			add("world", "victim", state, 64, state == "epoll" || state == "io_uring", state == "epoll")
		}
	}
	for _, state := range []string{"read", "epoll", "nanosleep", "compute", "fork", "clone"} {
		add("attach", mainless, state, 4, state == "read" || state == "compute", state == "read")
		add("world", mainless, state, 4, state == "epoll" || state == "clone", state == "epoll")
		add("world", mainless, state, 64, false, false)
	}
	add("alone", "alone", "compute", 1, true, true)
	add("attach", "govictim", "go", 4, true, true)
	add("world", "govictim", "go", 4, true, false)
	for _, state := range []string{"seccomp-allow", "seccomp-errno", "storm", "rseq"} {
		add("attach", "situation", state, 1, state != "seccomp-allow", false)
	}
	add("world", "situation", "storm", 1, false, false)
	add("world", "victim", "spawn", 1, true, false)
	add("world", "victim", "spawn", 64, false, false)
	add("world", "victim", "vfork", 1, true, false)
	add("world", "victim", "vfork", 64, false, false)
	add("world", "victim", "fork", 4, true, false)
	return list
}

func TestStepSweep(t *testing.T) {
	s := sweep.Open(t)
	cases := sweepCases(s)
	for _, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			if s.Wants(c.Row, len(cases), 1) {
				c.run(t, s, len(cases))
			}
		})
	}
}

// run runs the cells of a row in one victim.
func (c sweepCase) run(t *testing.T, s *sweep.Sweep, rows int) {
	t.Helper()
	v := startVictim(t, c.program, c.State, strconv.Itoa(c.Threads), "eintr-allowed")
	if c.program == mainless {
		v.waitMainEnded()
	}
	cells := 0
	if s.Samples() {
		for n := 1; c.inTime(t, s, v, n); n += c.every {
			cells++
		}
		if low := 8 / c.every; cells < low {
			t.Errorf("only %d cells", cells)
		}
	} else {
		all := true
		for _, n := range s.Steps(c.Row, rows, c.rehearse(t, v), 0) {
			if all = !s.Over(); !all {
				break
			}
			if n > 0 && c.inTime(t, s, v, n) {
				cells++
			}
		}
		if all {
			s.RanAll(c.Row)
		}
	}
	_, interrupted := v.report()
	t.Logf("%d cells, %d EINTRs", cells, interrupted)
}

// rehearse returns the steps of a spy that lives.
func (c sweepCase) rehearse(t *testing.T, v *victim) []string {
	t.Helper()
	for range 5 {
		cmd, said, err := c.start(t, v, 0)
		if names, done := strings.CutPrefix(said, "done"); cmd.Wait() == nil && done && err == nil {
			return strings.Fields(names)
		}
	}
	t.Fatalf("five spies did not get through")
	return nil
}

// inTime runs a cell and checks that the victim was not frozen for too long. A
// machine that is busy with other things may be slow once, but not always at
// the same step. False when the spy had fewer steps.
func (c sweepCase) inTime(t *testing.T, s *sweep.Sweep, v *victim, n int) bool {
	t.Helper()
	for attempt := 1; ; attempt++ {
		untouched := v.mustProgress()
		died, took := c.cell(t, v, n)
		if took <= frozen+untouched {
			if died {
				s.Ran(c.Row, n, took)
			}
			return died
		}
		if attempt == 3 {
			t.Fatalf("step %d: the victim was frozen for %v", n, took)
		}
	}
}

// cell runs one spy that dies after step n, and returns how long after that
// the victim went on.
func (c sweepCase) cell(t *testing.T, v *victim, n int) (died bool, took time.Duration) {
	t.Helper()
	cmd, said, err := c.start(t, v, n)
	if err != nil && killed(cmd.Wait()) {
		v.mustProgress()
		return true, frozen + 1 // its watchdog did it before the step: a busy machine
	}
	if err != nil {
		t.Fatalf("step %d: the spy said nothing: %v", n, err)
	}
	if strings.HasPrefix(said, "spy:") && strings.Contains(said, ErrBusy.Error()) {
		_ = cmd.Wait()
		v.mustProgress()
		return true, frozen + 1 // it gave way before the step: a busy machine, too
	}
	if strings.HasPrefix(said, "spy:") {
		t.Fatalf("step %d: %s", n, said)
	}
	took = v.mustProgress()
	done := strings.HasPrefix(said, "done")
	if !done {
		_ = cmd.Process.Kill() // a spy that stopped itself when nobody was stopped
	}
	err = cmd.Wait()
	v.mustProgress()
	if done {
		if err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		return false, 0
	}
	if !killed(err) {
		t.Fatalf("step %d (%s): the spy ended by %v", n, said, err)
	}
	return true, took
}

// Who is ended by the watchdog cannot say why: the watchdog does.
func TestWatchdogSaysWhy(t *testing.T) {
	c := sweepCase{Row: sweep.Row{Verb: "world", State: "read", Death: sweep.Stopped}, program: "victim"}
	v := startVictim(t, c.program, c.State, "1", "eintr-allowed")
	for range 3 {
		for n := range len(c.rehearse(t, v)) {
			cmd, _, _ := c.start(t, v, n+1)
			end := time.AfterFunc(4*frozen, func() { _ = cmd.Process.Kill() })
			err := cmd.Wait()
			if said := fmt.Sprint(cmd.Stderr); !end.Stop() {
				continue // it was stopped while nobody else was
			} else if killed(err) && strings.Contains(said, "watchdog") && strings.Contains(said, fmt.Sprintf("pid %d (victim)", v.pid())) && strings.Contains(said, "pie repair") {
				return
			} else if killed(err) {
				t.Fatalf("step %d: it was ended, and says %q", n+1, said)
			}
		}
	}
	t.Error("the watchdog has ended no spy")
}

// start starts a spy, and returns what it says first.
func (c sweepCase) start(t *testing.T, v *victim, n int) (cmd *exec.Cmd, said string, err error) {
	t.Helper()
	tid := 0
	if c.program != "govictim" && c.program != mainless && c.Verb == "attach" && c.State != "fork" {
		tid = v.worker()
	}
	cmd = &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{spyName, c.Verb, strconv.Itoa(v.pid()), strconv.Itoa(tid),
			strconv.Itoa(int(v.answer)), strconv.Itoa(n), strconv.Itoa(int(c.signal()))},
		Stderr: &bytes.Buffer{}, // where the watchdog says why it ended the spy
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err = bufio.NewReader(out).ReadString('\n')
	return cmd, said, err
}

// killed tells whether a command was ended by SIGKILL.
func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL
}
