package insert

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/arena"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/plan"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// poke writes into the victim as another tool would.
func (v *victim) poke(t testing.TB, at address.Addr, b ...byte) {
	t.Helper()
	f, err := os.OpenFile("/proc/"+v.numbers()[0]+"/mem", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, int64(at)); err != nil {
		t.Fatal(err)
	}
}

// What stands at a site is named, and nothing is changed: no byte, no mapping.
func TestRefusedSites(t *testing.T) {
	tests := []struct {
		name string
		edit func(t *testing.T, v *victim, g *plan.Guard)
		code SiteCode
	}{
		{"a uprobe or breakpoint on a later instruction", func(t *testing.T, v *victim, g *plan.Guard) {
			v.poke(t, g.Site+4, 0xcc)
		}, SiteUprobe},
		{"another patcher's jump", func(t *testing.T, v *victim, g *plan.Guard) {
			v.poke(t, g.Site, 0xe9, 1, 2, 3, 4)
		}, SiteForeign},
		{"another patcher's indirect jump", func(t *testing.T, v *victim, g *plan.Guard) {
			v.poke(t, g.Site, 0xff, 0x25, 2, 3, 4)
		}, SiteForeign},
		{"other bytes", func(t *testing.T, v *victim, g *plan.Guard) { v.poke(t, g.Site+7, 0x20) }, SiteDiffers},
		{"another file", func(t *testing.T, v *victim, g *plan.Guard) { g.Image.Inode++ }, SiteNotMapped},
		{"no mapping", func(t *testing.T, v *victim, g *plan.Guard) { g.Site = 1 << 30 }, SiteNotMapped},
		{"data", func(t *testing.T, v *victim, g *plan.Guard) { g.Site = v.stats }, SiteNotMapped},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := startVictim(t, "0")
			tr := newTracer(t)
			pp := handMade(t, v.p, "R-1", v.exe)
			tt.edit(t, v, &pp.guards[0])
			before := mapsText(t, v)
			_, err := insertGuards(ctxFor(t, 30*time.Second), tr, v.p, pp, Options{})
			var site *SiteError
			if !errors.As(err, &site) || site.Code != tt.code {
				t.Fatalf("got %v, want %s", err, tt.code)
			}
			if after := mapsText(t, v); after != before {
				t.Errorf("the mappings changed:\n%s\n%s", before, after)
			}
		})
	}
}

// A site that changes between check and commit is seen in the stopped world,
// and what was prepared is unmapped.
func TestSiteChangedMeanwhile(t *testing.T) {
	v := startVictim(t, "0")
	tr := newTracer(t)
	ctx := ctxFor(t, 30*time.Second)
	pp := handMade(t, v.p, "R-2", v.exe, v.lib)
	before := mapsText(t, v)
	in := newInsertion(tr, v.p, pp, Options{})
	must(t, in.check())
	must(t, in.model())
	must(t, in.prepare(ctx))
	v.poke(t, pp.guards[1].Site+7, 0x20)
	_, err := in.commit(ctx)
	var site *SiteError
	if !errors.As(err, &site) || site.Code != SiteDiffers {
		t.Fatalf("got %v", err)
	}
	must(t, in.undo(ctx))
	if after := mapsText(t, v); after != before {
		t.Errorf("the mappings changed:\n%s\n%s", before, after)
	}
	if _, err := observe.Status(v.p); err != nil {
		t.Error(err)
	}
	v.poke(t, pp.guards[1].Site+7, 0x10)
	textEqualsFile(t, v.p)
}

// mapsText is /proc/PID/maps without what moves by itself.
func mapsText(t testing.TB, v *victim) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + v.numbers()[0] + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOtherVersionIsRefused(t *testing.T) {
	v := startVictim(t, "0")
	tr := newTracer(t)
	ctx := ctxFor(t, 30*time.Second)
	must(t, runVerb("insert", tr, v.p, v.exe, v.lib))
	pp := handMade(t, v.p, "S-1", v.exe, v.lib)
	pp.hash[5] ^= 1
	if _, err := insertGuards(ctx, tr, v.p, pp, Options{}); !errors.Is(err, ErrOtherVersion) {
		t.Errorf("got %v", err)
	}
}

