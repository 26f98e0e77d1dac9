package pie_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// forkKept has the victim fork a child that stays, and returns its pid.
func (v *victim) forkKept(t *testing.T) int {
	t.Helper()
	return v.start(t, "k")
}

// start has the victim start a child as how says, and returns its pid.
func (v *victim) start(t *testing.T, how string) int {
	t.Helper()
	if _, err := fmt.Fprintln(v.in, how); err != nil {
		t.Fatal(err)
	}
	line, err := v.out.ReadString('\n')
	pid, aerr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || aerr != nil || pid <= 0 {
		t.Fatalf("a child that stays: %q, %v", line, err)
	}
	return pid
}

// A child that its guarded parent forked is like all that come; of one that executed the
// program anew it is said that the next will have no guard.
func TestInsertNotesExecution(t *testing.T) {
	v := startVictims(t, 1)[0]
	forked, executed := v.start(t, "k"), v.start(t, "e")
	for told := false; !told; {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", executed))
		if err != nil {
			t.Fatal(err)
		}
		told = bytes.Contains(cmdline, []byte("stay"))
	}
	r, err := pie.Insert(t.Context(), loadGuard(t), pie.Pids(v.pid(), forked, executed), pie.Options{Mode: pie.ModeEnforce})
	if err != nil || r.Guarded() != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, p := range r.Processes {
		noted := slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, "executed the program anew") })
		if noted != (p.Pid == executed) {
			t.Errorf("pid %d of %d, which forked %d and had %d execute: notes %q", p.Pid, v.pid(), forked, executed, p.Notes)
		}
	}
}

// bearing selects v and what it has forked. When it is asked first, a child is born
// right after the list was made, and is not in it.
func (v *victim) bearing(t *testing.T) pie.Select {
	family := []int{v.pid()}
	return func(context.Context) ([]int, error) {
		list := slices.Clone(family)
		if len(family) == 1 {
			family = append(family, v.forkKept(t))
		}
		return list, nil
	}
}

// A child that is born after the processes were listed, and before its parent's turn,
// is as its parent was then: changes reach it, too.
func TestChangesReachTheNewborn(t *testing.T) {
	p, ctx := loadGuard(t), context.Background()
	for _, c := range []struct {
		name string
		do   func(sel pie.Select) (*pie.Report, error)
		left func(s pie.ProcessStatus) bool // what was to be changed is as it was
	}{
		{"remove", func(sel pie.Select) (*pie.Report, error) { return pie.Remove(ctx, p.ID, sel) },
			func(pie.ProcessStatus) bool { return true }},
		{"off", func(sel pie.Select) (*pie.Report, error) { return pie.SetMode(ctx, p.ID, pie.ModeOff, sel) },
			func(s pie.ProcessStatus) bool { return s.Prepatches[0].Mode != pie.ModeOff }},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := startVictims(t, 1)[0]
			if _, err := pie.Insert(ctx, p, pie.Pids(v.pid()), pie.Options{Mode: pie.ModeEnforce}); err != nil {
				t.Fatal(err)
			}
			sel := v.bearing(t)
			r, err := c.do(sel)
			if err != nil || len(r.Processes) != 2 {
				t.Fatalf("%+v, %v; want two processes", r, err)
			}
			all, err := pie.Status(ctx, sel)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range all {
				if c.left(s) {
					t.Errorf("pid %d of %d is as it was: %+v", s.Pid, v.pid(), s)
				}
			}
		})
	}
}

// A child that is born after the guarded processes were read has its parent's guards,
// and is not told to be without.
func TestNewbornIsGuarded(t *testing.T) {
	p, ctx := loadGuard(t), context.Background()
	victims := startVictims(t, 2)
	v, alone := victims[0], victims[1]
	if _, err := pie.Insert(ctx, p, pie.Pids(v.pid()), pie.Options{Mode: pie.ModeEnforce}); err != nil {
		t.Fatal(err)
	}
	guarded, err := pie.Status(ctx, pie.Pids(v.pid()))
	if err != nil {
		t.Fatal(err)
	}
	child := v.forkKept(t)
	out, err := pie.Unguarded(ctx, pie.Pids(v.pid(), child, alone.pid()), guarded)
	if err != nil || len(out) != 1 || out[0].Pid != alone.pid() {
		t.Errorf("without a guard: %+v, %v; want pid %d alone", out, err, alone.pid())
	}
}
