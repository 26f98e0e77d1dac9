package insert

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// spyName makes the test binary a pie that dies at a chosen step:
//
//	insert.test spy VERB STEP SIGNAL PID FUNCTION…
//
// STEP is a number, or the name of a step: the first of that name. It says "begin" before
// it does anything to the process, "at STEP NAME" just before it dies, and "done NAME…",
// all its steps, when there is no such step.
const spyName = "spy"

func runSpy(args []string) error {
	var n []uint64 // SIGNAL PID FUNCTION…
	for _, a := range args[2:] {
		v, err := strconv.ParseUint(a, 0, 64)
		if err != nil {
			return err
		}
		n = append(n, v)
	}
	var names []string
	tr, err := tracee.NewTracer(tracee.Options{OnStep: func(s tracee.Step) {
		names = append(names, s.Name)
		if args[1] == s.Name || args[1] == strconv.Itoa(len(names)) {
			fmt.Println("at", len(names), s.Name)
			unix.Kill(unix.Getpid(), syscall.Signal(n[0]))
			time.Sleep(time.Minute) // until the signal is there
		}
	}})
	if err != nil {
		return err
	}
	defer tr.Close()
	p, err := tracee.Open(int(n[1]))
	if err != nil {
		return err
	}
	var functions []address.Addr
	for _, f := range n[2:] {
		if f != 0 {
			functions = append(functions, address.Addr(f))
		}
	}
	fmt.Println("begin")
	if err := runVerb(args[0], tr, p, functions...); err != nil {
		return err
	}
	fmt.Println("done", strings.Join(names, " "))
	return nil
}

// What a spy can do besides the verbs: look, repair, and bring the process to where the
// next cell begins.
const (
	settleIn  = "settle in"
	settleOut = "settle out"
)

func runVerb(verb string, tr *tracee.Tracer, p *tracee.Process, functions ...address.Addr) error {
	ctx := context.Background()
	switch verb {
	case "insert", "insert in table mode", "insert, punned":
		k := map[string]kind{"insert": plain, "insert in table mode": table, "insert, punned": punned}[verb]
		pp, err := tryMade(p, "S-1", k, functions...)
		if err != nil {
			return err
		}
		_, err = insertGuards(ctx, tr, p, pp, Options{Mode: jit.ModeEnforce})
		return err
	case "replace":
		return replaceCode(ctx, tr, p, "S-1", functions...)
	case "insert in padding":
		pp, err := tryPadded(p, "S-1", functions...)
		if err != nil {
			return err
		}
		_, err = insertGuards(ctx, tr, p, pp, Options{Mode: jit.ModeEnforce})
		return err
	case "take back":
		pp, err := tryMade(p, "S-1", plain, functions...)
		if err != nil {
			return err
		}
		in := newInsertion(tr, p, pp, Options{Mode: jit.ModeEnforce})
		for _, do := range []func() error{in.check, in.model, func() error { return in.prepare(ctx) }, func() error { return in.undo(ctx) }} {
			if err := do(); err != nil {
				return err
			}
		}
		return nil
	case "remove":
		_, err := Remove(ctx, tr, p, "S-1", nil)
		return err
	case "repair":
		_, err := Repair(ctx, tr, p, nil)
		if errors.Is(err, tracee.ErrBusy) {
			return nil // a busy machine; the caller repairs again
		}
		return err
	case "mode":
		_, err := SetMode(ctx, tr, p, "S-1", jit.ModeAudit)
		return err
	case settleIn, settleOut:
		return settle(ctx, tr, p, verb, functions...)
	}
	return fmt.Errorf("no verb %q", verb)
}

