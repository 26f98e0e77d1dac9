package tracee

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two tracers of one process at the same time, while the Go runtime starts threads: when
// both are at rest, every thread of this process is as it was before.
func TestTogether(t *testing.T) {
	before, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 − the nice value
	if err != nil {
		t.Fatal(err)
	}
	const percent = 137
	defer debug.SetGCPercent(debug.SetGCPercent(percent))
	v := startVictim(t, "crowd", "2")
	w := startVictim(t, "crowd", "2")
	var both, others sync.WaitGroup
	over := make(chan struct{})
	others.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(100 * time.Microsecond):
				go func() {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
					time.Sleep(20 * time.Millisecond)
				}()
			}
		}
	})
	for _, x := range []*victim{v, w} {
		tr := newTracer(t)
		p := x.open()
		defer p.Close()
		both.Go(func() {
			for range 100 {
				if err := tr.Attach(context.Background(), p, func(*Attached) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	close(over)
	others.Wait()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range threads {
		tid, _ := strconv.Atoi(e.Name())
		if raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid); err == nil && raw != before {
			t.Errorf("thread %d has the nice value %d; before it was %d", tid, 20-raw, 20-before)
		}
	}
	if is := debug.SetGCPercent(percent); is != percent {
		t.Errorf("garbage is collected at %d %%; before it was %d", is, percent)
	}
}