// A plan made before another pie changed the arena is stale.
func TestStalePlan(t *testing.T) {
	v := startVictim(t, "0")
	tr := newTracer(t)
	ctx := ctxFor(t, 30*time.Second)
	first := handMade(t, v.p, "X-1", v.exe)
	must(t, runVerb("insert", tr, v.p, v.exe, v.lib))
	if _, err := insertGuards(ctx, tr, v.p, first, Options{}); !errors.Is(err, ErrStale) {
		t.Errorf("a plan for an unmapped arena: %v", err)
	}
	second := handMade(t, v.p, "X-1", v.exe)
	must(t, runVerb("remove", tr, v.p))
	if _, err := insertGuards(ctx, tr, v.p, second, Options{}); !errors.Is(err, ErrStale) {
		t.Errorf("a plan for another state: %v", err)
	}
	textEqualsFile(t, v.p)
}

func TestNoAddressSpace(t *testing.T) {
	v := startVictim(t, "0")
	st, err := os.ReadFile("/proc/" + v.numbers()[0] + "/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages := number(t, strings.Fields(string(st))[0])
	rl := unix.Rlimit{Cur: uint64(pages+5) * pageSize, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(v.pid, unix.RLIMIT_AS, &rl, nil); err != nil {
		t.Fatal(err)
	}
	before := mapsText(t, v)
	_, err = insertGuards(ctxFor(t, 30*time.Second), newTracer(t), v.p, handMade(t, v.p, "N-1", v.exe), Options{})
	var room *HeadroomError
	if !errors.As(err, &room) || room.Have >= room.Need {
		t.Errorf("got %v", err)
	}
	if mapsText(t, v) != before {
		t.Error("the mappings changed")
	}
}

func TestGoneProcess(t *testing.T) {
	v := startVictim(t, "0")
	pp := handMade(t, v.p, "G-1", v.exe)
	v.stop()
	if _, err := insertGuards(ctxFor(t, 30*time.Second), newTracer(t), v.p, pp, Options{}); !errors.Is(err, tracee.ErrGone) && !errors.Is(err, proc.ErrGone) {
		t.Errorf("got %v", err)
	}
}

// A thread in a signal handler that returns into the site is waited for, and
// when it stays there nothing is changed.
func TestSignalFrameInSite(t *testing.T) {
	tests := []struct {
		hold, idle string // ms, threads
		busy       bool
	}{{"300", "0", false}, {"60000", "0", true}, {"60000", "64", true}}
	for _, tt := range tests {
		t.Run(tt.hold+" ms among "+tt.idle, func(t *testing.T) {
			v := startVictim(t, "1", "0", "0", tt.idle, "2", tt.hold)
			time.Sleep(50 * time.Millisecond) // the handler has begun
			tr := newTracer(t)
			start := time.Now()
			var err error
			for try := 0; try < 5; try++ {
				_, err = insertGuards(ctxFor(t, 30*time.Second), tr, v.p, handMade(t, v.p, "B-1", v.exe), Options{Mode: jit.ModeEnforce})
				if tt.busy || err == nil {
					break
				}
			}
			if busy := errors.Is(err, ErrBusySite); busy != tt.busy || !busy && err != nil {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
			v.progress(t, slow)
			if tt.busy {
				textEqualsFile(t, v.p)
			}
		})
	}
}

// A trial ends in the target's own time; keep ends it before.
func TestTrialAndKeep(t *testing.T) {
	v := startVictim(t, "1")
	tr := newTracer(t)
	ctx := ctxFor(t, 30*time.Second)
	r, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, "K-1", v.exe), Options{Mode: jit.ModeEnforce, Trial: time.Hour, MaxReject: 0.5})
	must(t, err)
	pp := status(t, v, "K-1")
	if d := time.Until(pp.Guards[0].TrialEnd) - time.Hour; d.Abs() > 2*time.Second || time.Until(r.TrialEnd)-time.Hour > time.Second {
		t.Errorf("the trial ends %v off, report says %v", d, r.TrialEnd)
	}
	if pp.Flags&arena.FlagTrial == 0 {
		t.Errorf("flags %v", pp.Flags)
	}
	if changed, err := Keep(ctx, tr, v.p, "K-1"); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if pp := status(t, v, "K-1"); !pp.Guards[0].TrialEnd.IsZero() || pp.Flags&arena.FlagKept == 0 {
		t.Errorf("kept: %+v", pp)
	}
	if changed, err := Keep(ctx, tr, v.p, "K-1"); err != nil || changed {
		t.Error(changed, err)
	}
	if _, err := Keep(ctx, tr, v.p, "K-2"); !errors.Is(err, ErrNotIn) {
		t.Errorf("got %v", err)
	}
}

// Modes and trials are not changed under the hands of another pie, which may be
// giving the records of the prepatch to another one; but what rejects is switched off.
func TestModeWhileAnotherPieIsAtWork(t *testing.T) {
	v := startVictim(t, "1")
	tr := newTracer(t)
	ctx := ctxFor(t, 30*time.Second)
	_, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, "B-1", v.exe), Options{Mode: jit.ModeEnforce, Trial: time.Hour})
	must(t, err)
	other, err := tracee.Open(v.pid)
	must(t, err)
	defer other.Close()
	unlock, err := other.Lock()
	must(t, err)
	if changed, err := SetMode(ctx, tr, v.p, "B-1", jit.ModeAudit); changed || !errors.Is(err, tracee.ErrBusy) {
		t.Errorf("mode: %v, %v; want ErrBusy", changed, err)
	}
	if changed, err := Keep(ctx, tr, v.p, "B-1"); changed || !errors.Is(err, tracee.ErrBusy) {
		t.Errorf("keep: %v, %v; want ErrBusy", changed, err)
	}
	if g := status(t, v, "B-1").Guards[0]; g.Mode != jit.ModeEnforce || g.TrialEnd.IsZero() {
		t.Errorf("mode %v, trial until %v", g.Mode, g.TrialEnd)
	}
	if changed, err := SetMode(ctx, tr, v.p, "B-1", jit.ModeOff); err != nil || !changed {
		t.Errorf("off: %v, %v", changed, err)
	}
	unlock()
	if changed, err := SetMode(ctx, tr, v.p, "B-1", jit.ModeAudit); err != nil || !changed {
		t.Errorf("mode: %v, %v", changed, err)
	}
}

