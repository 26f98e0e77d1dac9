// Command bench measures PIE on this machine and prints Markdown tables, beside
// the peers that can be had anywhere: gdb, the kernel's uprobes, and a bare C
// program that stops every thread and does nothing.
//
//	go run ./bench [-repeat N] [-rounds N] [-window D] [-server NAME] [cost] [pause] [insert] [latency] [idle] [scan]
//
// Every figure is a median over repeats, and every comparison comes from one run:
// a guarded function beside its twin in the same process, a peer beside PIE on
// the same target. Absolute times are this machine's; ratios carry over.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

func main() {
	if order := os.Getenv(cyclerOrder); order != "" {
		if err := obey(order); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	repeat := flag.Int("repeat", 5, "how often each measurement is repeated")
	server := flag.String("server", "", "measure the latency of this server alone: nginx, redis or postgres")
	rounds := flag.Int("rounds", fullRounds, "windows of each kind in the measurement of latency, 2 to 10")
	window := flag.Duration("window", windowTime, "how long a window of it lasts, at least")
	flag.Parse()
	what := flag.Args()
	if len(what) == 0 {
		what = []string{"cost", "pause", "insert"}
	}
	if err := run(what, *repeat, *server, *rounds, *window); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(what []string, repeat int, server string, rounds int, window time.Duration) error {
	if rounds < 2 || rounds > fullRounds {
		return fmt.Errorf("%d rounds: there must be 2 to %d", rounds, fullRounds)
	}
	b, err := newBench(repeat)
	if err != nil {
		return err
	}
	defer b.close()
	b.server, b.rounds, b.window = server, rounds, window
	fmt.Printf("%d cores, %s, %s\n", runtime.NumCPU(), runtime.Version(), kernel())
	for _, w := range what {
		measure, ok := map[string]func() error{"cost": b.cost, "pause": b.pause, "insert": b.insert, "latency": b.latency, "idle": b.idle, "scan": b.scan}[w]
		if !ok {
			return fmt.Errorf("no measurement %q: there are cost, pause, insert, latency, idle and scan", w)
		}
		if err := measure(); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	return nil
}

// A bench has everything built, in a folder of its own.
type bench struct {
	dir     string
	repeat  int
	server  string // the one to measure; empty for all
	rounds  int    // windows of each kind
	window  time.Duration
	endings []func()
}

// atEnd has f run before the folder is removed.
func (b *bench) atEnd(f func()) { b.endings = append(b.endings, f) }

func (b *bench) close() {
	for _, f := range b.endings {
		f()
	}
	os.RemoveAll(b.dir)
}

func newBench(repeat int) (*bench, error) {
	dir, err := os.MkdirTemp("", "pie-bench")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, repeat: max(repeat, 1)}
	for _, build := range [][]string{
		{"go", "build", "-ldflags", "-E pie_entry", "-o", b.path("pie"), "./cmd/pie"}, // as the Makefile does
		{"go", "build", "-o", b.path("nothing"), "./bench/testdata/nothing"},
		{"gcc", "-O2", "-g", "-fno-ipa-icf", "-o", b.path("target"), "bench/testdata/target.c", "-lpthread"},
		{"gcc", "-O2", "-o", b.path("stopper"), "bench/testdata/stopper.c"},
	} {
		if out, err := exec.Command(build[0], build[1:]...).CombinedOutput(); err != nil {
			os.RemoveAll(dir)
			return nil, fmt.Errorf("%v (run from the repository's root): %w\n%s", build, err, out)
		}
	}
	return b, nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// pie runs one command of pie; its output matters only when it ends badly.
func (b *bench) pie(arguments ...string) error {
	if out, err := exec.Command(b.path("pie"), arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("pie %v: %w\n%s", arguments, err, out)
	}
	return nil
}

func kernel() string {
	out, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "Linux " + string(out[:max(len(out)-1, 0)])
}

// median of a set of samples; the zero value for none.
func median[T cmp.Ordered](samples []T) T {
	var none T
	if len(samples) == 0 {
		return none
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[len(sorted)/2]
}
