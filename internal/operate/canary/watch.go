package canary

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/patch-integration-engine/pie"
)

// Limits end a canary when they are passed. Counts are of the whole canary,
// shares and times of one step.
type Limits struct {
	Exits    int // processes of the group that ended
	Restarts int // processes that took the place of one that ended
	// Errors are calls on which a guard could not read memory, RanLong those on which one
	// ran too long. On trial, a guard turns itself off at the first: while there are no more
	// than allowed it is switched on again at the next look.
	Errors, RanLong int
	Rejects         float64 // share of calls rejected, 0–1
	// CPU is how many times as much processor time guarded processes may use
	// as before. It is looked at when that is above cpuFloor of a processor, and
	// the processes used some before.
	CPU float64
	// CPUMargin is how much more it has to be beside that, in processors: of a small share
	// several times as much is still what a client more, or less, makes.
	CPUMargin float64
}

// DefaultLimits are those of the command.
var DefaultLimits = Limits{Exits: 0, Restarts: 0, Errors: 0, RanLong: 0, Rejects: 0.01, CPU: 2, CPUMargin: 0.1}

const (
	cpuFloor = 0.05
	// minCalls is how many calls a share of rejects is about at least.
	minCalls = 100
)

// baseline is what was so before a step.
type baseline struct {
	pids []int
	cpu  map[int]float64 // processors in use, by pid
	at   time.Time
	used map[int]time.Duration // processor time so far
}

// measure looks at the processes for a while, at most a few seconds.
func measure(ctx context.Context, pids []int, wait time.Duration) baseline {
	b := baseline{pids: pids, cpu: map[int]float64{}}
	begin, first := time.Now(), cpuTimes(pids)
	sleep(ctx, min(wait/2, 2*time.Second))
	b.at, b.used = time.Now(), cpuTimes(pids)
	for pid, used := range b.used {
		b.cpu[pid] = float64(used-first[pid]) / float64(b.at.Sub(begin))
	}
	return b
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// cpuTimes reads utime and stime (proc_pid_stat(5), ticks of 10 ms).
func cpuTimes(pids []int) map[int]time.Duration {
	out := map[int]time.Duration{}
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
		if len(fields) < 13 {
			continue
		}
		user, err1 := strconv.ParseInt(fields[11], 10, 64)
		system, err2 := strconv.ParseInt(fields[12], 10, 64)
		if err1 == nil && err2 == nil {
			out[pid] = time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	return out
}

// tick is how often is looked.
const tick = time.Second

// watch looks at the guarded processes until the step's time is over. It returns
// what is wrong, or nothing.
func (r *run) watch(ctx context.Context, before baseline) string {
	end := time.Now().Add(r.plan.Wait)
	start := r.counts(ctx)
	next := time.Now()
	for {
		if ctx.Err() != nil {
			return "interrupted"
		}
		for _, look := range []func() string{
			func() string { return r.lookAtProcesses(ctx, before) },
			func() string { return r.lookAtGuards(ctx, start) },
		} {
			if why := look(); why != "" {
				return why
			}
		}
		if !time.Now().Before(next) {
			if err := r.plan.Health.check(ctx); err != nil && ctx.Err() == nil {
				return "the health check says no: " + err.Error()
			}
			next = time.Now().Add(r.plan.Health.every())
		}
		left := time.Until(end)
		if left <= 0 {
			return r.lookAtCPU(before)
		}
		sleep(ctx, min(tick, left))
	}
}

// lookAtProcesses counts ends and restarts.
func (r *run) lookAtProcesses(ctx context.Context, before baseline) string {
	now, err := r.sel(ctx)
	if err != nil {
		return "listing the processes: " + err.Error()
	}
	ended, started := 0, 0
	last := 0
	for _, pid := range before.pids {
		if !slices.Contains(now, pid) {
			ended, last = ended+1, pid
		}
	}
	for _, pid := range now {
		if !slices.Contains(before.pids, pid) {
			started++
		}
	}
	switch restarts := min(ended, started); {
	case restarts > r.plan.Limits.Restarts:
		return fmt.Sprintf("%d of its processes were started anew, more than --max-restarts %d (pid %d ended)", restarts, r.plan.Limits.Restarts, last)
	case ended > r.plan.Limits.Exits:
		return fmt.Sprintf("%d of its processes ended, more than --max-exits %d (pid %d)", ended, r.plan.Limits.Exits, last)
	}
	return ""
}

// counts are what guards did, a family's once.
type counts struct{ calls, rejects, errors, ranLong uint64 }

func (r *run) status(ctx context.Context) []pie.ProcessStatus { return statusOf(ctx, r.pids()) }

func statusOf(ctx context.Context, pids []int) []pie.ProcessStatus {
	if len(pids) == 0 {
		return nil
	}
	all, err := pie.Status(ctx, pie.Pids(pids...))
	if err != nil {
		return nil
	}
	return all
}

func (r *run) counts(ctx context.Context) counts { return sum(r.p.ID, r.status(ctx)) }

func sum(id string, all []pie.ProcessStatus) (c counts) {
	seen := map[string]bool{}
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID != id || seen[p.Counters] {
				continue
			}
			seen[p.Counters] = true
			for _, g := range p.Guards {
				c.calls += g.Calls
				c.rejects += g.Rejects + g.Audited
				c.errors += g.Errors
				c.ranLong += g.RanLong
			}
		}
	}
	return c
}

