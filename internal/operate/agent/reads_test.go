package agent

import (
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// A guard that was put in before the first instruction reads by system calls, and by plain
// loads once its program runs; when the program puts signal handlers of its own in the place
// of PIE's it reads by system calls again. Under attack all the while: not one call passes.
func TestReadsSettle(t *testing.T) {
	w := layOut(t, "testdata/late.c")
	w.write("TEST-AGENT.go", readingGuard)
	w.policy(theRule)
	w.begin(false)
	w.waitForGate()
	s := w.heldServer()
	until := func(reads string) {
		t.Helper()
		for end := time.Now().Add(25 * time.Second); ; {
			for range 50 {
				if good, bad := s.say("hello"), s.say("!"); good != "7" || bad != "-1" {
					t.Fatalf("answers %s, and %s to an attack", good, bad)
				}
			}
			if readsOf(t, s) == reads {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("it does not come to read by %s", reads)
			}
		}
	}
	began := time.Now()
	until("table")
	t.Logf("by table %v after its start was seen", time.Since(began))
	if got := s.say("1"); got != "8" { // its handlers come
		t.Fatalf("answers %s", got)
	}
	until("copy")
	all, err := pie.Status(t.Context(), pie.Pids(s.cmd.Process.Pid))
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if in := all[0].Prepatches[0]; !in.Early || in.Mode != pie.ModeEnforce || in.Guards[0].Rejects < 100 || in.Guards[0].Calls < 2*in.Guards[0].Rejects {
		t.Errorf("counters, mode and flags did not go on: %+v", in)
	}
}
