package insert

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/observe"
)

// slow is how long a victim may take to get somewhere on a slow machine. How long it may stand
// still is frozenLimit.
const slow = 60 * time.Second

func TestInsertModesRemove(t *testing.T) {
	v := startVictim(t, "2", "0", "200")
	tr := newTracer(t)
	ctx := ctxFor(t, 30*time.Second)
	if s := v.progress(t, slow); s.Rejected != 0 || s.Passed == 0 {
		t.Fatalf("unguarded: %+v", s)
	}
	report, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, "T-1", v.exe, v.lib), Options{Mode: jit.ModeEnforce})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d threads, pause %v, wall %v, %d KiB", report.Threads, report.Pause, report.Wall, report.Dirtied>>10)
	if len(report.Sites) != 2 || report.Dirtied == 0 || report.Threads != 3 {
		t.Errorf("report %+v", report)
	}
	v.progress(t, slow)
	if s := v.progress(t, slow); s.Rejected == 0 || s.Passed != 0 {
		t.Errorf("enforce: %+v", s)
	}
	if pp := status(t, v, "T-1"); pp.State != observe.StateIn || len(pp.Guards) != 2 || pp.Guards[0].Mode != jit.ModeEnforce || pp.Guards[0].Counts.Rejects == 0 {
		t.Errorf("status %+v", pp)
	}
	if _, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, "T-1", v.exe, v.lib), Options{}); !errors.Is(err, ErrAlreadyIn) {
		t.Errorf("again: %v", err)
	}
	for _, m := range []jit.Mode{jit.ModeAudit, jit.ModeOff, jit.ModeEnforce} {
		if changed, err := SetMode(ctx, tr, v.p, "T-1", m); err != nil || !changed {
			t.Fatal(changed, err)
		}
		v.progress(t, slow)
		s := v.progress(t, slow)
		if enforced := m == jit.ModeEnforce; enforced != (s.Rejected > 0) || enforced != (s.Passed == 0) {
			t.Errorf("mode %d: %+v", m, s)
		}
	}
	out, err := Remove(ctx, tr, v.p, "T-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range out.Sites {
		if bytes.Equal(s.Before, s.After) || s.After[0] != 0x55 {
			t.Errorf("site %+v", s)
		}
	}
	t.Logf("removed: pause %v, wall %v, %d KiB stay", out.Pause, out.Wall, out.StaysKB)
	v.quiet(t)
	textEqualsFile(t, v.p)
	if _, err := Remove(ctx, tr, v.p, "T-1", nil); !errors.Is(err, ErrNotIn) {
		t.Errorf("removing twice: %v", err)
	}
}

func status(t testing.TB, v *victim, id string) observe.Prepatch {
	t.Helper()
	all, err := observe.Status(v.p)
	if err != nil {
		t.Fatal(err)
	}
	for _, pp := range all {
		if pp.ID == id {
			return pp
		}
	}
	t.Fatalf("no %s in %+v", id, all)
	return observe.Prepatch{}
}
