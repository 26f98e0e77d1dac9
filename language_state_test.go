package pie_test

import (
	"context"
	"testing"

	"github.com/patch-integration-engine/pie"
)

const counting = `
var calls libpie.Counter

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	if calls.Add(c, 1) > 1000 {
		return libpie.Reject(int64(-1))
	}
	return libpie.Pass()
}
`

// Threads that count at once lose no call; a child goes on with a copy of its own,
// or, where the prepatch says so, with the same.
func TestCounterAcrossThreadsAndFork(t *testing.T) {
	for _, x := range []struct {
		name, directive string
		after           int // what lookup(1) returns when a child has used up the last call
	}{{"private", "", 2}, {"shared", "//pie:shared\n", -1}} {
		t.Run(x.name, func(t *testing.T) {
			h := startHost(t)
			h.guard(t, x.directive+counting)
			if got := h.ask(t, "storm", 249); got != 996 {
				t.Fatalf("%d of 996 calls came through", got)
			}
			for i := range 3 {
				if got := h.ask(t, "lookup", 1); got != 2 {
					t.Fatalf("call %d: %d", 997+i, got)
				}
			}
			if got := h.ask(t, "child", 1); got != 2 {
				t.Errorf("the child: %d", got)
			}
			if got := h.ask(t, "lookup", 1); got != x.after {
				t.Errorf("the parent after it: %d, want %d", got, x.after)
			}
			if got := h.ask(t, "lookup", 1); got != -1 {
				t.Errorf("one more: %d", got)
			}
			if got := h.ask(t, "storm", 500); got != 0 {
				t.Errorf("%d of 2000 calls came through", got)
			}
		})
	}
}

// A prepatch that comes back begins with empty state, in the same memory.
func TestStateBeginsEmpty(t *testing.T) {
	h, kib := startHost(t), 0
	for round := range 3 {
		h.guard(t, counting)
		if got := h.ask(t, "storm", 251); got != 1000 {
			t.Errorf("round %d: %d of 1004 calls came through", round, got)
		}
		r, err := pie.Remove(context.Background(), "LANG-1", pie.Pids(h.cmd.Process.Pid))
		if err != nil || !r.Changed {
			t.Fatalf("%+v, %v", r, err)
		}
		if got := h.ask(t, "lookup", 1); got != 2 {
			t.Errorf("round %d: after the removal: %d", round, got)
		}
		if n := r.Processes[0].KiB; kib == 0 {
			kib = n
		} else if n != kib || n == 0 {
			t.Errorf("round %d: %d KiB stay, after the first %d", round, n, kib)
		}
	}
}

// Guards of one prepatch see the same state; keys have values of their own.
func TestMapOfTwoGuards(t *testing.T) {
	h := startHost(t)
	h.guard(t, `
var seen = libpie.NewMap[int64, int32](500)

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	n, ok := seen.Add(c, key, 1)
	if !ok || n > 2 {
		return libpie.Reject(int64(-n))
	}
	return libpie.Pass()
}

//pie:guard exe=host func=descend onfault=reject:-2 onfuel=pass
func Forget(c *libpie.Call, key int64) libpie.Verdict {
	n, found := seen.Get(c, key)
	if !found {
		return libpie.Reject(int64(-100))
	}
	seen.Delete(c, key)
	return libpie.Reject(int64(n))
}
`)
	for key := range 500 {
		for i, want := range []int{key + 1, key + 1, -3} {
			if got := h.ask(t, "lookup", key); got != want {
				t.Fatalf("call %d of key %d: %d, want %d", i, key, got, want)
			}
		}
	}
	for _, want := range []int{3, -100} {
		if got := h.ask(t, "main", 7); got != want {
			t.Errorf("forgetting 7: %d, want %d", got, want)
		}
	}
	if got := h.ask(t, "lookup", 7); got != 8 {
		t.Errorf("7 again: %d", got)
	}
}

// Each thread has a value of its own, and a limiter lets a burst through.
func TestPerThreadAndLimiter(t *testing.T) {
	h := startHost(t)
	h.guard(t, `
var (
	mine  = libpie.NewPerThread[int32](16)
	burst = libpie.NewLimiter[int64](libpie.Limit{Calls: 1, Seconds: 3600, Burst: 5, Keys: 10, Full: libpie.FullRefuse})
)

//pie:guard exe=host func=descend onfault=reject:-2 onfuel=pass
func Descend(c *libpie.Call, left int64) libpie.Verdict {
	return libpie.Reject(int64(mine.Add(c, 1)))
}

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	if !burst.Allow(c, key) {
		return libpie.Reject(int64(-1))
	}
	return libpie.Pass()
}
`)
	for want := 1; want < 4; want++ {
		if got := h.ask(t, "main", 0); got != want {
			t.Errorf("main thread: %d, want %d", got, want)
		}
	}
	if got := h.ask(t, "thread", 0); got != 1 {
		t.Errorf("another thread: %d", got)
	}
	if got := h.ask(t, "storm", 100); got != 5 {
		t.Errorf("%d calls of one key came through, want 5", got)
	}
	if got := h.ask(t, "lookup", 8); got != 9 {
		t.Errorf("another key: %d", got)
	}
}

// In a Go program state is used from goroutines, whose stacks have ends of their
// own.
func TestGoProgramHasState(t *testing.T) {
	h := startGoHost(t)
	h.guard(t, `
var (
	calls = libpie.NewMap[int64, uint32](100)
	mine  = libpie.NewPerThread[int32](64)
	burst = libpie.NewLimiter[int64](libpie.Limit{Calls: 1, Seconds: 3600, Burst: 700, Keys: 10, Full: libpie.FullRefuse})
)

//pie:guard exe=gohost func=main.lookup onfault=reject:-3 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	n, ok := calls.Add(c, key, 1)
	if !ok || mine.Add(c, 1) < 1 || !burst.Allow(c, key) {
		return libpie.Reject(-int64(n))
	}
	return libpie.Pass()
}

//pie:guard exe=gohost func=main.descend onfault=reject:-3 onfuel=pass
func Descend(c *libpie.Call, n int64) libpie.Verdict {
	if c.StackUsed() > 100<<10 {
		return libpie.Reject(int64(0))
	}
	return libpie.Pass()
}
`)
	for _, x := range []struct {
		command string
		n, want int
	}{
		{"lookup", 1, 2}, {"storm", 500, 700}, {"lookup", 7, -4001}, {"lookup", 9, 10}, {"main", 10, 11}, {"thread", 10, 11},
	} {
		if got := h.ask(t, x.command, x.n); got != x.want {
			t.Errorf("%s %d: %d, want %d", x.command, x.n, got, x.want)
		}
	}
	for _, where := range []string{"main", "thread"} {
		if got := h.ask(t, where, 100_000); got < 200 || got > 1024 {
			t.Errorf("%s: the recursion ended at depth %d", where, got)
		}
	}
}
