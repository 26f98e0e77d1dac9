package insert

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// Whatever step of whatever verb a pie is killed at, what it leaves has a name;
// a repair, itself killed at some step, and started again, leaves the process
// guarded or as it was, with nothing half-done in it.
func TestRepairSweep(t *testing.T) {
	for _, c := range []struct {
		verb  string
		fresh bool // a process each that has no arena yet
	}{{"insert", true}, {"insert in table mode", true}, {"insert", false}, {"remove", false}, {"mode", false}} {
		name := c.verb
		if c.fresh {
			name = "first " + name
		}
		t.Run(name, func(t *testing.T) { sweepRepairs(t, c.verb, c.fresh) })
	}
}

func sweepRepairs(t *testing.T, verb string, fresh bool) {
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
	total, _ := v.startSpy(t, verb, 0, syscall.SIGKILL)
	every := 1
	if !fullSweep {
		every = max(1, total/12)
	}
	unmapped := 0
	seen := map[observe.LeftKind]int{}
	for step := 1; step <= total; step += every {
		if fresh {
			v.stop()
			v = start()
		}
		setUp(t, v, tr, verb)
		memory := anonymous(t, v)
		if _, died := v.startSpy(t, verb, step, syscall.SIGKILL); !died {
			break
		}
		v.progress(t, frozenLimit+time.Second)
		left := leftovers(t, v.p)
		for _, l := range left {
			seen[l.Kind]++
		}
		if len(left) > 0 {
			v.startSpy(t, "repair", 1+step*7%20, syscall.SIGKILL)
			v.progress(t, frozenLimit+time.Second)
		}
		repairProves(t, v, tr, fmt.Sprintf("step %d of %d", step, total))
		if arenas, err := observe.Arenas(v.p); fresh && err == nil && len(arenas) == 0 {
			if now := anonymous(t, v); !slices.Equal(now, memory) {
				t.Errorf("step %d: taken back, and mapped are %v instead of %v", step, now, memory)
			}
			unmapped++
		}
	}
	t.Logf("%d steps, left: %v", total, seen)
	if len(seen) == 0 || verb == "insert" && fresh && unmapped == 0 {
		t.Error("nothing was ever left: the sweep has shown nothing")
	}
}

func leftovers(t *testing.T, p *tracee.Process) []observe.Leftover {
	t.Helper()
	left, err := observe.Leftovers(p)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// repairProves repairs, and looks that nothing is left, that it was said what was
// done, and that the target is guarded everywhere or as it was.
func repairProves(t *testing.T, v *victim, tr *tracee.Tracer, when string) {
	t.Helper()
	before := leftovers(t, v.p)
	var deeds []Deed
	done, err := Repair(ctxFor(t, 10*time.Second), tr, v.p, nil)
	for try := 0; errors.Is(err, tracee.ErrBusy) && try < 5; try++ { // a busy machine: as an operator would
		deeds = append(deeds, done.Deeds...)
		done, err = Repair(ctxFor(t, 10*time.Second), tr, v.p, nil)
	}
	done.Deeds = append(deeds, done.Deeds...)
	if err != nil {
		t.Fatalf("%s: %v: %v", when, before, err)
	}
	if len(before) > len(done.Deeds) {
		t.Errorf("%s: %v was left, and only %v done", when, before, done.Deeds)
	}
	if left := leftovers(t, v.p); len(left) > 0 {
		t.Fatalf("%s: after the repair there is still %v", when, left)
	}
	if again, err := Repair(ctxFor(t, 10*time.Second), tr, v.p, nil); err != nil || len(again.Deeds) > 0 {
		t.Errorf("%s: a second repair did %v, %v", when, again.Deeds, err)
	}
	all, err := observe.Status(v.p)
	if err != nil {
		t.Fatal(err)
	}
	for _, pp := range all {
		if pp.State != observe.StateIn {
			t.Errorf("%s: %s is %v", when, pp.ID, pp.State)
		}
	}
	if len(all) == 0 {
		v.quiet(t)
		textEqualsFile(t, v.p)
		return
	}
	v.progress(t, slow)
	if s := v.progress(t, slow); s.Rejected == 0 && all[0].Guards[0].Mode == jit.ModeEnforce {
		t.Errorf("%s: in, and nothing is rejected", when)
	}
}

// anonymous lists the memory of a process that is of no file, with what it may be
// used for.
func anonymous(t *testing.T, v *victim) (list []string) {
	t.Helper()
	maps, err := v.p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if !m.HasFile() && m.Path == "" {
			list = append(list, m.String())
		}
	}
	return list
}
