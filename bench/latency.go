package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Windows alternate: without, beside, with, without … In one with, a guard on a function
// of every request goes in and out again cyclesPerWindow times, so that it is 200 times
// in all. In one beside, the same happens to another server of the kind, which nobody
// asks: what that costs is the processor time of pie's commands, not the stops. In the last
// kind one pie that runs on makes the cycles in the server: the stops with less of the rest.
// Between them stands a second window without: the bound that nothing at all has is the
// least that this machine can show.
const (
	fullRounds      = 10
	cyclesPerWindow = 200 / fullRounds
	windowTime      = 4 * time.Second // unless it is said; a window ends when its cycles are done
)

// Load: clients that ask at fixed times whether the last answer has come or not, so
// that a stall counts for every request that it delays.
const (
	latencyClients = 8
	latencyEvery   = 4 * time.Millisecond
)

// latency prints what 200 insertions and removals do to the slowest thousandth of a
// server's answers.
func (b *bench) latency() error {
	fmt.Printf("\n## p99.9 of servers, %d windows of %v each without, with %d insert/remove cycles beside it, with them in it, and in it by one pie that runs on\n\n", b.rounds, b.window, cyclesPerWindow)
	fmt.Println("| server | cycles | p99.9 ms (median) | change against without (mean of the logs) | upper 95 % bound | p50 ms | requests | errors | all windows |\n|---|---|---|---|---|---|---|---|---|")
	for _, s := range servers {
		if b.server != "" && b.server != s.name {
			continue
		}
		if err := b.latencyOf(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (b *bench) latencyOf(s server) error {
	address, pid, stop, err := s.start(b)
	if err != nil {
		return err
	}
	defer stop()
	_, decoy, stopDecoy, err := s.start(b)
	if err != nil {
		return err
	}
	defer stopDecoy()
	guard := filepath.Join(b.dir, s.name+".go")
	if err := os.WriteFile(guard, []byte(fmt.Sprintf(hotGuard, s.name, s.exe, s.function)), 0o600); err != nil {
		return err
	}
	l := &latencyLoad{stop: make(chan struct{})}
	defer l.end()
	for i := range latencyClients {
		ask, err := s.dial(address)
		if err != nil {
			return err
		}
		l.running.Go(func() { l.run(ask, time.Duration(i)*latencyEvery/latencyClients) })
	}
	time.Sleep(time.Second) // warm
	l.take()
	one, err := startCycler(pid, guard)
	if err != nil {
		return err
	}
	defer one.end()
	if err := one.once(); err != nil { // what it reads of files, once
		return err
	}
	l.take()
	windows := []window{
		{name: "none"},
		{name: "beside it", cycle: func() error { return b.cycle(guard, s.name, decoy) }},
		{name: "none, again"},
		{name: "in it", cycle: func() error { return b.cycle(guard, s.name, pid) }},
		{name: "in it, by one pie that runs on", cycle: one.once},
	}
	spent := one.cpu()
	for range b.rounds {
		for k := range windows {
			if err := windows[k].run(b.window); err != nil {
				return err
			}
			windows[k].samples = append(windows[k].samples, l.take())
		}
	}
	for _, w := range windows {
		printLatency(s.name, w.name, windows[0].samples, w.samples)
	}
	fmt.Printf("\nThe one that runs on took %.1f ms of processor time a cycle.\n", ms(one.cpu()-spent)/float64(b.rounds*cyclesPerWindow))
	return nil
}

// window is a kind of window: what happens in it, and what was seen.
type window struct {
	name    string
	cycle   func() error // nil: nothing happens
	samples []sample
}

// run lets the window pass, with its cycles evenly over it where there is time.
func (w *window) run(length time.Duration) error {
	begin := time.Now()
	for c := range cyclesPerWindow {
		if w.cycle == nil {
			break
		}
		time.Sleep(time.Until(begin.Add(time.Duration(c) * length / cyclesPerWindow)))
		if err := w.cycle(); err != nil {
			return err
		}
	}
	time.Sleep(time.Until(begin.Add(length)))
	return nil
}

// cycle inserts and removes once, by commands.
func (b *bench) cycle(guard, id string, pid int) error {
	if err := b.pie("insert", guard, "--pid", strconv.Itoa(pid), "--yes"); err != nil {
		return err
	}
	return b.pie("remove", "BENCH-"+id, "--pid", strconv.Itoa(pid))
}

// hotGuard looks at every request and passes it.
const hotGuard = `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id BENCH-%s

// Guard rejects one address in 2^64.
//
//pie:guard exe=%s func=%s onfault=pass onfuel=pass
func Guard(c *libpie.Call, a uint64) libpie.Verdict {
	if a == 0xdeadbeefdeadbeef {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`

// latencyLoad keeps clients busy and collects how long their answers take.
type latencyLoad struct {
	stop    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	took   []time.Duration
	errors int
}

func (l *latencyLoad) run(ask func() error, offset time.Duration) {
	for due := time.Now().Add(offset); ; due = due.Add(latencyEvery) {
		select {
		case <-l.stop:
			return
		case <-time.After(time.Until(due)):
		}
		err := ask()
		l.mu.Lock()
		if l.took = append(l.took, time.Since(due)); err != nil {
			l.errors++
		}
		l.mu.Unlock()
		if err != nil {
			return // the error is told; the server is not asked on a broken connection
		}
	}
}

func (l *latencyLoad) end() {
	close(l.stop)
	l.running.Wait()
}

// sample is one window.
type sample struct {
	p50, p999        time.Duration
	requests, errors int
}

// take returns what came since the last one.
func (l *latencyLoad) take() sample {
	l.mu.Lock()
	took, errors := l.took, l.errors
	l.took, l.errors = nil, 0
	l.mu.Unlock()
	if len(took) == 0 {
		return sample{errors: errors}
	}
	slices.Sort(took)
	return sample{took[len(took)/2], took[len(took)*999/1000], len(took), errors}
}

// t95 is the 95th percentile of Student's t by pairs, which are one more than its degrees
// of freedom.
var t95 = [fullRounds + 1]float64{2: 6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833}

// printLatency compares each window with its neighbour without cycles, by the
// logarithm of their ratio.
func printLatency(name, cycles string, without, with []sample) {
	var logs, p999, p50 []float64
	requests, errors := 0, 0
	for i := range with {
		logs = append(logs, math.Log(float64(with[i].p999)/float64(without[i].p999)))
		p999, p50 = append(p999, ms(with[i].p999)), append(p50, ms(with[i].p50))
		requests += with[i].requests
		errors += with[i].errors
	}
	mean, deviation := moments(logs)
	bound := mean + t95[len(logs)]*deviation/math.Sqrt(float64(len(logs)))
	fmt.Printf("| %s | %s | %.2f | %+.1f %% | %+.1f %% | %.2f | %d | %d | %.2f |\n", name, cycles, median(p999),
		100*(math.Exp(mean)-1), 100*(math.Exp(bound)-1), median(p50), requests, errors, p999)
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func moments(x []float64) (mean, deviation float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		deviation += (v - mean) * (v - mean) / float64(len(x)-1)
	}
	return mean, math.Sqrt(deviation)
}