// having are the pids of those that have a prepatch.
func having(id string, all []pie.ProcessStatus) (pids []int) {
	for _, s := range all {
		if slices.ContainsFunc(s.Prepatches, func(p pie.PrepatchStatus) bool { return p.ID == id }) {
			pids = append(pids, s.Pid)
		}
	}
	return pids
}

// lookAtGuards looks at what guards did since the step began.
func (r *run) lookAtGuards(ctx context.Context, start counts) string {
	all := r.status(ctx)
	for _, s := range all {
		if s.Problem != "" {
			return fmt.Sprintf("pid %d: %s", s.Pid, s.Problem)
		}
	}
	now, limits := sum(r.p.ID, all), r.plan.Limits
	calls := since(now.calls, start.calls)
	share := float64(since(now.rejects, start.rejects)) / float64(max(calls, 1))
	switch {
	case since(now.errors, r.start.errors) > uint64(max(limits.Errors, 0)):
		return fmt.Sprintf("%d guard errors, more than --max-errors %d", since(now.errors, r.start.errors), limits.Errors)
	case since(now.ranLong, r.start.ranLong) > uint64(max(limits.RanLong, 0)):
		return fmt.Sprintf("the guard ran too long on %d calls, more than --max-ran-long %d", since(now.ranLong, r.start.ranLong), limits.RanLong)
	case calls >= minCalls && share > limits.Rejects:
		return fmt.Sprintf("%.2g%% of %d calls rejected, more than --max-reject %.4g%%", share*100, calls, limits.Rejects*100)
	}
	return r.switchOn(ctx, all)
}

// switchOn switches guards on again that turned themselves off at a call of a kind that
// is allowed: there were no more of them than that. It says what another one is off for.
func (r *run) switchOn(ctx context.Context, all []pie.ProcessStatus) string {
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID != r.p.ID || p.Stopped == "" {
				continue
			}
			allowed := p.Stopped == pie.StoppedByError && r.plan.Limits.Errors > 0 || p.Stopped == pie.StoppedByTime && r.plan.Limits.RanLong > 0
			if !allowed {
				return fmt.Sprintf("pid %d: the guard turned itself off: %s", s.Pid, p.Stopped)
			}
			r.tell("pid %d: %s, as often as is allowed: switched on again", s.Pid, p.Stopped)
			if _, err := pie.SetMode(ctx, r.p.ID, r.o.Mode, pie.Pids(s.Pid)); err != nil && pie.ReasonOf(err) != pie.CodeNoProcess {
				return fmt.Sprintf("pid %d: switching the guard on again: %v", s.Pid, err)
			}
		}
	}
	return ""
}

// since is how much a counter grew. What a program may write into is a claim.
func since(now, start uint64) uint64 {
	if now < start {
		return 0
	}
	return now - start
}

// lookAtCPU compares with the time before the step.
func (r *run) lookAtCPU(before baseline) string {
	took := time.Since(before.at)
	for pid, used := range cpuTimes(r.pids()) {
		was, known := before.cpu[pid]
		now := float64(used-before.used[pid]) / float64(took)
		if limits := r.plan.Limits; known && was > cpuFloor && now > was*limits.CPU && now-was > limits.CPUMargin {
			return fmt.Sprintf("pid %d uses %.2f processors, %.2f before: more than --max-cpu %g times, and more than --cpu-margin %g beyond it", pid, now, was, limits.CPU, limits.CPUMargin)
		}
	}
	return ""
}
