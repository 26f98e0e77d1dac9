package insert

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pie dies when a thread stands in front of a call that it was to make, which may unmap
// what another pie finds in the process; the thread makes it when it gets to run. Nothing
// goes in before.
func TestPendingCall(t *testing.T) {
	v := startVictim(t, "1")
	s := v.beginSpy(t, "take back", 0, syscall.SIGKILL)
	names, done := steps(s.says(t))
	if err := s.wait(); err != nil || !done {
		t.Fatalf("%v: %s", err, s.errs.String())
	}
	v.stop()
	calls, late := 0, 0
	for i, name := range names {
		if i < len(names)/2 {
			continue // what it maps: that has a name already
		}
		if name != "setregs" && name != "setsigmask" || i+1 == len(names) || names[i+1] != "syscall" {
			continue
		}
		calls++
		if pendingCall(t, i+1) {
			late++
		}
	}
	if t.Logf("%d calls; in front of %d the insertion had to wait", calls, late); calls < 4 || late < calls {
		t.Errorf("of %s", strings.Join(names, " "))
	}
}

// pendingCall lets a spy die at a step in front of a call of a process that has been
// stopped, and tells whether that kept an insertion from it. Then the process runs.
func pendingCall(t *testing.T, step int) (waited bool) {
	v, tr := startVictim(t, "1"), newTracer(t)
	defer v.stop()
	v.mayEndEarly = true
	if err := unix.Kill(v.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, died := v.startSpy(t, "take back", step, syscall.SIGKILL); !died {
		t.Fatalf("step %d: the spy lives", step)
	}
	err := runVerb("insert", tr, v.p, v.exe, v.lib)
	if err := unix.Kill(v.pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if v.progress(t, frozenLimit+time.Second); err != nil {
		must(t, untilIdle(func() error { return runVerb("insert", tr, v.p, v.exe, v.lib) }))
	}
	if s := v.progress(t, slow); s.Rejected == 0 {
		t.Errorf("step %d: in, and nothing is rejected", step)
	}
	return err != nil
}
