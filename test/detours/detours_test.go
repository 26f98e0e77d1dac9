package detours

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/plan"
)

// short are the programs and ways that every run of the tests takes.
var short = map[string][]way{
	"bzip2": {{"gcc", "-O2"}, {"clang", "-O2 -pg"}, {"gcc", "-O1 -static-pie -fPIE -fpatchable-function-entry=3"}},
	"lua":   {{"gcc", "-O2 -fcf-protection=full"}, {"clang", "-O1"}},
}

// Every function of real programs, detoured at once: the same output. Of those that
// are no shorter than a jump, at least 99.5 % are planned, and of those that run, too.
func TestEveryFunctionExecuted(t *testing.T) {
	var sum tally
	builds := 0
	t.Run("programs", func(t *testing.T) {
		for _, p := range programs {
			which := short[p.name]
			if os.Getenv("PIE_TEST_LONG") != "" {
				which = ways
			}
			builds += len(which)
			for _, w := range which {
				t.Run(p.name+" "+w.String(), func(t *testing.T) {
					t.Parallel()
					one := detourEvery(t, p, w)
					t.Logf("%v", one)
					sum.add(one)
				})
			}
		}
	})
	t.Logf("altogether %v", &sum)
	if sum.runs < builds {
		return // a selection, or one that has failed, says nothing of the whole
	}
	const want = 0.995
	planned := want
	if os.Getenv("PIE_TEST_LONG") == "" {
		planned = 0.99 // libc's assembly, which the programs share, weighs more in few of them
	}
	long, _ := sum.count()
	if p, r := share(long.planned, long.all), share(long.ranPlanned, long.ran); p < planned || r < want {
		t.Errorf("%.2f %% of the functions are planned, %.2f %% of those that ran; want %.1f and %.1f %%", 100*p, 100*r, 100*planned, 100*want)
	}
}

// tally holds what became of functions. Those of libc are in every program: one of
// the same name and size counts once.
type tally struct {
	mu    sync.Mutex
	fates map[function]fate
	calls uint64
	runs  int
	// detoured is how many guards stood in a program at once, altogether.
	detoured, atEntry, overlaps int
}

type function struct {
	name string
	size uint64
}

type fate struct {
	refused plan.Code // empty for planned
	ran     bool
}

const jumpLen = 5

// add takes another tally in.
func (s *tally) add(o *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f, n := range o.fates {
		s.note(f, n)
	}
	s.calls += o.calls
	s.runs += o.runs
	s.detoured += o.detoured
	s.atEntry += o.atEntry
	s.overlaps += o.overlaps
}

func (s *tally) note(f function, n fate) {
	if s.fates == nil {
		s.fates = map[function]fate{}
	}
	if before, ok := s.fates[f]; ok {
		n.ran = n.ran || before.ran
		n.refused = max(n.refused, before.refused) // refused once is refused
	}
	s.fates[f] = n
}

// counts are how many of the functions that satisfy which were planned, and how many
// there are; of those that ran, too.
type counts struct{ all, planned, ran, ranPlanned int }

func (c *counts) add(n fate) {
	c.all++
	c.planned += one(n.refused == "")
	c.ran += one(n.ran)
	c.ranPlanned += one(n.ran && n.refused == "")
}

// count counts functions no shorter than a jump, and shorter ones.
func (s *tally) count() (long, short counts) {
	for f, n := range s.fates {
		if f.size >= jumpLen {
			long.add(n)
		} else {
			short.add(n)
		}
	}
	return long, short
}

func share(part, all int) float64 { return float64(part) / float64(max(all, 1)) }

