package gate

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
