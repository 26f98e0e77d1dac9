package insert

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/autopsy"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// punnedGuard plans a guard whose jump replaces push %rbp, one byte, and nothing else.
func punnedGuard(p *tracee.Process, space *arena.Space, hash [32]byte, f address.Addr, i int, write func(arena.Place) *jit.Code, allot func(*arena.Arena, arena.Need) (arena.Place, error)) (plan.Guard, error) {
	image, m, err := imageOf(p, f)
	if err != nil {
		return plan.Guard{}, err
	}
	site, original := f+siteOff, []byte{0x55, 0x48, 0x89, 0xe5, 0x48}
	puns := jit.Puns(site, original, 1, func(int) bool { return false })
	a, e, err := space.Entrance(image, site, original, puns)
	if err != nil {
		return plan.Guard{}, err
	}
	patch, err := e.Pun.Write(original, e.At)
	if err != nil {
		return plan.Guard{}, err
	}
	pl, err := allot(a, arena.Need{Program: hash, Guard: fmt.Sprint("P", i), Site: site, Site0: original})
	if err != nil {
		return plan.Guard{}, err
	}
	code := write(pl)
	faults, err := goOn(code, pl, site, original[:1])
	if err != nil {
		return plan.Guard{}, err
	}
	return plan.Guard{
		Place: pl, Function: "guarded", Image: arena.Image{Name: filepath.Base(m.Path), Inode: m.File.Inode},
		Site: site, SiteOff: m.Offset + address.Off(site-m.Start),
		Original: original, Patch: patch, Entrance: e.At, Vacated: site + 1,
		Code: code, Faults: faults,
	}, a.Fit(pl, len(code.Bytes))
}

// isPunned reports whether the jump at a site is a punned one.
func isPunned(space *arena.Space, site address.Addr) bool {
	for _, a := range space.Arenas() {
		for _, i := range a.GuardsAt(site) {
			return a.Guards[i].Inner > 0
		}
	}
	return false
}

func punnedPrepatch(t *testing.T, v *victim, id string) prepatch {
	t.Helper()
	pp, err := tryMade(v.p, id, punned, v.exe, v.lib)
	if err != nil {
		t.Fatal(err)
	}
	return pp
}

// Guards come to a punned jump and leave it in every order, under attack: the site's
// bytes stay what they are while one is left, and the same entrance serves all.
func TestPunnedInAnyOrder(t *testing.T) {
	v, tr := startVictim(t, "2"), newTracer(t)
	ctx := ctxFor(t, 5*time.Minute)
	ids := []string{"U-1", "U-2", "U-3"}
	for round, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {0, 2, 1}} {
		for _, id := range ids {
			if _, err := insertGuards(ctx, tr, v.p, punnedPrepatch(t, v, id), Options{Mode: jit.ModeEnforce}); err != nil {
				t.Fatalf("round %d: %s: %v", round, id, err)
			}
		}
		for _, k := range order {
			if s := v.progress(t, slow); s.Passed != 0 || s.Rejected == 0 {
				t.Fatalf("round %d: %+v", round, s)
			}
			if pp := status(t, v, ids[k]); pp.State != observe.StateIn {
				t.Fatalf("round %d: %+v", round, pp)
			}
			if _, err := Remove(ctx, tr, v.p, ids[k], nil); err != nil {
				t.Fatalf("round %d: %s: %v", round, ids[k], err)
			}
		}
		v.quiet(t)
		textEqualsFile(t, v.p)
	}
	arenas, err := observe.Arenas(v.p)
	if err != nil || len(arenas) != 2 {
		t.Errorf("%d arenas, %v", len(arenas), err)
	}
	if left := leftovers(t, v.p); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Guards at a punned jump are given other code, the first of the site and the second: the
