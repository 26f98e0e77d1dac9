package tracee

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Close leaves nothing: no descriptor is open that was not open before, and no watchdog
// is left, the moment it returns.
func TestCloseLeavesNothing(t *testing.T) {
	for range 20 {
		before := descriptors(t)
		tr, err := NewTracer(Options{})
		if err != nil {
			t.Fatal(err)
		}
		watchdog := tr.watchdog.process.Pid
		for range 2 { // the second one finds it closed
			if err := tr.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if after := descriptors(t); !slices.Equal(before, after) {
			t.Fatalf("open after Close: %q, before: %q", after, before)
		}
		if err := unix.Kill(watchdog, 0); err != unix.ESRCH {
			t.Fatalf("the watchdog, after Close: %v", err)
		}
	}
}

// descriptors are what this process has open, but for what lists them.
func descriptors(t *testing.T) (list []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			list = append(list, e.Name()+" "+to)
		}
	}
	return list
}
