package tracee

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkPause measures a stop as its victim sees it: "felt" is the largest
// gap in the time of a thread that computes, "window" the time from the first
// interrupt to the last resume, "bare" the same of a C program that only seizes,
// interrupts and detaches, in the same run. The bounds: medians of 0.1, 1 and
// 10 ms at 1, 128 and 1000 threads, and 1.15 times the bare program's.
func BenchmarkPause(b *testing.B) {
	tr := newTracer(b)
	for _, threads := range []int{1, 16, 128, 1000} {
		b.Run(strconv.Itoa(threads), func(b *testing.B) {
			v := startVictim(b, "crowd", strconv.Itoa(threads))
			p := v.open()
			defer p.Close()
			var ours, felt []float64
			for i := 0; b.Loop(); i++ {
				v.report()
				stop, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error { return flipAnswer(w, v.answer+2) })
				if err != nil {
					b.Fatal(err)
				}
				if stop.Threads != threads {
					b.Fatalf("%d of %d threads", stop.Threads, threads)
				}
				ours = append(ours, float64(stop.Window)/float64(time.Microsecond))
				gap, _ := v.report()
				felt = append(felt, float64(gap))
			}
			bare := runBare(b, v.pid(), min(len(ours), 50))
			b.ReportMetric(median(ours), "µs-window")
			b.ReportMetric(median(felt), "µs-felt")
			b.ReportMetric(median(bare), "µs-bare")
			b.ReportMetric(median(ours)/median(bare), "of-bare")
		})
	}
}

func runBare(b *testing.B, pid, rounds int) []float64 {
	b.Helper()
	out, err := exec.Command(filepath.Join(programs, "bare"), strconv.Itoa(pid), strconv.Itoa(rounds)).Output()
	if err != nil {
		b.Fatal(err)
	}
	var list []float64
	for _, line := range strings.Fields(string(out)) {
		var v float64
		if _, err := fmt.Sscan(line, &v); err != nil {
			b.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// BenchmarkAttach measures one thread stopped for a remote mmap and munmap,
// everything included.
func BenchmarkAttach(b *testing.B) {
	tr := newTracer(b)
	for _, threads := range []int{1, 128, 1000} {
		b.Run(strconv.Itoa(threads), func(b *testing.B) {
			v := startVictim(b, "crowd", strconv.Itoa(threads))
			p := v.open()
			defer p.Close()
			for b.Loop() {
				if err := tr.Attach(context.Background(), p, mapUnmap); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
