package insert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// fullSweep dies after every step of every verb, not after a sample.
var fullSweep = os.Getenv("PIE_TEST_LONG") != ""

// frozenLimit is the longest the target may stand still, whatever happens to
// pie (DESIGN §7); the sweep adds what a busy machine takes to notice.
const frozenLimit = 600 * time.Millisecond

// spyName makes the test binary a pie that dies at a chosen step:
//
//	insert.test spy VERB STEP SIGNAL PID EXE LIB
const spyName = "spy"

func spy(args []string) {
	if err := runSpy(args); err != nil {
		fmt.Fprintln(os.Stderr, "spy:", err)
		os.Exit(1)
	}
}

func runSpy(args []string) error {
	var n [5]uint64
	for i, a := range args[1:] {
		v, err := strconv.ParseUint(a, 0, 64)
		if err != nil {
			return err
		}
		n[i] = v
	}
	steps := 0
	tr, err := tracee.NewTracer(tracee.Options{OnStep: func(tracee.Step) {
		if steps++; uint64(steps) == n[0] {
			unix.Kill(unix.Getpid(), syscall.Signal(n[1]))
		}
	}})
	if err != nil {
		return err
	}
	defer tr.Close()
	p, err := tracee.Open(int(n[2]))
	if err != nil {
		return err
	}
	if err := runVerb(args[0], tr, p, address.Addr(n[3]), address.Addr(n[4])); err != nil {
		return err
	}
	fmt.Println(steps)
	return nil
}

func runVerb(verb string, tr *tracee.Tracer, p *tracee.Process, functions ...address.Addr) error {
	ctx := context.Background()
	switch verb {
	case "insert", "insert in table mode":
		k := plain
		if verb != "insert" {
			k = table
		}
		pp, err := tryMade(p, "S-1", k, functions...)
		if err != nil {
			return err
		}
		_, err = insertGuards(ctx, tr, p, pp, Options{Mode: jit.ModeEnforce})
		return err
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
	}
	return fmt.Errorf("no verb %q", verb)
}

// startSpy lets a spy run verb and die at a step, by sig; step 0: it lives. It
// returns the steps it made, or died true.
func (v *victim) startSpy(t *testing.T, verb string, step int, sig syscall.Signal) (steps int, died bool) {
	t.Helper()
	args := append([]string{spyName, verb, strconv.Itoa(step), strconv.Itoa(int(sig))}, v.numbers()...)
	limit := 20 * time.Second
	if sig == syscall.SIGSTOP && step != 0 {
		limit = 1500 * time.Millisecond // three times what the watchdog takes, should anybody be stopped
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		if sig == syscall.SIGSTOP {
			return 0, true // stopped between two sessions, with nobody stopped
		}
		t.Fatalf("%s, step %d: the spy hangs", verb, step)
	}
	if err == nil {
		steps, err := strconv.Atoi(string(bytes.TrimSpace(out.Bytes())))
		if err != nil {
			t.Fatal(err)
		}
		return steps, false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return 0, true
	}
	t.Fatalf("%s, step %d: %v: %s", verb, step, err, errs.Bytes())
	return 0, false
}

// A pie that is killed, or stopped, after any ptrace request or remote write of
// any verb leaves the target alive, right and going on; guarded or as it was;
// and a fresh pie can tell, finish and undo.
func TestStepSweep(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		for _, verb := range []string{"insert", "remove", "mode"} {
			t.Run(fmt.Sprintf("%s/%v", verb, sig), func(t *testing.T) { sweep(t, verb, sig, false) })
		}
		for _, verb := range []string{"insert", "insert in table mode"} {
			t.Run(fmt.Sprintf("first %s/%v", verb, sig), func(t *testing.T) { sweep(t, verb, sig, true) })
		}
	}
}

// sweep lets spies die in one victim after another step of verb; or, fresh, in a
// victim each that has no arena yet.
func sweep(t *testing.T, verb string, sig syscall.Signal, fresh bool) {
	start := func() *victim {
		v := startVictim(t, "2")
		v.mayEndEarly = true
		return v
	}
	v, tr := start(), newTracer(t)
	if !fresh {
		must(t, runVerb("insert", tr, v.p, v.exe, v.lib))
	}
	setUp(t, v, tr, verb)
	total, _ := v.startSpy(t, verb, 0, sig)
	t.Logf("%d steps", total)
	for step := 1; step <= total; step += stride(total, sig) {
		if fresh {
			v.stop()
			v = start()
		}
		setUp(t, v, tr, verb)
		_, died := v.startSpy(t, verb, step, sig)
		v.progress(t, frozenLimit+time.Second)
		operatorRecovers(t, v, tr, verb, step)
		if arenas, err := observe.Arenas(v.p); err != nil || len(arenas) > 2 {
			t.Fatalf("step %d: %d arenas, %v", step, len(arenas), err)
		}
		if !died {
			break // fewer steps than the first time
		}
	}
}

// stride is how far apart the steps are that a spy dies at.
func stride(total int, sig syscall.Signal) int {
	samples := 10
	switch {
	case fullSweep:
		return 1
	case sig == syscall.SIGSTOP || raceDetector:
		samples = 3
	}
	return max(1, total/samples)
}

// setUp brings the victim to where verb begins.
func setUp(t *testing.T, v *victim, tr *tracee.Tracer, verb string) {
	t.Helper()
	all, err := observe.Status(v.p)
	if err != nil {
		t.Fatal(err)
	}
	in := len(all) > 0 && all[0].State == observe.StateIn
	want := !strings.HasPrefix(verb, "insert")
	if in && (!want || verb == "mode") {
		must(t, runVerb("remove", tr, v.p))
		in = false
	}
	if want && !in {
		must(t, runVerb("insert", tr, v.p, v.exe, v.lib))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// operatorRecovers does what an operator does after a pie died: look, finish, undo.
func operatorRecovers(t *testing.T, v *victim, tr *tracee.Tracer, verb string, step int) {
	t.Helper()
	all, err := observe.Status(v.p)
	if err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
	for _, pp := range all {
		t.Logf("step %d: %s is %v", step, pp.ID, pp.State)
		if pp.State == observe.StateAltered {
			t.Fatalf("step %d: torn: %+v", step, pp)
		}
		if pp.State != observe.StatePartial {
			continue
		}
		must(t, runVerb("remove", tr, v.p))
	}
	if !strings.HasPrefix(verb, "insert") {
		verb = "insert"
	}
	err = runVerb(verb, tr, v.p, v.exe, v.lib)
	for try := 0; errors.Is(err, ErrStale) && try < 3; try++ {
		// The target was still finishing what the dead pie had asked of it.
		err = runVerb(verb, tr, v.p, v.exe, v.lib)
	}
	if err != nil && !errors.Is(err, ErrAlreadyIn) {
		t.Fatalf("step %d: inserting after a pie died: %v", step, err)
	}
	v.progress(t, slow)
	if s := v.progress(t, slow); s.Passed != 0 && status(t, v, "S-1").Guards[0].Mode == jit.ModeEnforce {
		t.Fatalf("step %d: guarded again, but %+v", step, s)
	}
	must(t, runVerb("remove", tr, v.p))
	v.quiet(t)
	textEqualsFile(t, v.p)
}
