package insert

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// replaceCode gives the guards of a prepatch the code of the other kind.
func replaceCode(ctx context.Context, tr *tracee.Tracer, p *tracee.Process, id string, functions ...address.Addr) error {
	if err := Settle(tr, p); err != nil {
		return err
	}
	space, err := Space(p, "test")
	if err != nil {
		return err
	}
	pp := prepatch{id: id, again: true}
	for i, f := range functions {
		other := plain
		again := func(a *arena.Arena, n arena.Need) (arena.Place, error) {
			for _, j := range a.GuardsAt(n.Site) {
				rec := a.Guards[j]
				if rec.State != arena.In || a.Prepatches[rec.Prepatch].ID != id {
					continue
				}
				pp.hash = a.Prepatches[rec.Prepatch].Hash
				if jit.FaultMode(rec.FaultMode) != jit.Table {
					other = table
				}
				n.Variant = string(rune(other.hash))
				return a.AllotAgain(j, n)
			}
			return arena.Place{}, ErrNotIn
		}
		make := handMadeGuard
		if isPunned(space, f+siteOff) {
			make = punnedGuard
		}
		g, err := make(p, space, [32]byte{}, f, i, func(pl arena.Place) *jit.Code { return other.code(pl) }, again)
		if err != nil {
			return err
		}
		g.Moves = nil
		pp.guards = append(pp.guards, g)
	}
	_, err = insertGuards(ctx, tr, p, pp, Options{})
	return err
}

// Guards are given other code, again and again, under attack: no call passes that is to be
// rejected; counts, mode and the time of insertion go on; other guards of the site stay
// where they are.
func TestReplace(t *testing.T) {
	v := startVictim(t, "2", "0", "200")
	tr := newTracer(t)
	ctx := ctxFor(t, 5*time.Minute)
	for _, id := range []string{"R-1", "R-2", "R-3"} {
		if _, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, id, v.exe, v.lib), Options{Mode: jit.ModeEnforce}); err != nil {
			t.Fatal(err)
		}
	}
	v.progress(t, slow)
	before, was := v.read(t), map[string]observe.Prepatch{}
	for _, id := range []string{"R-1", "R-2", "R-3"} {
		was[id] = status(t, v, id)
	}
	for round := range 60 {
		id := []string{"R-2", "R-1", "R-3"}[round%3]
		if err := untilIdle(func() error { return replaceCode(ctx, tr, v.p, id, v.exe, v.lib) }); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		want := jit.Table
		if round/3%2 == 1 {
			want = jit.Probe
		}
		pp := status(t, v, id)
		if pp.State != observe.StateIn || len(pp.Guards) != 2 || pp.Missing != 0 || !pp.Inserted.Equal(was[id].Inserted) {
			t.Fatalf("round %d: %+v", round, pp)
		}
		for k, g := range pp.Guards {
			if g.FaultMode != want || g.Mode != jit.ModeEnforce || g.Index != was[id].Guards[k].Index || g.Counts.Calls < was[id].Guards[k].Counts.Calls {
				t.Errorf("round %d: %+v", round, g)
			}
		}
		was[id] = pp
		if s := v.progress(t, slow); s.Passed != 0 {
			t.Fatalf("round %d: %+v", round, s)
		}
	}
	if now := v.read(t); now.Passed != before.Passed || now.Rejected == before.Rejected || now.Wrong != 0 {
		t.Errorf("%+v became %+v", before, now)
	}
	for _, id := range []string{"R-1", "R-3", "R-2"} {
		if _, err := Remove(ctx, tr, v.p, id, nil); err != nil {
			t.Fatal(err)
		}
	}
	v.quiet(t)
	textEqualsFile(t, v.p)
	if left := leftovers(t, v.p); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Other code is for what is in.
func TestReplaceNothing(t *testing.T) {
	v := startVictim(t, "1")
	tr := newTracer(t)
	if err := replaceCode(ctxFor(t, time.Minute), tr, v.p, "R-1", v.exe); !errors.Is(err, ErrNotIn) {
		t.Errorf("%v", err)
	}
}

// A pie that is killed, or stopped, at any step of it leaves every call looked at, and a
// repair nothing half-done.
func TestReplaceSweep(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(fmt.Sprint(sig), func(t *testing.T) {
			v, tr := startVictim(t, "2"), newTracer(t)
			v.mayEndEarly = true
			must(t, runVerb("insert", tr, v.p, v.exe, v.lib))
			v.progress(t, slow)
			before := v.read(t)
			total, _ := v.startSpy(t, "replace", 0, sig)
			for step := 1; step <= total; step += stride(total*4, sig) {
				_, died := v.startSpy(t, "replace", step, sig)
				v.progress(t, frozenLimit+time.Second)
				pp := status(t, v, "S-1")
				if pp.State != observe.StateIn || len(pp.Guards) != 2 || pp.Guards[0].Mode != jit.ModeEnforce {
					t.Fatalf("step %d: %+v", step, pp)
				}
				repairProves(t, v, tr, fmt.Sprintf("step %d of %d", step, total))
				if pp := status(t, v, "S-1"); pp.State != observe.StateIn {
					t.Fatalf("step %d: repaired, and it is %v", step, pp.State)
				}
				if now := v.read(t); now.Passed != before.Passed {
					t.Fatalf("step %d: %d calls passed", step, now.Passed-before.Passed)
				}
				if !died && step > 1 {
					break
				}
			}
			must(t, untilIdle(func() error { return runVerb("remove", tr, v.p) }))
			v.quiet(t)
			textEqualsFile(t, v.p)
		})
	}
}
