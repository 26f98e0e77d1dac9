package gate

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// toHold is the program that BenchmarkHold starts, with the source of a guard for it:
// the victim, or what PIE_HOLD says, "FUNCTION PROGRAM ARGUMENT...".
func toHold(b *testing.B) (f File, source string, args []string) {
	words := strings.Fields(os.Getenv("PIE_HOLD"))
	if len(words) < 2 {
		return victim(b), guardSource, []string{"4"}
	}
	f = File{Path: words[1], Use: []int{0}}
	var st unix.Stat_t
	if err := unix.Stat(f.Path, &st); err != nil {
		b.Fatalf("%s: %v", f.Path, err)
	}
	f.Dev, f.Inode = st.Dev, st.Ino
	source = strings.NewReplacer("exe=victim", "exe="+filepath.Base(f.Path), "func=lookup", "func="+words[0]).Replace(registerSource)
	return f, source, words[2:]
}

// BenchmarkHold measures what the hold adds to the start of a program, beside the
// same program unheld: from fork to the end of a process that does nothing.
func BenchmarkHold(b *testing.B) {
	for _, held := range []bool{false, true} {
		name := "free"
		if held {
			name = "held"
		}
		b.Run(name, func(b *testing.B) {
			f, source, args := toHold(b)
			kinds := map[string]int{}
			var holds []time.Duration
			if held {
				g := startWith(b, source, f)
				go func() {
					for r := range g.Reports() {
						if kinds[r.Kind]++; r.Kind == Guarded && r.Window == 0 {
							holds = append(holds, r.Held)
						}
					}
				}()
			}
			b.ResetTimer()
			for b.Loop() {
				_ = exec.Command(f.Path, args...).Run()
			}
			b.StopTimer()
			if time.Sleep(200 * time.Millisecond); len(holds) > 0 {
				slices.Sort(holds)
				b.ReportMetric(float64(holds[len(holds)/2])/1e6, "p50-hold-ms")
				b.ReportMetric(float64(holds[len(holds)*99/100])/1e6, "p99-hold-ms")
				b.ReportMetric(100*float64(len(holds))/float64(max(1, kinds[Guarded]+kinds[Late])), "%held")
			}
		})
	}
}

// BenchmarkGuardExec is what a worker does for one process, without the gate: from the
// seizing of a thread that is about to execute the victim to the end of the insertion.
func BenchmarkGuardExec(b *testing.B) {
	for _, tt := range []struct {
		name   string
		flags  []string
		source string
		want   int // the exit code of a victim that is guarded
	}{{"before linking", []string{"testdata/gadget.c"}, registerSource, 1}, {"registers", nil, registerSource, 1}, {"errno", nil, guardSource, 7}} {
		b.Run(tt.name, func(b *testing.B) {
			f := victim(b, tt.flags...)
			p, err := pie.Load(map[string][]byte{"guard.go": []byte(tt.source)})
			if err != nil {
				b.Fatal(err)
			}
			e, err := pie.NewEngine()
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close()
			e.Prepare(f.Path, p)
			early := []pie.Early{{Prepatch: p, Options: pie.Options{Mode: pie.ModeEnforce}}}
			var took []time.Duration
			began := processorTime()
			var ru0, ru1 unix.Rusage
			unix.Getrusage(unix.RUSAGE_SELF, &ru0)
			for b.Loop() {
				took = append(took, guardOne(b, e, f, early, tt.want))
			}
			b.ReportMetric(float64(processorTime()-began)/1e6/float64(len(took)), "cpu-ms/op")
			unix.Getrusage(unix.RUSAGE_SELF, &ru1)
			b.ReportMetric(float64(ru1.Minflt-ru0.Minflt)/float64(len(took)), "faults/op")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100])/1e6, "p99-ms")
		})
	}
}

// guardOne starts a shell that becomes the victim, and guards that.
func guardOne(b *testing.B, e *pie.Engine, f File, early []pie.Early, want int) time.Duration {
	b.StopTimer()
	cmd := exec.Command("/bin/sh", "-c", "read go; exec "+f.Path+" 101")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	awaitReading(b, cmd.Process.Pid)
	b.StartTimer()
	begin := time.Now()
	allow := func() { _, _ = in.Write([]byte("\n")) }
	reports := e.GuardExec(context.Background(), cmd.Process.Pid, allow, time.Second, func() {}, early)
	took := time.Since(begin)
	b.StopTimer()
	for _, r := range reports {
		if r.Err != nil {
			b.Error(r.Err)
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != want {
		b.Errorf("the victim ended with %d: it had no guard", code)
	}
	b.StartTimer()
	return took
}

// awaitReading waits until a process stands in read(2) of its standard input: one that has
// just been started may be inside the exec that made it.
func awaitReading(t testing.TB, pid int) {
	t.Helper()
	for range 5000 {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid)); err == nil && strings.HasPrefix(string(b), "0 0x0 ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("pid %d does not read its standard input", pid)
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
