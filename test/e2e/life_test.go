package e2e

import (
	"strconv"
	"syscall"
	"testing"
	"time"
)

// A whole life of a guard under continuous attack: inserted on trial, kept, looked
// after by another build of pie, taken out and put in again; then the vendor's
// restart, after which it is inserted anew. No normal request is lost but in
// the restart itself.
func TestLife(t *testing.T) {
	sc, th := redisScenario, redisScenario.threats[0]
	s := sc.start(t)
	l := startLoad(t, clients, func(int) string { return s.addr }, sc.dial)
	target := []string{"--pid", strconv.Itoa(s.pid())}
	pie := func(build string, args ...string) {
		t.Helper()
		pieRun(t, build, nil, append(append(args, "--yes"), target...)...)
	}
	change := func(build string, args ...string) {
		t.Helper()
		pieRun(t, build, nil, append(args, target...)...)
	}
	attacks := 0
	attacked := func(what string, do func()) {
		t.Helper()
		stop := underAttack(s.addr, th.attack)
		do()
		l.waitRequests(t, 2*clients)
		n, err := stop()
		if attacks += n; err != nil || !s.alive() {
			t.Fatalf("%s: after %d attacks: %v, alive: %v", what, n, err, s.alive())
		}
	}
	pie(piePath, "insert", th.prepatch, "--trial", "10m")
	attacked("on trial, kept", func() { change(piePath, "keep", th.prepatch) })
	attacked("another build of pie", func() {
		change(otherBuild, "status")
		change(otherBuild, "mode", th.prepatch, "enforce")
		pie(otherBuild, "insert", th.prepatch)
	})
	change(otherBuild, "remove", th.prepatch)
	pie(otherBuild, "insert", th.prepatch)
	attacked("in again", func() {})

	before := l.finish()
	if len(before.failures) > 0 {
		t.Errorf("%d of %d normal requests failed while the server ran, the first: %v", len(before.failures), before.requests, before.failures[0])
	}
	down := time.Now()
	syscall.Kill(-s.pid(), syscall.SIGTERM)
	<-s.done
	s = sc.start(t)
	target[1] = strconv.Itoa(s.pid())
	pie(piePath, "insert", th.prepatch)
	l = startLoad(t, clients, func(int) string { return s.addr }, sc.dial)
	restart := time.Since(down)
	attacked("after the vendor's restart", func() {})
	after := l.finish()
	if len(after.failures) > 0 {
		t.Errorf("%d of %d normal requests failed after the restart, the first: %v", len(after.failures), after.requests, after.failures[0])
	}
	t.Logf("%d normal requests and %d attacks in a whole life, none failed beyond the restart's %v", before.requests+after.requests, attacks, restart)
}
