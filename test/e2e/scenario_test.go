package e2e

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

const (
	clients = 8
	attacks = 100
	// longestFreeze is the promise of DESIGN §7: no freeze over 0.6 s.
	longestFreeze = 600 * time.Millisecond
)

// A scenario is one real server, its normal workload and one attack on it.
type scenario struct {
	prepatch string
	start    func(*testing.T) *server
	servers  int // how many are started; the load is spread over them; 0 means 1
	dial     dial
	// attack sends the malformed input once; an error means that the server did
	// not answer it as a guarded server does.
	attack func(addr string) error
	// died reports whether the attack on an unguarded server did its harm, given
	// the processes it had before; nil means that the server's process ended.
	died func(s *server, before []int) bool
	// guardedLater makes the server start processes after the insertion; the
	// attack is repeated on them. Their predecessors may end.
	guardedLater func(*testing.T, *server)
}

func runScenario(t *testing.T, sc scenario) {
	t.Run("the attack harms an unguarded server", sc.unguarded)
	t.Run("the load notices a late and a lost reply", func(t *testing.T) {
		proveLoadNotices(t, sc.start(t).addr, sc.dial)
	})
	t.Run("guarded", sc.guarded)
}

func (sc scenario) unguarded(t *testing.T) {
	s := sc.start(t)
	before := s.family()
	attacked := sc.attack(s.addr) // an error is expected: the server dies under it
	died := sc.died
	if died == nil {
		died = func(s *server, _ []int) bool { return !s.alive() }
	}
	for end := time.Now().Add(10 * time.Second); !died(s, before); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the attack does no harm within 10 s, so this case proves nothing (attack: %v)\n%s", attacked, s.out.String())
		}
	}
}

func (sc scenario) guarded(t *testing.T) {
	servers := make([]*server, max(sc.servers, 1))
	var target []string
	for i := range servers {
		servers[i] = sc.start(t)
		target = append(target, "--pid", strconv.Itoa(servers[i].pid()))
	}
	before := families(servers)
	l := startLoad(t, clients, func(i int) string { return servers[i%len(servers)].addr }, sc.dial)
	l.waitRequests(t, 2*clients)
	l.resetSlowest()

	var inserted pie.Report
	pieRun(t, piePath, &inserted, append([]string{"insert", sc.prepatch, "--yes"}, target...)...)
	if inserted.Guarded() != len(before) {
		t.Errorf("guarded %d of %d processes: %+v", inserted.Guarded(), len(before), inserted)
	}
	l.waitRequests(t, clients)
	s := l.snapshot()
	t.Logf("inserted into %d processes among %d requests: longest pause %v, slowest request %v", inserted.Guarded(), s.requests, inserted.Pause(), s.slowest)
	if s.slowest > longestFreeze {
		t.Errorf("a request took %v while the guard went in", s.slowest)
	}

	sc.attackAll(t, servers)
	if after := families(servers); !slices.Equal(before, after) {
		t.Errorf("processes %v became %v under attack\n%s", before, after, servers[0].out.String())
	}
	if sc.guardedLater != nil {
		sc.guardedLater(t, servers[0])
		before = families(servers)
		sc.attackAll(t, servers)
		if after := families(servers); !slices.Equal(before, after) {
			t.Errorf("processes %v, started after the insertion, became %v under attack", before, after)
		}
	}
	sc.checkSeen(t, target)

	var removed pie.Report
	pieRun(t, otherBuild, &removed, append([]string{"remove", sc.prepatch, "--yes"}, target...)...)
	for _, pid := range families(servers) {
		checkTextEqualsFiles(t, pid)
	}
	l.waitRequests(t, 2*clients)
	end := l.finish()
	t.Logf("%d normal requests in all, %d not answered as they should be", end.requests, len(end.failures))
	for _, err := range end.failures[:min(len(end.failures), 10)] {
		t.Errorf("a normal request: %v", err)
	}
}

// attackAll spreads the attacks over the servers.
func (sc scenario) attackAll(t *testing.T, servers []*server) {
	t.Helper()
	failed := 0
	for i := range attacks {
		if err := sc.attack(servers[i%len(servers)].addr); err != nil {
			if failed++; failed <= 3 {
				t.Errorf("attack %d: %v", i, err)
			}
		}
	}
	if failed > 3 {
		t.Errorf("%d of %d attacks were not answered as a guarded server does", failed, attacks)
	}
}

// checkSeen holds that another build of pie finds every attack, in status and events.
func (sc scenario) checkSeen(t *testing.T, target []string) {
	t.Helper()
	var statuses []pie.ProcessStatus
	pieRun(t, otherBuild, &statuses, append([]string{"status"}, target...)...)
	if n := rejects(statuses, sc.prepatch); n < attacks {
		t.Errorf("status knows of %d rejects, %d attacks were sent", n, attacks)
	}
	var events []pie.Event
	pieRun(t, otherBuild, &events, append([]string{"events"}, target...)...)
	seen := 0
	for _, e := range events {
		if e.ID == sc.prepatch && e.Kind == "reject" {
			seen++
		}
	}
	if seen < attacks {
		t.Errorf("%d reject events, %d attacks were sent", seen, attacks)
	}
}

func families(servers []*server) []int {
	var pids []int
	for _, s := range servers {
		pids = append(pids, s.family()...)
	}
	slices.Sort(pids)
	return pids
}