// settle does what an operator does after a pie died: look, repair, look again, and go on.
func settle(ctx context.Context, tr *tracee.Tracer, p *tracee.Process, verb string, functions ...address.Addr) error {
	before, err := observe.Status(p)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	for _, pp := range before {
		if pp.State == observe.StateAltered {
			return fmt.Errorf("torn: %+v", pp)
		}
	}
	if err := untilIdle(func() error { _, err := Repair(ctx, tr, p, nil); return err }); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	if left, err := observe.Leftovers(p); err != nil || len(left) > 0 {
		return fmt.Errorf("after the repair there is still %v, %w", left, err)
	}
	after, err := observe.Status(p)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	in := len(after) > 0
	if in && after[0].State != observe.StateIn {
		return fmt.Errorf("repaired, and it is %v", after[0].State)
	}
	switch {
	case in && verb == settleOut:
		return untilIdle(func() error { return runVerb("remove", tr, p) })
	case in:
		_, err := SetMode(ctx, tr, p, "S-1", jit.ModeEnforce)
		return err
	case verb == settleIn:
		return untilIdle(func() error { return runVerb("insert", tr, p, functions...) })
	}
	return nil
}

// untilIdle calls do again while the machine is too busy, or the target still finishes
// what a dead pie had asked of it.
func untilIdle(do func() error) (err error) {
	for range 6 {
		if err = do(); !errors.Is(err, tracee.ErrBusy) && !errors.Is(err, tracee.ErrNoRemoteSyscall) && !errors.Is(err, ErrStale) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// spyBinary is the program of the spies: this one, but without the race detector, with
// which each would take a second to start.
var spyBinary = sync.OnceValues(func() (string, error) {
	if !raceDetector {
		return "/proc/self/exe", nil
	}
	dir, err := buildVictim()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "spy")
	if out, err := exec.Command("go", "test", "-c", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the spy: %w\n%s", err, out)
	}
	return path, nil
})

// running is a spy at work.
type running struct {
	cmd   *exec.Cmd
	lines *bufio.Reader
	errs  strings.Builder
	stop  context.CancelFunc
}

// beginSpy starts a spy, and returns when it begins.
func (v *victim) beginSpy(t testing.TB, verb string, step int, sig syscall.Signal) *running {
	t.Helper()
	return v.beginSpyAt(t, verb, strconv.Itoa(step), sig)
}

// beginSpyAt is beginSpy for a step that has a number or a name.
func (v *victim) beginSpyAt(t testing.TB, verb, step string, sig syscall.Signal) *running {
	t.Helper()
	program, err := spyBinary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	args := append([]string{spyName, verb, step, strconv.Itoa(int(sig))}, v.numbers()...)
	s := &running{cmd: exec.CommandContext(ctx, program, args...), stop: cancel}
	// Its watchdog has its stderr too, and ends a little later: on a busy machine, seconds.
	s.cmd.Stderr, s.cmd.WaitDelay = &s.errs, 10*time.Second
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.lines = bufio.NewReader(out)
	if line, err := s.lines.ReadString('\n'); err != nil || line != "begin\n" {
		t.Fatalf("%s, step %s: the spy says %q, %v: %v: %s", verb, step, line, err, s.wait(), s.errs.String())
	}
	return s
}

// says returns the next line, "" when it has ended.
func (s *running) says(t testing.TB) string {
	t.Helper()
	line, err := s.lines.ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatalf("spy: %v", err)
	}
	return strings.TrimSpace(line)
}

func (s *running) wait() error {
	defer s.stop()
	return s.cmd.Wait()
}

// steps are the names of what a spy has done that said "done".
func steps(line string) (names []string, done bool) {
	rest, done := strings.CutPrefix(line, "done")
	return strings.Fields(rest), done
}

// startSpy lets a spy run verb and die at a step, by sig; step 0: it lives. It
// returns the steps it made, or died true.
func (v *victim) startSpy(t testing.TB, verb string, step int, sig syscall.Signal) (made int, died bool) {
	t.Helper()
	s := v.beginSpy(t, verb, step, sig)
	line := s.says(t)
	if strings.HasPrefix(line, "at ") && sig == syscall.SIGSTOP {
		// Three times what the watchdog takes, should anybody be stopped.
		end := time.AfterFunc(1500*time.Millisecond, s.stop)
		defer end.Stop()
	}
	err := s.wait()
	if names, done := steps(line); done && err == nil {
		return len(names), false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return 0, true
	}
	t.Fatalf("%s, step %d: %q, %v: %s", verb, step, line, err, s.errs.String())
	return 0, false
}
