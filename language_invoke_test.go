package pie_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

const weighing = `
//pie:cap call

//pie:guard exe=host func=edit onfault=reject:-2 onfuel=pass
func Edit(c *libpie.Call, text libpie.Addr, n int64) libpie.Verdict {
	r := c.Invoke("weigh", libpie.Word(text), libpie.Word(n), libpie.Word(int8(-2)), libpie.Word(uint16(3)), libpie.Word(4))
	length := c.Invoke("strnlen", libpie.Word(text), libpie.Word(64))
	half := c.Invoke("half", libpie.Word(6))
	if half.Double != 0x4008000000000000 || half.Errno != 0 { // 3.0
		return libpie.Reject(int64(-5))
	}
	return libpie.Reject(int64(r.Word) + 100000*int64(r.Errno) + 1000000*int64(length.Word))
}

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	if c.Invoke("leave_early", libpie.Word(key)).Word != 1 {
		return libpie.Reject(int64(-1))
	}
	return libpie.Pass()
}
`

// A guard calls functions of the program and of its libraries, one of which is an
// IFUNC; a guarded function that those call passes; errno is the program's own.
func TestGuardCalls(t *testing.T) {
	for _, x := range []struct {
		name   string
		flags  []string
		before string
	}{{"dynamic", nil, ""}, {"static", []string{"-static"}, ""}, {"faults by system calls", nil, "block"}} {
		t.Run(x.name, func(t *testing.T) {
			h := startHost(t, x.flags...)
			if x.before != "" {
				h.ask(t, x.before, 0)
			}
			h.guardAll(t, weighing, 2)
			const want = '0' + 2*9 + 3*-2 + 4*3 + 5*4 + 1000*2 + 100000*5 + 1000000*10
			for range 3 {
				if got := h.ask(t, "edit", 9); got != want {
					t.Errorf("edit: %d, want %d", got, want)
				}
			}
			for _, y := range []struct {
				command string
				n, want int
			}{{"errno", 33, 33}, {"lookup", 1, 2}, {"lookup", 2, -1}, {"other", 1, 2}, {"jump", 1, -4}, {"lookup", 2, -1}, {"signal", 0, -2}, {"storm", 400, 0}} {
				if got := h.ask(t, y.command, y.n); got != y.want {
					t.Errorf("%s %d: %d, want %d", y.command, y.n, got, y.want)
				}
			}
			if s := h.status(t); s.Nested != 4 || s.Inside != 0 { // lookup, by weigh
				t.Errorf("%d nested calls, %d threads in calls", s.Nested, s.Inside)
			}
		})
	}
}

// In audit mode nothing is called, and the call goes on.
func TestGuardCallsOnlyInForce(t *testing.T) {
	h := startHost(t)
	h.guardAll(t, weighing, 2)
	if _, err := pie.SetMode(context.Background(), "LANG-1", pie.ModeAudit, pie.Pids(h.cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if got := h.ask(t, "lookup", 2); got != 3 {
		t.Errorf("lookup: %d", got)
	}
	if s := h.status(t); s.Guards[1].Audited != 1 {
		t.Errorf("%+v", s.Guards)
	}
}

// A guard may be removed, and come back, while a thread is in a function that it
// called: the thread returns into code that stays.
func TestRemovedInsideACall(t *testing.T) {
	h := startHost(t)
	const waits = `
//pie:cap call

//pie:guard exe=host func=edit onfault=reject:-2 onfuel=pass
func Edit(c *libpie.Call, text libpie.Addr, n int64) libpie.Verdict {
	if n == 2 {
		return libpie.Reject(int64(1000))
	}
	r := c.Invoke("wait_here", libpie.Word(n))
	return libpie.Reject(int64(r.Word) + 1000)
}
`
	for round := range 3 {
		h.guardAll(t, waits, 1)
		if h.ask(t, "begin", 1) != 0 {
			t.Fatal("no thread")
		}
		for end := time.Now().Add(10 * time.Second); h.status(t).Inside == 0 && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond) // until it waits in wait_here
		}
		if round > 0 {
			r, err := pie.Remove(context.Background(), "LANG-1", pie.Pids(h.cmd.Process.Pid))
			if err != nil || !r.Changed {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if round == 2 {
			h.guardAll(t, waits, 1)
			if got := h.ask(t, "edit", 2); got != 1000 {
				t.Errorf("the guard that came back: %d", got)
			}
		}
		if got := h.ask(t, "finish", 0); got != 1001 { // the guard has its say
			t.Errorf("round %d: the thread in the call returns %d", round, got)
		}
		if round != 1 {
			if _, err := pie.Remove(context.Background(), "LANG-1", pie.Pids(h.cmd.Process.Pid)); err != nil {
				t.Fatal(err)
			}
		}
		if got := h.ask(t, "edit", 2); got != '2' {
			t.Errorf("after the removal: %d", got)
		}
	}
}

// guardAll is guard for a prepatch of n guards.
func (h *host) guardAll(t *testing.T, body string, n int) {
	t.Helper()
	h.guard(t, body)
	if s := h.status(t); len(s.Guards) != n {
		t.Fatalf("%d guards are in", len(s.Guards))
	}
}

// Threads call through a guard that calls, while it is removed and comes back again
// and again: no call is lost, and none has another result.
func TestCallsWhileComingAndGoing(t *testing.T) {
	const passing = `
//pie:cap call

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	if c.Invoke("half", libpie.Word(key)).Double != 0x400c000000000000 { // 3.5, of 7
		return libpie.Reject(int64(-1))
	}
	return libpie.Pass()
}
`
	h := startHost(t)
	sel := pie.Pids(h.cmd.Process.Pid)
	p := loadBody(t, passing)
	const calls = 20_000
	var lost, storms atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			lost.Add(4*calls - int64(h.ask(t, "storm", calls)))
			storms.Add(1)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 15 {
		if _, err := pie.Insert(context.Background(), p, sel, pie.Options{Mode: pie.ModeEnforce}); err != nil {
			t.Error(err)
			break
		}
		time.Sleep(5 * time.Millisecond)
		if _, err := pie.Remove(context.Background(), "LANG-1", sel); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-stopped
	if n := lost.Load(); n != 0 {
		t.Errorf("%d of %d calls were lost", n, 4*calls*storms.Load())
	}
}
