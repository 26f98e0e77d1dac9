package tracee

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// The step sweep: a spy (this test binary under another name) does one
// operation on a victim and kills or stops itself after its Nth request, for
// every N there is. Whatever N is, the victim must live, go on within 0.6 s
// and find nothing wrong with its own results.

const (
	spyName = "pie-spy"
	// sweepVariable, when set, asks for every cell: state × threads × step × death.
	sweepVariable = "PIE_TEST_LONG"
)

// spyMain is the spy: OPERATION PID TID ANSWER N SIGNAL. It says "N NAME"
// just before it dies, and "done" when there is no step N.
func spyMain() bool {
	if os.Args[0] != spyName {
		return false
	}
	if err := spy(os.Args[1:]); err != nil {
		fmt.Println("spy:", err)
		os.Exit(1)
	}
	fmt.Println("done")
	return true
}

func spy(args []string) error {
	var n [5]int
	for i := range n {
		v, err := strconv.Atoi(args[1+i])
		if err != nil {
			return err
		}
		n[i] = v
	}
	pid, tid, answer, step, sig := n[0], n[1], address.Addr(n[2]), n[3], unix.Signal(n[4])
	p, err := Open(pid)
	if err != nil {
		return err
	}
	tr, err := NewTracer(Options{OnStep: func(s Step) {
		if s.N == step {
			fmt.Println(s.N, s.Name)
			_ = unix.Kill(os.Getpid(), sig)
			time.Sleep(time.Minute) // until the signal is there
		}
	}})
	if err != nil {
		return err
	}
	if args[0] == "attach" {
		return attachTo(tr, p, tid, mapUnmap)
	}
	_, err = tr.StopWorld(context.Background(), p, nil, func(w *World) error { return flipAnswer(w, answer+2) })
	return err
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
	operation string // attach or world
	program   string
	state     string
	threads   string
	signal    unix.Signal
	every     int // steps from one cell to the next
}

func (c sweepCase) String() string {
	how := "kill"
	if c.signal == unix.SIGSTOP {
		how = "stop"
	}
	return strings.Join([]string{c.operation, c.program, c.state, c.threads, how}, "/")
}

func sweepCases() []sweepCase {
	full := os.Getenv(sweepVariable) != ""
	everyKill, everyStop := 1, 5
	if full {
		everyStop = 1
	} else if raceEnabled {
		everyKill, everyStop = 4, 9
	}
	var list []sweepCase
	add := func(operation, program, state, threads string, kill, stop bool) {
		if full || kill {
			list = append(list, sweepCase{operation, program, state, threads, unix.SIGKILL, everyKill})
		}
		if full || stop {
			list = append(list, sweepCase{operation, program, state, threads, unix.SIGSTOP, everyStop})
		}
	}
	for _, state := range states {
		short := state == "read" || state == "epoll" || state == "nanosleep" || state == "compute"
		if state != "clone" && state != "alarm" {
			add("attach", "victim", state, "1", short, state == "read" || state == "compute")
		}
		add("world", "victim", state, "1", short || state == "call", state == "epoll" || state == "call")
		if full && state != "alarm" && state != "compute" && state != "call" {
			add("world", "victim", state, "64", false, false)
		}
	}
	add("attach", "govictim", "go", "4", true, true)
	add("world", "govictim", "go", "4", true, false)
	for _, state := range []string{"seccomp-allow", "seccomp-errno", "storm", "rseq"} {
		add("attach", "situation", state, "1", state != "seccomp-allow", false)
	}
	add("world", "situation", "storm", "1", false, false)
	add("world", "victim", "spawn", "1", true, false)
	add("world", "victim", "vfork", "1", true, false)
	add("world", "victim", "fork", "4", true, false)
	return list
}

// sweepTable collects what a sweep did, for docs/sweep.md.
type sweepTable struct {
	mu   sync.Mutex
	rows []string
}

func (s *sweepTable) add(c sweepCase, cells, steps int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how := map[unix.Signal]string{unix.SIGKILL: "killed", unix.SIGSTOP: "stopped"}[c.signal]
	s.rows = append(s.rows, fmt.Sprintf("| %s | %s | %s | %s | %s | %d of %d |", c.operation, c.state, c.program, c.threads, how, cells, steps))
}

// String is a table in Markdown.
func (s *sweepTable) String() string {
	slices.Sort(s.rows)
	return "| operation | state | program | threads | the tracer is | steps |\n|---|---|---|---|---|---|\n" + strings.Join(s.rows, "\n")
}

func TestStepSweep(t *testing.T) {
	var table sweepTable
	t.Cleanup(func() { t.Logf("\n%v", &table) })
	for _, c := range sweepCases() {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			v := startVictim(t, c.program, c.state, c.threads, "eintr-allowed")
			cells, n := 0, 1
			for ; c.inTime(t, v, n); n += c.every {
				cells++
			}
			table.add(c, cells, n-1)
			if low := 8 / c.every; cells < low {
				t.Errorf("only %d cells", cells)
			}
			_, interrupted := v.report()
			t.Logf("%d cells, %d EINTRs", cells, interrupted)
		})
	}
}

// inTime runs a cell and checks that the victim was not frozen for too long. A
// machine that is busy with other things may be slow once, but not always at
// the same step. False when the spy had fewer steps.
func (c sweepCase) inTime(t *testing.T, v *victim, n int) bool {
	t.Helper()
	for attempt := 1; ; attempt++ {
		died, took := c.cell(t, v, n)
		if took <= frozen {
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
	tid := 0
	if c.program != "govictim" && c.operation == "attach" && c.state != "fork" {
		tid = v.worker()
	}
	cmd := exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{spyName, c.operation, strconv.Itoa(v.pid()), strconv.Itoa(tid),
			strconv.Itoa(int(v.answer)), strconv.Itoa(n), strconv.Itoa(int(c.signal))},
		Stderr: os.Stderr,
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && killed(cmd.Wait()) {
		v.mustProgress()
		return true, frozen + 1 // its watchdog did it before the step: a busy machine
	}
	if err != nil {
		t.Fatalf("step %d: the spy said nothing: %v", n, err)
	}
	if strings.HasPrefix(said, "spy:") {
		t.Fatalf("step %d: %s", n, said)
	}
	took = v.mustProgress()
	if said != "done\n" {
		_ = cmd.Process.Kill() // a spy that stopped itself when nobody was stopped
	}
	err = cmd.Wait()
	v.mustProgress()
	if said == "done\n" {
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

// killed tells whether a command was ended by SIGKILL.
func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL
}
