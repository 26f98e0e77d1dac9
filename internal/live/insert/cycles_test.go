package insert

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
)

// Several prepatches on one function: each sees the call, each leaves in any
// order, and the last one restores the bytes.
func TestSeveralOnOneSite(t *testing.T) {
	ids := []string{"A-1", "A-2", "A-3"}
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	v := startVictim(t, "2", "0", "300")
	tr := newTracer(t)
	ctx := ctxFor(t, 60*time.Second)
	for _, order := range orders {
		for _, id := range ids {
			if _, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, id, v.exe), Options{Mode: jit.ModeAudit}); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
		}
		v.progress(t, slow)
		for _, id := range ids {
			if pp := status(t, v, id); pp.State != observe.StateIn || pp.Guards[0].Counts.Audited == 0 {
				t.Errorf("%s: %+v", id, pp)
			}
		}
		for n, i := range order {
			if _, err := Remove(ctx, tr, v.p, ids[i], nil); err != nil {
				t.Fatalf("remove %s: %v", ids[i], err)
			}
			v.progress(t, slow)
			for _, j := range order[n+1:] {
				if pp := status(t, v, ids[j]); pp.State != observe.StateIn {
					t.Errorf("%s after removing %s: %+v", ids[j], ids[i], pp)
				}
			}
		}
		textEqualsFile(t, v.p)
	}
}

// Several pies, processes of their own, insert, remove, change the mode of and repair one
// prepatch in one process at one time, and some of them are killed. Each gets its way or
// says why not; what they leave has a name, and is repaired.
func TestSeveralPies(t *testing.T) {
	v := startVictim(t, "2")
	v.mayEndEarly = true
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for range 8 {
				verb := []string{"insert", "insert", "remove", "mode", "repair"}[rnd.IntN(5)]
				spy := v.beginSpy(t, verb, rnd.IntN(3)*rnd.IntN(30), unix.SIGKILL)
				line := spy.says(t)
				err := spy.wait()
				said := spy.errs.String()
				if err != nil && !endedBySignal(err) && (!strings.HasPrefix(said, "spy: ") || strings.Contains(said, ErrUnproven.Error())) {
					t.Errorf("%s: %q, %v: %s", verb, line, err, said)
				}
			}
		})
	}
	all.Wait()
	if _, died := v.startSpy(t, settleIn, 0, unix.SIGKILL); died {
		t.Fatal("settling died")
	}
	v.progress(t, slow)
	if s := v.progress(t, slow); s.Passed != 0 || s.Rejected == 0 {
		t.Errorf("guarded, and %+v", s)
	}
	if _, died := v.startSpy(t, settleOut, 0, unix.SIGKILL); died {
		t.Fatal("settling died")
	}
	v.quiet(t)
	textEqualsFile(t, v.p)
}

// A guard comes back behind the one that it led to when it was removed, into code
// that a thread may still have been in: its link changes with the world stopped, and
// the chain has an end.
func TestBackInAnotherOrder(t *testing.T) {
	v := startVictim(t, "2", "0", "300")
	tr := newTracer(t)
	ctx := ctxFor(t, 60*time.Second)
	in := func(id string) arena.Place {
		t.Helper()
		pp := handMade(t, v.p, id, v.exe)
		_, err := insertGuards(ctx, tr, v.p, pp, Options{Mode: jit.ModeAudit})
		must(t, err)
		return pp.guards[0].Place
	}
	out := func(id string) {
		t.Helper()
		_, err := Remove(ctx, tr, v.p, id, nil)
		must(t, err)
	}
	a, _ := in("O-1"), in("O-2")
	out("O-1")
	all, err := observe.Arenas(v.p)
	must(t, err)
	all[0].Slots[all[0].Guards[a.Index].Slot].State = arena.SlotQuarantined
	must(t, writeChanges(tr, v.p, all[0]))
	if again := in("O-1"); again.Code != a.Code {
		t.Fatalf("at %v, before at %v", again.Code, a.Code)
	}
	v.progress(t, slow)
	for _, id := range []string{"O-1", "O-2"} {
		if pp := status(t, v, id); pp.State != observe.StateIn || pp.Guards[0].Counts.Audited == 0 {
			t.Errorf("%s: %+v", id, pp)
		}
	}
	out("O-2")
	v.progress(t, slow)
	out("O-1")
	textEqualsFile(t, v.p)
}

