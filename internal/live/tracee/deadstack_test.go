package tracee

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/sweep"
)

// Processes whose main thread has used more of its stack than the kernel maps at
// first: the low end of the stack is not zero any more. See testdata/deep.c.

// idle are the states in which main sleeps, high up again.
var idle = []string{"read", "poll", "epoll", "nanosleep", "futex", "sigtimedwait", "join"}

func TestRemoteCallOnUsedStack(t *testing.T) {
	tr := newTracer(t)
	for _, state := range append(idle, "bottom", "spin", "handler", "again", "ended") {
		t.Run(state, func(t *testing.T) {
			v := startVictim(t, "deep", state)
			if state == "ended" {
				v.waitMainEnded()
			}
			mustBeUsed(t, v)
			attachOften(t, tr, v, 40)
		})
	}
}

// In "inside", what a signal has interrupted lies below the handler's stack pointer.
func TestRemoteCallSparesWhatAHandlerInterrupted(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "deep", "inside")
	mustBeUsed(t, v)
	p := v.open()
	defer p.Close()
	refused := 0
	for begin := time.Now(); refused < 20 && time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
		main, ok := p.candidate(p.Pid())
		if !ok {
			continue
		}
		// Elsewhere a call would make the stack grow, and so leave room that nobody has used.
		_, err := tr.attach(context.Background(), p, []candidate{main}, func(a *Attached) error {
			if a.interruptedBelow(address.Addr(a.remote.regs.Rsp)) {
				return mapUnmap(a)
			}
			return nil
		})
		if later := (*notNow)(nil); errors.As(err, &later) {
			refused++
		} else if err != nil && !errors.Is(err, ErrBusy) {
			v.mustProgress() // says what it found wrong
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("main was never in its handler: the test has shown nothing")
	}
	v.mustProgress()
	attachOften(t, tr, v, 20)
}

func TestRemoteCallInGoProgramThatWasDeepInC(t *testing.T) {
	cmd := exec.Command("go", "build", "-o", filepath.Join(programs, "cgovictim"), "./testdata/cgovictim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building cgovictim (the tests need gcc): %v\n%s", err, out)
	}
	tr := newTracer(t)
	v := startVictim(t, "cgovictim")
	mustBeUsed(t, v)
	attachOften(t, tr, v, 60)
}

// mustBeUsed checks that the test tests something.
func mustBeUsed(t *testing.T, v *victim) {
	t.Helper()
	p := v.open()
	defer p.Close()
	r := remote{look: make([]byte, frameMax), zero: make([]byte, frameMax)}
	if err := r.prepare(p); err != nil {
		t.Fatal(err)
	}
	if !r.stackWasUsed(p) {
		t.Fatal("the low end of the stack is zero")
	}
}

// attachOften makes remote calls n times. Some may have to wait.
func attachOften(t *testing.T, tr *Tracer, v *victim, n int) {
	t.Helper()
	p := v.open()
	defer p.Close()
	for i, tries := 0, 0; i < n; tries++ {
		err := tr.Attach(context.Background(), p, mapUnmap)
		switch {
		case err == nil:
			i++
		case errors.Is(err, ErrBusy) && tries < 20*n:
		default:
			t.Fatalf("%d: %v", i, err)
		}
	}
	v.mustProgress()
	if left := leftFrames(t, v); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func leftFrames(t *testing.T, v *victim) []LeftFrame {
	t.Helper()
	p := v.open()
	defer p.Close()
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	return LeftFrames(p, maps)
}

// A tracer may die at any step there too.
func TestStepSweepOnUsedStack(t *testing.T) {
	states, every := []string{"read", "nanosleep", "bottom", "spin", "again", "handler", "ended"}, 2
	switch {
	case os.Getenv("PIE_TEST_LONG") != "":
		states, every = append(idle, "bottom", "spin", "again", "handler", "ended"), 1
	case raceEnabled:
		every = 6
	}
	for _, state := range states {
		row := sweep.Row{Verb: "attach", Program: "C, used stack", State: state, Threads: 1, Death: sweep.Killed}
		c := sweepCase{row, "deep", every}
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			v := startVictim(t, c.program, c.State)
			if c.State == "ended" {
				v.waitMainEnded()
			}
			cells, n := 0, 1
			for ; c.died(t, v, n); n += c.every {
				cells++
				clearLeft(t, v)
			}
			if low := 8 / c.every; cells < low {
				t.Errorf("only %d cells", cells)
			}
		})
	}
}

// died runs a cell, up to three times when the victim was frozen for too long: see
// inTime.
func (c sweepCase) died(t *testing.T, v *victim, n int) bool {
	t.Helper()
	for attempt := 1; ; attempt++ {
		untouched := v.mustProgress()
		died, took := c.cell(t, v, n)
		if took <= frozen+untouched {
			return died
		}
		if attempt == 3 {
			t.Fatalf("step %d: the victim was frozen for %v", n, took)
		}
	}
}

// clearLeft does to frames that were left what pie repair does.
func clearLeft(t *testing.T, v *victim) {
	t.Helper()
	p := v.open()
	defer p.Close()
	left := leftFrames(t, v)
	if len(left) == 0 {
		return
	}
	tr := newTracer(t)
	for range 10 {
		_, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error {
			for _, f := range left {
				if err := w.ClearFrame(f); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			break
		}
		if !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
	}
	v.mustProgress()
}

// A frame that the program has written to is none any more: neither found nor
// zeroed. Else a left frame that a stack has come down to would be cut out of it.
func TestLeftFrameIsLeftAloneOnceWrittenTo(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "victim", "read", "1")
	p := v.open()
	defer p.Close()
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	s, ok := findStack(maps)
	if !ok {
		t.Fatal("no stack")
	}
	at := s.slot(0)
	frame := make([]byte, frameMax)
	if err := buildFrame(frame, at, 1, gadgets{}, &unix.PtraceRegs{}, 0, make([]byte, 832)); err != nil {
		t.Fatal(err)
	}
	n := frameSize(832)
	write := func(to address.Addr, b []byte) {
		t.Helper()
		if _, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error { return w.Write(to, b, nil) }); err != nil {
			t.Fatal(err)
		}
	}
	write(at, frame[:n])
	left := LeftFrames(p, maps)
	if len(left) != 1 || left[0].At != at || left[0].Length != n {
		t.Fatalf("found %+v, want one at %v", left, at)
	}
	write(at.Add(700), []byte("the program's"))
	if now := LeftFrames(p, maps); len(now) != 0 {
		t.Errorf("still found: %+v", now)
	}
	if _, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error { return w.ClearFrame(left[0]) }); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := p.ReadAt(b, at); err != nil || !strings.Contains(string(b), "the program's") {
		t.Errorf("cleared all the same (%v)", err)
	}
}
