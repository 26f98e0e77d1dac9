package agent

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/patch-integration-engine/pie"
)

// Stats are the agent's own measurements, for Prometheus.
type Stats struct {
	pauses, windows, holds prometheus.Histogram
	totals                 totals
}

func newStats() *Stats {
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	return &Stats{
		pauses:  histogram("pie_pause_seconds", "How long a thread stood still for an insertion, at most.", .0001, .0003, .001, .003, .01, .03, .1, .5),
		windows: histogram("pie_unguarded_seconds", "How long a process ran after its exec before it was guarded; held ones did not.", .001, .003, .01, .03, .1, .3, 1, 10, 60),
		holds:   histogram("pie_hold_seconds", "How long a process was held at its exec, until it was guarded or let go of before.", .001, .003, .01, .02, .03, .04, .05, .1),
	}
}

func (s *Stats) pause(d time.Duration) { s.pauses.Observe(d.Seconds()) }
func (s *Stats) held(d time.Duration)  { s.holds.Observe(d.Seconds()) }

func (s *Stats) window(d time.Duration) {
	if d > 0 {
		s.windows.Observe(d.Seconds())
	}
}

// collector reads guards and rules when Prometheus asks.
type collector struct{ a *Agent }

var (
	guardLabels = []string{"prepatch", "function", "exe"}
	calls       = prometheus.NewDesc("pie_guard_calls_total", "Calls a guard looked at.", guardLabels, nil)
	rejects     = prometheus.NewDesc("pie_guard_rejects_total", "Calls turned into a failure.", guardLabels, nil)
	audited     = prometheus.NewDesc("pie_guard_audited_total", "Calls that would have been rejected.", guardLabels, nil)
	guardErrors = prometheus.NewDesc("pie_guard_errors_total", "Calls on which the guard could not read memory.", guardLabels, nil)
	ranLong     = prometheus.NewDesc("pie_guard_ran_long_total", "Calls on which the guard ran too long.", guardLabels, nil)
	processes   = prometheus.NewDesc("pie_process_state", "1 for the state a prepatch has in a process.", []string{"prepatch", "exe", "pid", "state", "mode"}, nil)
	policyGood  = prometheus.NewDesc("pie_policy_ok", "0 when the policy file has mistakes and an older one is in force.", nil, nil)
	inTime      = prometheus.NewDesc("pie_guarded_before_it_ran_total", "Starts that were held until they were guarded.", nil, nil)
	late        = prometheus.NewDesc("pie_late_total", "Starts that were let go of before they were guarded, since the limit was over.", nil, nil)
	lateGuarded = prometheus.NewDesc("pie_late_guarded_total", "Of those, how many were guarded as they ran.", nil, nil)
	lateEnded   = prometheus.NewDesc("pie_late_ended_total", "Of those, how many ended before or could not be guarded.", nil, nil)
	holding     = prometheus.NewDesc("pie_holding", "1 when new processes are held until they are guarded.", nil, nil)
)

// Describe tells nothing beforehand: what there is depends on the processes.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the processes that the agent keeps.
func (c collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	var s Status
	if c.a.ask(ctx, func() { s = c.a.status() }) != nil {
		return
	}
	gauge := func(d *prometheus.Desc, on bool, labels ...string) {
		v := 0.0
		if on {
			v = 1
		}
		out <- metric(d, prometheus.GaugeValue, v, labels)
	}
	gauge(policyGood, s.PolicyError == "")
	gauge(holding, s.Holding.On)
	starts := s.Holding.Starts
	count := func(d *prometheus.Desc, n int) { out <- metric(d, prometheus.CounterValue, float64(n), nil) }
	count(inTime, starts.Guarded)
	count(late, starts.Late)
	count(lateGuarded, starts.LateGuarded)
	count(lateEnded, starts.LateEnded)
	for _, p := range s.Processes {
		if p.State != Guarded && p.State != Off {
			gauge(processes, true, p.ID, p.Exe, strconv.Itoa(p.Pid), p.State, "")
		}
	}
	all := guardsOf(ctx, s.Processes)
	for _, st := range all {
		for _, in := range st.Prepatches {
			state := Guarded
			if in.State != "in" {
				state = in.State
			}
			gauge(processes, true, in.ID, st.Exe, strconv.Itoa(st.Pid), state, string(in.Mode))
		}
	}
	c.a.Stats.totals.add(families(all))
	for _, t := range c.a.Stats.totals.list() {
		for i, d := range []*prometheus.Desc{calls, rejects, audited, guardErrors, ranLong} {
			out <- metric(d, prometheus.CounterValue, float64(t.counts[i]), []string{t.id, t.function, t.exe})
		}
	}
}

// metric makes a metric. Labels name what a process had a hand in, which may be any
// bytes, and a label that is no UTF-8 is none.
func metric(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels []string) prometheus.Metric {
	valid := make([]string, len(labels))
	for i, l := range labels {
		valid[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	return prometheus.MustNewConstMetric(d, kind, v, valid...)
}

// guardsOf reads what is in the processes that are kept.
func guardsOf(ctx context.Context, all []Process) []pie.ProcessStatus {
	var pids []int
	for _, p := range all {
		if p.State == Guarded || p.State == Off {
			pids = append(pids, p.Pid)
		}
	}
	if len(pids) == 0 {
		return nil
	}
	st, err := pie.Status(ctx, pie.Pids(pids...))
	if err != nil {
		return nil
	}
	return st
}