func (s *tally) String() string {
	long, short := s.count()
	var b strings.Builder
	fmt.Fprintf(&b, "%d programs, %d functions detoured, %d of them at their first instruction, %d calls; ", s.runs, s.detoured, s.atEntry, s.calls)
	fmt.Fprintf(&b, "of %d functions %d planned (%.2f %%), of %d that ran %d (%.2f %%); of %d shorter than a jump %d, %d ran; %d left out for another's jump in them; refused:",
		long.all, long.planned, 100*share(long.planned, long.all), long.ran, long.ranPlanned, 100*share(long.ranPlanned, long.ran), short.all, short.planned, short.ran, s.overlaps)
	by := map[plan.Code][]string{}
	for f, n := range s.fates {
		if n.refused != "" && f.size >= jumpLen {
			by[n.refused] = append(by[n.refused], f.name+map[bool]string{true: " (ran)"}[n.ran])
		}
	}
	for _, code := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[code])
		fmt.Fprintf(&b, "\n  %d %s: %s", len(by[code]), code, strings.Join(slices.Compact(by[code]), ", "))
	}
	return b.String()
}

// detourEvery builds p in one way, has it do its work bare and with every function
// detoured, and compares.
func detourEvery(t *testing.T, p program, w way) *tally {
	t.Helper()
	exe := p.build(t, w)
	m := readModule(t, exe)
	all := planAll(t, m, biasOf(t, exe, m))
	watch := make([]address.Addr, 0, len(all.refused))
	for _, r := range all.refused {
		watch = append(watch, r.entry)
	}
	ran := map[address.Addr]bool{}
	plain := p.do(t, exe, func(r *run) { r.watch = watch }, func(r *run) {
		for a := range r.seen {
			ran[a] = true
		}
	})
	called := map[address.Addr]uint64{}
	detoured := p.doDetoured(t, exe, all, all.detours, called)
	if d := plain.differs(detoured); d != "" {
		t.Errorf("with %d functions detoured the output is another: %s", len(all.detours), d)
		p.blame(t, exe, all, plain)
	}
	return count(all, called, ran)
}

// doDetoured does p's work with some of the detours, and counts the calls of each.
func (p program) doDetoured(t testing.TB, exe string, all *planned, detours []detour, called map[address.Addr]uint64) result {
	t.Helper()
	fd, err := unix.MemfdCreate("detours", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "detours")
	defer file.Close()
	size := int(all.hi - all.lo)
	if err := file.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	o := &overlay{memory: file, lo: all.lo, hi: all.hi}
	for _, d := range detours {
		all.write(memory, d)
		o.patches = append(o.patches, patch{d.Site, d.Patch})
	}
	got := p.do(t, exe, func(r *run) { r.detour = o }, func(*run) {})
	for _, d := range detours {
		called[d.Where.Entry] = all.calls(memory, d)
		if all.rejects(memory, d) != 0 {
			t.Errorf("%s: its guard rejected a call", d.Function)
		}
	}
	return got
}

// blame finds one function whose detour alone changes the output.
func (p program) blame(t testing.TB, exe string, all *planned, plain result) {
	t.Helper()
	suspects := all.detours
	for len(suspects) > 1 {
		half := suspects[:len(suspects)/2]
		if plain.differs(p.doDetoured(t, exe, all, half, map[address.Addr]uint64{})) == "" {
			half = suspects[len(suspects)/2:]
			if plain.differs(p.doDetoured(t, exe, all, half, map[address.Addr]uint64{})) == "" {
				t.Errorf("no half of %d functions from %s to %s changes the output alone", len(suspects), suspects[0].Function, suspects[len(suspects)-1].Function)
				return
			}
		}
		suspects = half
	}
	for _, d := range suspects {
		t.Errorf("%s at %v: kept %v, again %v, before %v, after %v, free %v, undo % x", d.Function, d.Where.Entry, d.Where.Kept, d.Where.Again, d.Where.Before, d.Where.After, d.Where.Free, d.Where.Undo)
	}
}

func count(all *planned, called map[address.Addr]uint64, ran map[address.Addr]bool) *tally {
	s := &tally{runs: 1, detoured: len(all.detours), atEntry: all.atEntry, overlaps: all.overlaps}
	for _, d := range all.detours {
		n := called[d.Where.Entry]
		s.calls += n
		s.note(function{d.Function, d.size}, fate{ran: n > 0})
	}
	for _, r := range all.refused {
		s.note(function{r.name, r.size}, fate{refused: r.code, ran: ran[r.entry]})
	}
	return s
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