// What leads nowhere any more is no reason to leave the only guard of a site in.
func TestRemoveWithoutLink(t *testing.T) {
	v := startVictim(t, "1")
	tr := newTracer(t)
	ctx := ctxFor(t, 60*time.Second)
	pp := handMade(t, v.p, "N-1", v.exe)
	_, err := insertGuards(ctx, tr, v.p, pp, Options{Mode: jit.ModeAudit})
	must(t, err)
	g := pp.guards[0]
	// Another jump to where the nop leads.
	link := g.Place.Code.Add(int64(g.Code.Link))
	must(t, tr.Write(v.p, link, jmp(link, link+jit.LinkSize)))
	v.progress(t, slow)
	_, err = insertGuards(ctx, tr, v.p, handMade(t, v.p, "N-2", v.exe), Options{Mode: jit.ModeAudit})
	var differs *SiteError
	if !errors.As(err, &differs) {
		t.Errorf("another guard behind it: %v", err)
	}
	_, err = Remove(ctx, tr, v.p, "N-1", nil)
	must(t, err)
	v.progress(t, slow)
	textEqualsFile(t, v.p)
}

// Ever new programs come and go on a busy function. Threads are in the removed
// ones now and then, and still the arena does not fill up.
func TestManyPrograms(t *testing.T) {
	v := startVictim(t, "3", "0", "200")
	tr := newTracer(t)
	ctx := ctxFor(t, 60*time.Second)
	busy := 0
	for i := range 150 {
		pp, err := tryMade(v.p, "Q-1", kind{byte(i), rejectNegative, false}, v.exe)
		if err != nil {
			t.Fatalf("program %d, %d were busy: %v", i, busy, err)
		}
		if _, err := insertGuards(ctx, tr, v.p, pp, Options{Mode: jit.ModeEnforce}); err != nil {
			t.Fatalf("program %d: %v", i, err)
		}
		r, err := Remove(ctx, tr, v.p, "Q-1", nil)
		if err != nil {
			t.Fatalf("program %d: %v", i, err)
		}
		if r.Busy {
			busy++
		}
	}
	v.quiet(t)
	textEqualsFile(t, v.p)
	t.Logf("%d of 150 were busy", busy)
}

// An arena that other programs have filled says so and stays whole.
func TestFullArena(t *testing.T) {
	v := startVictim(t, "1")
	tr := newTracer(t)
	ctx := ctxFor(t, 60*time.Second)
	n := 0
	for ; n < 100; n++ {
		pp, err := tryHandMade(v.p, fmt.Sprintf("L-%c", 'A'+n), v.exe)
		if err == nil {
			_, err = insertGuards(ctx, tr, v.p, pp, Options{Mode: jit.ModeAudit})
		}
		if errors.Is(err, arena.ErrFull) {
			break
		}
		if err != nil {
			t.Fatalf("prepatch %d: %v", n, err)
		}
	}
	if n != arena.MaxPrepatches {
		t.Errorf("%d prepatches went in", n)
	}
	v.progress(t, slow)
	for i := range n {
		if _, err := Remove(ctx, tr, v.p, fmt.Sprintf("L-%c", 'A'+i), nil); err != nil {
			t.Fatal(err)
		}
	}
	textEqualsFile(t, v.p)
}

// How long threads are off for a commit, and an insertion takes, by the number
// of threads. Bounds are docs/benchmarks.md's business; this keeps the order of
// magnitude.
func TestPause(t *testing.T) {
	sizes := []int{1, 128}
	if fullSweep {
		sizes = append(sizes, 1000) // with the race detector, the watchdog would end it
	}
	for _, threads := range sizes {
		v := startVictim(t, "1", "0", "0", strconv.Itoa(threads-1))
		tr := newTracer(t)
		ctx := ctxFor(t, 60*time.Second)
		var pauses, walls []time.Duration
		for range 7 {
			r, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, "P-1", v.exe), Options{Mode: jit.ModeEnforce})
			must(t, err)
			pauses, walls = append(pauses, r.Pause), append(walls, r.Wall)
			_, err = Remove(ctx, tr, v.p, "P-1", nil)
			must(t, err)
		}
		slices.Sort(pauses)
		slices.Sort(walls)
		t.Logf("%4d threads: pause %v to %v, median %v; wall median %v", threads, pauses[0], pauses[6], pauses[3], walls[3])
		if pauses[3] > 200*time.Millisecond {
			t.Errorf("%d threads: median pause %v", threads, pauses[3])
		}
	}
}
