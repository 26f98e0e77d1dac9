package agent

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/operate/gate"
)

// started is one process of a storm, as it saw itself.
type started struct {
	took        time.Duration // from before its execve to its main
	first, last bool          // whether its first call was turned away, and its last
	life        time.Duration // 0: until the storm was over
}

// layOutStorm makes a world whose victim is started by a copy of itself, which no
// rule is about.
func layOutStorm(t testing.TB) *world {
	t.Helper()
	w := layOut(t, "testdata/storm.c")
	if out, err := exec.Command("cp", w.victim, filepath.Join(w.dir, "storm")).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return w
}

// storm starts count processes, rate a second, which live for lives in turn, in
// milliseconds; those of life 0, and all without lives, until linger returns. It returns how
// long the starting took.
func (w *world) storm(rate, count int, linger func(), lives ...string) ([]started, time.Duration) {
	w.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(filepath.Join(w.dir, "storm"), append([]string{strconv.Itoa(rate), strconv.Itoa(count), w.victim}, lives...)...)
	cmd.Stdout = &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	summary, err := cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	var us, failed int64
	if _, err := fmt.Fscan(summary, &us, &failed); err != nil || failed > 0 {
		w.t.Errorf("storm: %v, %d forks had no success", err, failed)
	}
	linger()
	stdin.Close()
	for lines := bufio.NewScanner(summary); lines.Scan(); { // wait(2) statuses other than 0
		if lines.Text() != "" {
			w.t.Errorf("a process %s", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		w.t.Errorf("storm: %v", err)
	}
	var all []started
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var us, life int64
		var first, last int
		if _, err := fmt.Sscan(lines.Text(), &us, &first, &last, &life); err != nil {
			w.t.Fatalf("storm says %q: %v", lines.Text(), err)
		}
		all = append(all, started{time.Duration(us) * time.Microsecond, first == 1, last == 1, time.Duration(life) * time.Millisecond})
	}
	if len(all) != count {
		w.t.Errorf("%d of %d processes came to their end", len(all), count)
	}
	return all, time.Duration(us) * time.Microsecond
}

// guarded counts the processes in which the agent says a guard is.
func (w *world) guarded() int {
	s, err := w.client.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, p := range s.Processes {
		if p.State == Guarded {
			n++
		}
	}
	return n
}

// longestHold is the longest time that the agent has held a process.
func (w *world) longestHold() time.Duration {
	s, err := w.client.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Holding.Longest
}

// quantile of sorted or unsorted durations, 0 to 1.
func quantile(all []started, q float64) time.Duration {
	var d []time.Duration
	for _, s := range all {
		d = append(d, s.took)
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

// share of the processes for which is holds, in percent.
func share(all []started, is func(started) bool) float64 {
	n := 0
	for _, s := range all {
		if is(s) {
			n++
		}
	}
	return 100 * float64(n) / float64(len(all))
}

// busyLimit bounds a hold, by the gate's own clock, where the gate itself may wait for a
// processor among all that start; BenchmarkStorm measures it.
const busyLimit = 4 * gate.MaxLimit

// However many start at once, none is lost: each that lives on has its guard soon,
// and none is held for long.
func TestStorm(t *testing.T) {
	count := 150
	if os.Getenv("PIE_TEST_LONG") != "" {
		count = 2000
	}
	w := layOutStorm(t)
	w.policy(theRule)
	w.begin(false)
	time.Sleep(time.Second) // the gate's workers compile
	began := time.Now()
	var later time.Duration
	all, took := w.storm(1000, count, func() {
		for end := time.Now().Add(2 * time.Minute); w.guarded() < count && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		}
		later = time.Since(began)
	})
	held := w.longestHold()
	t.Logf("%d processes started in %v: %.0f %% guarded before they ran, exec to main p50 %v, p99 %v, none held for more than %v; all guarded after %v", len(all), took,
		share(all, func(s started) bool { return s.first }), quantile(all, .5), quantile(all, .99), held, later)
	if held == 0 || held > busyLimit {
		t.Errorf("a process was held for %v", held)
	}
	if n := share(all, func(s started) bool { return s.last }); n < 100 {
		t.Errorf("only %.1f %% have a guard, %v later", n, later)
	}
	if most := quantile(all, 1); most > 10*time.Second {
		t.Errorf("an exec took %v", most)
	}
}

// Of every start it is told what became of it: it was guarded before it ran, or let go of,
// and then guarded as it ran, or it ended before. Nothing is left out, however short the
// lives and however many the starts.
func TestStormIsAccountedFor(t *testing.T) {
	count := 300
	if os.Getenv("PIE_TEST_LONG") != "" {
		count = 2000
	}
	w := layOutStorm(t)
	w.policy(theRule)
	w.begin(false)
	time.Sleep(time.Second) // the gate's workers compile
	var told Starts
	all, took := w.storm(1000, count, func() {
		for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if told = w.account(); told.Guarded+told.Late >= count && told.Late == told.LateGuarded+told.LateEnded {
				return
			}
		}
	}, "5", "5000", "5", "5000", "5", "0")
	w.t.Logf("%d starts in %v: %+v", count, took, told)
	held := w.longestHold()
	if told.Guarded+told.Late != count || told.Late != told.LateGuarded+told.LateEnded {
		t.Errorf("%d started, and it is told: %+v", count, told)
	}
	if held == 0 || held > busyLimit {
		t.Errorf("a process was held for %v", held)
	}
	for _, s := range all {
		if s.life == 0 && !s.last {
			t.Errorf("one that lived to the end has no guard")
		}
		if s.first && !s.last {
			t.Errorf("one that lived %v lost its guard", s.life)
		}
	}
	if n := count - int(share(all, func(s started) bool { return s.first })*float64(count)/100+.5); n > told.Late { // one may have got its guard between its exec and its main
		t.Errorf("%d ran unguarded at first, and %d are told of", n, told.Late)
	}
}

// account is what the agent tells of starts.
func (w *world) account() Starts {
	w.t.Helper()
	s, err := w.client.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Holding.Starts
}

// stormRates are how many starts a second BenchmarkStorm tries, and stormTime for how long.
var stormRates = []int{50, 100, 200, 500, 1000}

const stormTime = 3 * time.Second

// BenchmarkStorm starts a program so many times a second, or as often as the machine
// can: without an agent, with one whose rule is about another program, and with one
// that holds it.
func BenchmarkStorm(b *testing.B) {
	for _, tt := range []struct{ name, rule string }{
		{"no agent", ""},
		{"not named", "TEST-AGENT exe=/bin/true enforce"},
		{"named", theRule},
	} {
		for _, rate := range stormRates {
			b.Run(fmt.Sprintf("%s/%d", tt.name, rate), func(b *testing.B) {
				w := layOutStorm(b)
				if tt.rule != "" {
					w.policy(tt.rule)
					w.begin(false)
					time.Sleep(time.Second)
				}
				for b.Loop() {
					w.reportStorm(b, rate, tt.rule != "")
				}
			})
		}
	}
}

// reportStorm makes one storm, and reports how it went.
func (w *world) reportStorm(b *testing.B, rate int, agent bool) {
	count := rate * int(stormTime/time.Second)
	var holds []started
	all, took := w.storm(rate, count, func() {
		if time.Sleep(2 * time.Second); agent {
			holds = w.holds()
		}
	})
	b.ReportMetric(float64(count)/took.Seconds(), "starts/s")
	b.ReportMetric(float64(quantile(all, .5))/1e6, "p50-ms")
	b.ReportMetric(float64(quantile(all, .99))/1e6, "p99-ms")
	b.ReportMetric(share(all, func(s started) bool { return s.first }), "%first")
	b.ReportMetric(share(all, func(s started) bool { return s.last }), "%guarded")
	if len(holds) > 0 {
		b.ReportMetric(float64(quantile(holds, .5))/1e6, "p50-hold-ms")
		b.ReportMetric(float64(quantile(holds, .99))/1e6, "p99-hold-ms")
	}
	if agent {
		b.ReportMetric(float64(w.longestHold())/1e6, "longest-hold-ms")
	}
}

// holds are how long the processes were held that were guarded before they ran.
func (w *world) holds() (all []started) {
	s, err := w.client.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range s.Processes {
		if p.Held {
			all = append(all, started{took: p.Hold})
		}
	}
	return all
}
