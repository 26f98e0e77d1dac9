package detours

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/plan"
)

// short are the programs and ways that every run of the tests takes.
var short = map[string][]way{
	"bzip2": {{"gcc", "-O2"}, {"clang", "-O2 -pg"}, {"gcc", "-O1 -fpatchable-function-entry=3"}, {"gcc", "-O2 -static-pie -fPIE"}},
	"lua":   {{"gcc", "-O2 -fcf-protection=full"}, {"clang", "-O1"}},
}

// Every function of real programs, detoured at once: the same output, and at least
// 99.5 % of those that are no shorter than a jump, planned and executed.
func TestEveryFunctionExecuted(t *testing.T) {
	var sum tally
	t.Run("programs", func(t *testing.T) {
		for _, p := range programs {
			which := short[p.name]
			if os.Getenv("PIE_TEST_LONG") != "" {
				which = ways
			}
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
	const want = 0.995
	if p, e := sum.shares(); p < want || e < want {
		t.Errorf("%.2f %% of the functions are planned, %.2f %% of those that ran; want %.1f %%", 100*p, 100*e, 100*want)
	}
}

// tally counts functions. Those shorter than a jump are counted apart.
type tally struct {
	mu                      sync.Mutex
	functions, planned      int
	ran, ranPlanned         int // of these, what the work called
	tiny, tinyDone, tinyRan int
	calls                   uint64
	atEntry, overlaps       int
	refused                 map[plan.Code]int
	ranRefused              []string
}

const jumpLen = 5

func (s *tally) add(o *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.functions += o.functions
	s.planned += o.planned
	s.ran += o.ran
	s.ranPlanned += o.ranPlanned
	s.tiny += o.tiny
	s.tinyDone += o.tinyDone
	s.tinyRan += o.tinyRan
	s.calls += o.calls
	s.atEntry += o.atEntry
	s.overlaps += o.overlaps
	if s.refused == nil {
		s.refused = map[plan.Code]int{}
	}
	for c, n := range o.refused {
		s.refused[c] += n
	}
	for _, name := range o.ranRefused {
		s.ranRefused = append(s.ranRefused, name)
	}
}

func (s *tally) shares() (planned, ran float64) {
	return float64(s.planned) / float64(s.functions), float64(s.ranPlanned) / float64(s.ran)
}

func (s *tally) String() string {
	planned, ran := s.shares()
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d functions planned (%.2f %%), %d at their first instruction; %d of %d that ran (%.2f %%), %d calls; of %d shorter ones %d, %d ran; %d overlap another's jump;",
		s.planned, s.functions, 100*planned, s.atEntry, s.ranPlanned, s.ran, 100*ran, s.calls, s.tiny, s.tinyDone, s.tinyRan, s.overlaps)
	codes := make([]string, 0, len(s.refused))
	for c, n := range s.refused {
		codes = append(codes, fmt.Sprintf(" %d %s", n, c))
	}
	sort.Strings(codes)
	fmt.Fprintf(&b, " refused:%s; ran and was refused: %v", strings.Join(codes, ","), unique(s.ranRefused))
	return b.String()
}

func unique(names []string) []string {
	times := map[string]int{}
	for _, n := range names {
		times[n]++
	}
	out := make([]string, 0, len(times))
	for n, k := range times {
		out = append(out, fmt.Sprintf("%s×%d", n, k))
	}
	sort.Strings(out)
	return out
}

// detourEvery builds p in one way, has it do its work bare and with every function
// detoured, and compares.
func detourEvery(t *testing.T, p program, w way) *tally {
	t.Helper()
	exe := p.build(t, w)
	m := readModule(t, exe)
	all := planAll(t, m, biasOf(t, exe, m))
	if os.Getenv("PIE_TEST_REFUSALS") != "" {
		for _, r := range all.refused {
			t.Log(r.size, r.msg)
		}
	}

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
	return count(m, all, called, ran)
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

func count(m *module, all *planned, called map[address.Addr]uint64, ran map[address.Addr]bool) *tally {
	s := &tally{refused: map[plan.Code]int{}, atEntry: all.atEntry, overlaps: all.overlaps}
	for _, d := range all.detours {
		n := called[d.Where.Entry]
		s.calls += n
		s.function(d.size, true, n > 0)
	}
	for _, r := range all.refused {
		s.function(r.size, false, ran[r.entry])
		if r.size >= jumpLen {
			s.refused[r.code]++
			if ran[r.entry] {
				s.ranRefused = append(s.ranRefused, r.name+" "+string(r.code))
			}
		}
	}
	return s
}

func (s *tally) function(size uint64, planned, ran bool) {
	if size < jumpLen {
		s.tiny += 1
		s.tinyDone += one(planned)
		s.tinyRan += one(planned && ran)
		return
	}
	s.functions++
	s.planned += one(planned)
	s.ran += one(ran)
	s.ranPlanned += one(ran && planned)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
