package insert

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// forkRate is how often the victim forks, a second.
const forkRate = 500

// descendants lists v and its children.
func (v *victim) descendants(context.Context) ([]int, error) {
	kids, err := v.p.Children()
	return append([]int{v.pid}, kids...), err
}

func (v *victim) guardPid(tr *tracee.Tracer, id string) func(context.Context, int) error {
	return func(ctx context.Context, pid int) error {
		p, err := tracee.Open(pid)
		if err != nil {
			return err
		}
		defer p.Close()
		pp, err := tryHandMade(p, id, v.exe, v.lib)
		if err != nil {
			return errors.Join(err, p.Check()) // a process about to end has no mappings
		}
		_, err = insertGuards(ctx, tr, p, pp, Options{Mode: jit.ModeEnforce})
		return err
	}
}

// A family that forks all the time is guarded whole: once Family returns, no
// call of any process of it passes, those of processes born later included.
func TestForkStorm(t *testing.T) {
	v := startVictim(t, "1", strconv.Itoa(forkRate), "100")
	tr := newTracer(t)
	ctx := ctxFor(t, 60*time.Second)
	v.progress(t, slow)
	for range 3 {
		before := v.read(t)
		members, err := Family(ctx, v.descendants, v.guardPid(tr, "F-1"))
		if err != nil {
			t.Fatal(err)
		}
		changed := 0
		for _, m := range members {
			if m.Err != nil && !gone(m.Err) {
				t.Errorf("pid %d: %v", m.Pid, m.Err)
			}
			if m.Changed {
				changed++
			}
		}
		t.Logf("%d processes, %d changed, %d forked meanwhile", len(members), changed, v.read(t).Children-before.Children)
		time.Sleep(20 * time.Millisecond) // calls that had passed the site are over
		for range 5 {
			if s := v.progress(t, slow); s.Passed != 0 || s.Rejected == 0 {
				t.Fatalf("guarded, but %+v", s)
			}
		}
		removeFamily(t, ctx, v, tr)
	}
	textEqualsFile(t, v.p)
}

// removeFamily removes from the parent, then from whoever inherited it.
func removeFamily(t *testing.T, ctx context.Context, v *victim, tr *tracee.Tracer) {
	t.Helper()
	seen := 0
	for {
		pids, err := v.descendants(ctx)
		if err != nil {
			t.Fatal(err)
		}
		removed := 0
		for _, pid := range pids {
			p, err := tracee.Open(pid)
			if err != nil {
				continue
			}
			_, err = Remove(ctx, tr, p, "F-1", nil)
			p.Close()
			switch {
			case err == nil:
				removed++
			case !errors.Is(err, ErrNotIn) && !gone(err):
				t.Fatalf("pid %d: %v", pid, err)
			}
		}
		if seen += removed; removed == 0 {
			break
		}
	}
	if seen == 0 {
		t.Error("nothing was removed")
	}
	time.Sleep(20 * time.Millisecond)
	v.quiet(t)
}

// Children that were born before the guard came are guarded as well, one by one.
func TestOldChildren(t *testing.T) {
	v := startVictim(t, "1", "20", "0", "0", "3000")
	tr := newTracer(t)
	ctx := ctxFor(t, 60*time.Second)
	time.Sleep(300 * time.Millisecond)
	members, err := Family(ctx, v.descendants, v.guardPid(tr, "F-1"))
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, m := range members {
		if m.Err != nil && !gone(m.Err) {
			t.Errorf("pid %d: %v", m.Pid, m.Err)
		}
		if m.Changed {
			changed++
		}
	}
	t.Logf("%d processes, %d changed", len(members), changed)
	if len(members) == 0 || members[0].Pid != v.pid || changed < 3 {
		t.Errorf("%+v", members)
	}
	for range 3 {
		if s := v.progress(t, slow); s.Passed != 0 {
			t.Fatalf("guarded, but %+v", s)
		}
	}
	removeFamily(t, ctx, v, tr)
}

// A child inherits the guard and shares the counters; and whatever it does to
// its own arena, code and mode included, its parent's stays as it is.
func TestChildrenInherit(t *testing.T) {
	v := startVictim(t, "1", "5", "0", "0", "5000")
	tr := newTracer(t)
	ctx := ctxFor(t, 30*time.Second)
	must(t, v.guardPid(tr, "I-1")(ctx, v.pid))
	parent := status(t, v, "I-1")
	child, theirs := v.guardedChild(t, "I-1")
	if theirs.State != observe.StateIn || theirs.Counters != parent.Counters || theirs.Guards[0].Site != parent.Guards[0].Site {
		t.Errorf("the child says %+v, its parent %+v", theirs, parent)
	}
	a := parent.Guards[0].Arena
	before := v.private(t, a)
	for _, r := range []arena.Range{a.Code(), a.State()} {
		child.poke(t, r.Start, make([]byte, r.End-r.Start)...)
	}
	if !bytes.Equal(v.private(t, a), before) {
		t.Error("the child has changed its parent's arena")
	}
	if s := v.progress(t, slow); s.Rejected == 0 {
		t.Errorf("the parent: %+v", s)
	}
}

// guardedChild returns a child of v that has inherited the prepatch. One that was born between
// preparation and commit has its arena, and no guard.
func (v *victim) guardedChild(t *testing.T, id string) (*victim, observe.Prepatch) {
	t.Helper()
	for range 4000 {
		kids, err := v.p.Children()
		must(t, err)
		for _, pid := range kids {
			p, err := tracee.Open(pid)
			if err != nil {
				continue
			}
			all, err := observe.Status(p)
			if err == nil && len(all) == 1 && all[0].ID == id && all[0].State != observe.StatePrepared {
				t.Cleanup(func() { p.Close() })
				return &victim{pid: pid, p: p}, all[0]
			}
			p.Close()
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no child has the guard")
	return nil, observe.Prepatch{}
}

// private is what the private regions of an arena hold.
func (v *victim) private(t *testing.T, a *arena.Arena) []byte {
	t.Helper()
	b := make([]byte, a.State().End-a.Base)
	if _, err := v.p.ReadAt(b, a.Base); err != nil {
		t.Fatal(err)
	}
	return b
}
