package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// Counts lie in the memory of the processes that count, which goes with the last process of
// a family. A total of a metric must never become less, so the agent adds up what it read,
// and reads every logInterval. What was counted after the last reading of a family is in
// no total.

// familyGuard is a guard's counts, which a family of processes shares.
type familyGuard struct {
	pie.GuardStatus
	id, exe, key string
	pids         []int // of the family
}

// families lists each shared count once: they are not to be added up.
func families(all []pie.ProcessStatus) []familyGuard {
	at := map[string]int{}
	var out []familyGuard
	for _, s := range all {
		for _, p := range s.Prepatches {
			for _, g := range p.Guards {
				key := p.ID + " " + p.Counters + " " + g.Site
				i, known := at[key]
				if !known {
					i = len(out)
					at[key] = i
					out = append(out, familyGuard{GuardStatus: g, id: p.ID, exe: s.Exe, key: key})
				}
				out[i].pids = append(out[i].pids, s.Pid)
			}
		}
	}
	return out
}

// counts of one guard, in the order of the metrics.
type counts [5]uint64

func (g *familyGuard) counts() counts {
	return counts{g.Calls, g.Rejects, g.Audited, g.Errors, g.RanLong}
}

// series names what is added up in one total.
type series struct{ id, function, exe string }

// total is one series as it is told.
type total struct {
	series
	counts
}

// maxSeries bounds the totals: a program may lie at any path, and each is a series. What is
// beyond is added up under no path.
const maxSeries = 4096

// totals adds up the counts of families, of those that have ended, too.
type totals struct {
	mu       sync.Mutex
	families map[string]*counted
	all      map[series]counts
}

// counted is a guard of a family as it was read last.
type counted struct {
	series
	counts
	pids []int // of those that have it
}

// add takes a reading. Two may be under way at once, and the older come later: a count that
// is less than before is of that one, unless other processes have it.
func (t *totals) add(all []familyGuard) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.families == nil {
		t.families, t.all = map[string]*counted{}, map[series]counts{}
	}
	for _, g := range all {
		f := t.families[g.key]
		if f == nil || !slices.ContainsFunc(g.pids, func(pid int) bool { return slices.Contains(f.pids, pid) }) && g.Calls < f.counts[0] {
			f = &counted{series: t.seriesOf(g)}
			t.families[g.key] = f
		}
		f.pids = g.pids
		sum := t.all[f.series]
		for i, now := range g.counts() {
			if was := f.counts[i]; now > was {
				sum[i] += now - was
				f.counts[i] = now
			}
		}
		t.all[f.series] = sum
	}
}

func (t *totals) seriesOf(g familyGuard) series {
	s := series{g.id, g.Function, g.exe}
	if _, known := t.all[s]; !known && len(t.all) >= maxSeries {
		s.exe = ""
	}
	return s
}

// forget drops what was read of families none of whose processes is there any more; their
// totals stay.
func (t *totals) forget(there func(pid int) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, f := range t.families {
		if !slices.ContainsFunc(f.pids, there) {
			delete(t.families, key)
		}
	}
}

// list returns all totals, in their order.
func (t *totals) list() []total {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []total
	for s, c := range t.all {
		out = append(out, total{s, c})
	}
	slices.SortFunc(out, func(x, y total) int {
		return cmp.Or(cmp.Compare(x.id, y.id), cmp.Compare(x.function, y.function), cmp.Compare(x.exe, y.exe))
	})
	return out
}

// logCounts logs what guards turned away since it was told last, and sees to those that
// are lost.
func (a *Agent) logCounts(ctx context.Context) {
	for k := range a.kept {
		if now, ok := a.keyOf(k.pid, k.id); !ok || now != k {
			delete(a.kept, k) // it has ended
		}
	}
	read := guardsOf(ctx, a.processes())
	a.makeUp(ctx, read)
	all := families(read)
	a.Stats.totals.add(all)
	a.Stats.totals.forget(func(pid int) bool { return unix.Kill(pid, 0) != unix.ESRCH })
	for _, g := range all {
		now := g.Rejects + g.Audited + g.Errors + g.RanLong
		if before, known := a.rejected[g.key]; known && now > before {
			a.log.Warn("calls turned away", "prepatch", g.id, "function", g.Function, "exe", g.exe, "pid", g.pids[0], "since_last", now-before,
				"rejected", g.Rejects, "audited", g.Audited, "errors", g.Errors, "reads_refused", g.Refused, "ran_long", g.RanLong)
		}
		if len(a.rejected) > 4096 {
			clear(a.rejected)
		}
		a.rejected[g.key] = now
	}
}
