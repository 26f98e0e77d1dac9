package gate

import (
	"os/exec"
	"slices"
	"testing"
	"time"
)

// BenchmarkHold measures what the hold adds to the start of a program, beside the
// same program unheld: from fork to the end of a process that does nothing.
func BenchmarkHold(b *testing.B) {
	for _, held := range []bool{false, true} {
		name := "free"
		if held {
			name = "held"
		}
		b.Run(name, func(b *testing.B) {
			f := victim(b)
			kinds := map[string]int{}
			var holds []time.Duration
			if held {
				g := start(b, f)
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
				_ = exec.Command(f.Path, "4").Run()
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