// An id that a process has no room for would never be found again there.
func TestLongID(t *testing.T) {
	v := startVictim(t, "0")
	tr := newTracer(t)
	ctx := ctxFor(t, 30*time.Second)
	long := strings.Repeat("L", arena.MaxID+1)
	before := mapsText(t, v)
	if _, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, long, v.exe), Options{}); err == nil || mapsText(t, v) != before {
		t.Errorf("%v; want a refusal and nothing changed", err)
	}
	id := long[:arena.MaxID]
	_, err := insertGuards(ctx, tr, v.p, handMade(t, v.p, id, v.exe), Options{})
	must(t, err)
	if _, err := Remove(ctx, tr, v.p, id, nil); err != nil {
		t.Error(err)
	}
}

// The memory that an insertion makes the target pay for is what it reports,
// and at most 24 KiB.
func TestDirtyMemory(t *testing.T) {
	v := startVictim(t, "1")
	tr := newTracer(t)
	pp := handMade(t, v.p, "D-1", v.exe)
	r, err := insertGuards(ctxFor(t, 30*time.Second), tr, v.p, pp, Options{Mode: jit.ModeEnforce})
	must(t, err)
	v.progress(t, slow)
	total := smapsRSS(t, v, pp.guards[0].Place.Arena.Range())
	t.Logf("%d KiB in the arena, report %d KiB", total>>10, r.Dirtied>>10)
	if total > 24<<10 || total == 0 {
		t.Errorf("%d KiB of the arena are in memory", total>>10)
	}
}

func number(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// smapsRSS sums Rss over the mappings in r, in bytes.
func smapsRSS(t testing.TB, v *victim, r arena.Range) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + v.numbers()[0] + "/smaps")
	if err != nil {
		t.Fatal(err)
	}
	total, inside := 0, false
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) > 0 && strings.Contains(f[0], "-") {
			start, err := strconv.ParseUint(strings.Split(f[0], "-")[0], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			inside = r.Contains(address.Addr(start))
		}
		if inside && len(f) > 1 && f[0] == "Rss:" {
			total += number(t, f[1]) << 10
		}
	}
	return total
}
