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

// Windows alternate: without, with, without … In one with, a guard on a function of
// every request goes in and out again cyclesPerWindow times, so that it is 200 times
// in all.
const (
	windows         = 20
	cyclesPerWindow = 200 / (windows / 2)
	windowTime      = 4 * time.Second // at least: a window ends when its cycles are done
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
	fmt.Printf("\n## p99.9 of servers, %d windows without and with %d insert/remove cycles each\n\n", windows, cyclesPerWindow)
	fmt.Println("| server | p99.9 ms without (median) | with | change (mean of the logs) | upper 95 % bound | p50 without, with | requests | errors | windows without | with |\n|---|---|---|---|---|---|---|---|---|---|")
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
	var without, with []sample
	for w := range windows {
		begin := time.Now()
		if w%2 == 1 {
			if err := b.cycle(guard, s.name, pid, begin); err != nil {
				return err
			}
		}
		time.Sleep(time.Until(begin.Add(windowTime)))
		if w%2 == 1 {
			with = append(with, l.take())
		} else {
			without = append(without, l.take())
		}
	}
	printLatency(s.name, without, with)
	return nil
}

// cycle inserts and removes, evenly over a window where there is time.
func (b *bench) cycle(guard, id string, pid int, begin time.Time) error {
	for c := range cyclesPerWindow {
		time.Sleep(time.Until(begin.Add(time.Duration(c) * windowTime / cyclesPerWindow)))
		if err := b.pie("insert", guard, "--pid", strconv.Itoa(pid), "--yes"); err != nil {
			return err
		}
		if err := b.pie("remove", "BENCH-"+id, "--pid", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
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

// t95 is the 95th percentile of Student's t with 9 degrees of freedom: ten pairs.
const t95 = 1.833

// printLatency compares each window with its neighbour, by the logarithm of their ratio.
func printLatency(name string, without, with []sample) {
	var logs, a, b, a50, b50 []float64
	requests, errors := 0, 0
	for i := range with {
		logs = append(logs, math.Log(float64(with[i].p999)/float64(without[i].p999)))
		a, b = append(a, ms(without[i].p999)), append(b, ms(with[i].p999))
		a50, b50 = append(a50, ms(without[i].p50)), append(b50, ms(with[i].p50))
		requests += without[i].requests + with[i].requests
		errors += without[i].errors + with[i].errors
	}
	mean, deviation := moments(logs)
	bound := mean + t95*deviation/math.Sqrt(float64(len(logs)))
	fmt.Printf("| %s | %.2f | %.2f | %+.1f %% | %+.1f %% | %.2f, %.2f | %d | %d | %.2f | %.2f |\n", name, median(a), median(b),
		100*(math.Exp(mean)-1), 100*(math.Exp(bound)-1), median(a50), median(b50), requests, errors, a, b)
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