// entrance leads there, and no call passes that is to be rejected.
func TestPunnedReplace(t *testing.T) {
	v, tr := startVictim(t, "2"), newTracer(t)
	ctx := ctxFor(t, 5*time.Minute)
	ids := []string{"U-1", "U-2"}
	for _, id := range ids {
		if _, err := insertGuards(ctx, tr, v.p, punnedPrepatch(t, v, id), Options{Mode: jit.ModeEnforce}); err != nil {
			t.Fatal(err)
		}
	}
	v.progress(t, slow)
	before := v.read(t)
	for round := range 20 {
		id := ids[round%2]
		if err := untilIdle(func() error { return replaceCode(ctx, tr, v.p, id, v.exe, v.lib) }); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if pp := status(t, v, id); pp.State != observe.StateIn || pp.Guards[0].Mode != jit.ModeEnforce {
			t.Fatalf("round %d: %+v", round, pp)
		}
		v.progress(t, slow)
	}
	if now := v.read(t); now.Passed != before.Passed || now.Rejected == before.Rejected {
		t.Errorf("%+v became %+v", before, now)
	}
	for _, id := range ids {
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

// A crash at what stays behind a punned jump is the program's; one at an entrance is PIE's.
func TestPunnedAutopsy(t *testing.T) {
	v, tr := startVictim(t, "1"), newTracer(t)
	pp := punnedPrepatch(t, v, "U-1")
	if _, err := insertGuards(ctxFor(t, time.Minute), tr, v.p, pp, Options{Mode: jit.ModeEnforce}); err != nil {
		t.Fatal(err)
	}
	g := pp.guards[0]
	after := g.Place.Code.Add(int64(g.Code.Link + jit.LinkSize))
	want := map[address.Addr]autopsy.Verdict{g.Site + 1: autopsy.Theirs, g.Entrance: autopsy.Ours, g.Place.Code: autopsy.Ours, after: autopsy.Moved}
	for pc, verdict := range want {
		found, err := autopsy.Judge(v.p, []autopsy.Thread{{PC: pc}})
		if err != nil || len(found) != 1 || found[0].Verdict != verdict {
			t.Errorf("at %v: %+v, %v, want %v", pc, found, err, verdict)
		}
	}
}

// In and out, hundreds of times.
func TestPunnedCycles(t *testing.T) {
	v, tr := startVictim(t, "3"), newTracer(t)
	ctx := ctxFor(t, 8*time.Minute)
	rounds := 300
	if fullSweep {
		rounds = 5000
	}
	for round := range rounds {
		err := untilIdle(func() error {
			pp, err := tryMade(v.p, fmt.Sprint("U-", round%3), punned, v.exe, v.lib)
			if err == nil {
				_, err = insertGuards(ctx, tr, v.p, pp, Options{Mode: jit.ModeEnforce})
			}
			return err
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := untilIdle(func() error { _, err := Remove(ctx, tr, v.p, fmt.Sprint("U-", round%3), nil); return err }); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	v.quiet(t)
	textEqualsFile(t, v.p)
}

// A pie that is killed, or stopped, at any step leaves the process guarded or as it was,
// and another one finishes or undoes it.
func TestPunnedSweep(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		for _, c := range []struct {
			verb  string
			fresh bool
		}{{"insert, punned", true}, {"insert, punned", false}, {"remove", false}} {
			t.Run(fmt.Sprintf("%s, first %v/%v", c.verb, c.fresh, sig), func(t *testing.T) { sweepPunned(t, c.verb, sig, c.fresh) })
		}
	}
}

func sweepPunned(t *testing.T, verb string, sig syscall.Signal, fresh bool) {
	start := func() *victim {
		v := startVictim(t, "2")
		v.mayEndEarly = true
		return v
	}
	v, tr := start(), newTracer(t)
	to := func(in bool) {
		all, err := observe.Status(v.p)
		if err != nil {
			t.Fatal(err)
		}
		switch is := len(all) > 0 && all[0].State == observe.StateIn; {
		case is && !in:
			must(t, untilIdle(func() error { return runVerb("remove", tr, v.p) }))
		case in && !is:
			must(t, untilIdle(func() error { return runVerb("insert, punned", tr, v.p, v.exe, v.lib) }))
		}
	}
	to(!fresh)
	to(verb == "remove")
	total, _ := v.startSpy(t, verb, 0, sig)
	t.Logf("%d steps", total)
	for step := 1; step <= total; step += stride(total, sig) {
		if fresh {
			v.stop()
			v = start()
		}
		to(verb == "remove")
		_, died := v.startSpy(t, verb, step, sig)
		v.progress(t, frozenLimit+time.Second)
		repairProves(t, v, tr, fmt.Sprintf("step %d of %d", step, total))
		for _, pp := range statusOf(t, v) {
			if pp.State != observe.StateIn {
				t.Fatalf("step %d: repaired, and it is %v", step, pp.State)
			}
		}
		to(true)
		if s := v.progress(t, slow); s.Passed != 0 {
			t.Fatalf("step %d: guarded again, but %+v", step, s)
		}
		to(false)
		v.quiet(t)
		textEqualsFile(t, v.p)
		if !died {
			break // fewer steps than the first time
		}
	}
}

func statusOf(t *testing.T, v *victim) []observe.Prepatch {
	t.Helper()
	all, err := observe.Status(v.p)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
