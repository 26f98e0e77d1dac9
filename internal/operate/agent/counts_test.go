package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// reading is one family's guard with so many calls and rejects.
func reading(key string, calls, rejects uint64, pids ...int) familyGuard {
	return familyGuard{GuardStatus: pie.GuardStatus{Function: "lookup", Calls: calls, Rejects: rejects}, id: "TEST", exe: "/victim", key: key, pids: pids}
}

// Totals never become less: not when a family ends, not when its first process does, not
// when two readings are taken down the wrong way round; and nothing is added twice.
func TestTotalsNeverBecomeLess(t *testing.T) {
	var all totals
	nobody := func(int) bool { return false }
	for i, step := range []struct {
		read  []familyGuard
		ended bool // nobody of those that were read lives
		want  counts
	}{
		{[]familyGuard{reading("a", 10, 1, 1, 2)}, false, counts{10, 1}},
		{[]familyGuard{reading("a", 15, 2, 2)}, false, counts{15, 2}},
		{[]familyGuard{reading("a", 12, 1, 1, 2)}, false, counts{15, 2}}, // older
		{[]familyGuard{reading("a", 15, 2, 2), reading("b", 7, 0, 3)}, false, counts{22, 2}},
		{[]familyGuard{reading("b", 7, 0, 3)}, false, counts{22, 2}},
		{[]familyGuard{reading("a", 16, 2, 2), reading("b", 7, 0, 3)}, true, counts{23, 2}},
		{nil, false, counts{23, 2}},
		{[]familyGuard{reading("b", 5, 5, 9)}, false, counts{28, 7}}, // others
		{[]familyGuard{reading("b", 3, 0, 10)}, false, counts{31, 7}},
	} {
		all.add(step.read)
		if got := all.list(); len(got) != 1 || got[0].counts != step.want {
			t.Errorf("step %d: %+v, want %v", i, got, step.want)
		}
		if step.ended {
			all.forget(nobody)
		}
	}
	if len(all.families) != 1 {
		t.Errorf("%d families are remembered", len(all.families))
	}
}

// Programs may lie at any number of paths: what is kept of them is bounded.
func TestTotalsAreBounded(t *testing.T) {
	var all totals
	for i := range maxSeries + 10 {
		g := reading(time.Duration(i).String(), 1, 0, i)
		g.exe = g.key
		all.add([]familyGuard{g})
	}
	list, sum := all.list(), uint64(0)
	for _, s := range list {
		sum += s.counts[0]
	}
	if len(list) != maxSeries+1 || sum != maxSeries+10 {
		t.Errorf("%d series of %d calls", len(list), sum)
	}
}

// metric is the line of the agent's metrics that begins with a name, without it.
func (w *world) metric(name string) string {
	w.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(w.dir, "sock"))
	}}}
	r, err := c.Get("http://agent/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+"{"); ok {
			_, value, _ := strings.Cut(rest, "} ")
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// What a process has counted stays in the totals when it has ended, and what the next one
// counts is added.
func TestMetricsOutliveProcesses(t *testing.T) {
	w := newWorld(t, theRule, true)
	for _, want := range []string{"3", "6"} {
		old := w.server()
		w.eventually(old.cmd.Process.Pid, Guarded)
		for range 3 {
			if got := old.ask(4); got != "4" {
				t.Fatalf("a good call: %s", got)
			}
		}
		if got := w.metric("pie_guard_calls_total"); got != want {
			t.Errorf("%s calls, not %s", got, want)
		}
		_ = old.cmd.Process.Kill()
		_ = old.cmd.Wait()
		if got := w.metric("pie_guard_calls_total"); got != want {
			t.Errorf("%s calls after its end, not %s", got, want)
		}
	}
}
