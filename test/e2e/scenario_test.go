package e2e

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

const (
	clients = 8
	attacks = 100 // of each threat that does not say otherwise
	// longestFreeze is the promise of DESIGN §7: no freeze over 0.6 s.
	longestFreeze = 600 * time.Millisecond
)

// A scenario is one real server, its normal workload, and attacks on it.
type scenario struct {
	threats []threat
	start   func(*testing.T) *server
	servers int // how many are started; the load is spread over them; 0 means 1
	dial    dial
	// guardedLater makes the server start processes after the insertion; the
	// attacks are repeated on them. Their predecessors may end.
	guardedLater func(*testing.T, *server)
}

// A threat is an attack on a server and the prepatch against it.
type threat struct {
	prepatch string
	// given is what pie insert is given, when the prepatch is not the catalogue's,
	// and flags what else.
	given string
	flags []string
	// times is how often it is attacked; 0 means 100.
	times int
	// attack sends the malformed input once; an error means that the server did
	// not answer it as a guarded server does.
	attack func(addr string) error
	// died reports whether the attack on an unguarded server did its harm, given
	// the processes it had before; nil means that the server's process ended.
	died func(s *server, before []int) bool
}

// scenarios are those that TestLoadsNotice proves.
var scenarios = map[string]scenario{
	"iperf3":   iperf3Scenario,
	"redis":    redisScenario,
	"nginx":    nginxScenario,
	"nats":     natsScenario("nats-server"),
	"evhttp":   evhttpScenario,
	"sshd":     sshdScenario,
	"codec":    codecScenario,
	"postgres": postgresScenario,
	"dtls":     dtlsScenario,
}

// TestLoadsNotice shows of every load that it would notice a late and a lost
// reply. Most of the time it waits, for all of them at once.
func TestLoadsNotice(t *testing.T) {
	var proofs sync.WaitGroup
	for name, sc := range scenarios {
		addr := sc.start(t).addr
		p := startProxy(t, addr)
		proofs.Go(func() {
			if err := proveLoadNotices(p, sc.dial); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	proofs.Wait()
}

func runScenario(t *testing.T, sc scenario) {
	for _, th := range sc.threats {
		t.Run(th.prepatch+" harms an unguarded server", func(t *testing.T) { th.unguarded(t, sc.start(t)) })
	}
	t.Run("guarded", sc.guarded)
}

func (th threat) unguarded(t *testing.T, s *server) {
	before := s.family()
	attacked := make(chan error, 1)
	// An error is expected: the server dies under it, or does not come to an answer.
	go func() { attacked <- th.attack(s.addr) }()
	died := th.died
	if died == nil {
		died = func(s *server, _ []int) bool { return !s.alive() }
	}
	for end := time.Now().Add(10 * time.Second); !died(s, before); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the attack does no harm within 10 s, so this case proves nothing (attack: %v)\n%s", <-attacked, s.out.String())
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
	l := startLoad(t, clients, func(i int) string { return servers[i%len(servers)].addr }, sc.dial)
	l.waitRequests(t, 2*clients)
	before := families(servers) // some servers start a process for each client
	l.resetSlowest()

	for _, th := range sc.threats {
		th.insert(t, l, target, len(before))
	}
	sc.attackAll(t, servers, before, target)
	if sc.guardedLater != nil {
		sc.guardedLater(t, servers[0])
		sc.attackAll(t, servers, families(servers), target)
	}
	for _, th := range sc.threats {
		pieRun(t, otherBuild, nil, append([]string{"remove", th.prepatch, "--yes"}, target...)...)
	}
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

// insertion is the command of pie that guards a target against the threat.
func (th threat) insertion(target []string) []string {
	given := th.prepatch
	if th.given != "" {
		given = th.given
	}
	return slices.Concat([]string{"insert", given, "--yes"}, th.flags, target)
}

// insert puts the guard in among the requests of a load.
func (th threat) insert(t *testing.T, l *load, target []string, processes int) {
	t.Helper()
	l.resetSlowest()
	var inserted pie.Report
	pieRun(t, piePath, &inserted, th.insertion(target)...)
	if inserted.Guarded() != processes {
		t.Errorf("%s guards %d of %d processes: %+v", th.prepatch, inserted.Guarded(), processes, inserted)
	}
	l.waitRequests(t, clients)
	s := l.snapshot()
	t.Logf("%s inserted into %d processes among %d requests: longest pause %v, slowest request %v",
		th.prepatch, inserted.Guarded(), s.requests, inserted.Pause(), s.slowest)
	if s.slowest > longestFreeze {
		t.Errorf("a request took %v while the guard went in", s.slowest)
	}
}

// attackAll makes every attack many times, and wants the processes alive
// and each attack seen.
func (sc scenario) attackAll(t *testing.T, servers []*server, before []int, target []string) {
	t.Helper()
	for _, th := range sc.threats {
		th.attackAll(t, servers)
		if after := familiesLater(servers, before); !slices.Equal(before, after) {
			t.Errorf("processes %v became %v under %s\n%s", before, after, th.prepatch, servers[0].out.String())
		}
		th.checkSeen(t, target)
	}
}

// attackAll spreads the attacks over the servers.
func (th threat) attackAll(t *testing.T, servers []*server) {
	t.Helper()
	failed := 0
	for i := range th.attacks() {
		if err := th.attack(servers[i%len(servers)].addr); err != nil {
			if failed++; failed <= 3 {
				t.Errorf("%s, attack %d: %v", th.prepatch, i, err)
			}
		}
	}
	if failed > 3 {
		t.Errorf("%s: %d of %d attacks were not answered as a guarded server does", th.prepatch, failed, th.attacks())
	}
}

func (th threat) attacks() int { return cmp.Or(th.times, attacks) }

// checkSeen holds that another build of pie finds every attack, in status and events.
func (th threat) checkSeen(t *testing.T, target []string) {
	t.Helper()
	var statuses []pie.ProcessStatus
	pieRun(t, otherBuild, &statuses, append([]string{"status"}, target...)...)
	if n := rejects(statuses, th.prepatch); n < uint64(th.attacks()) {
		t.Errorf("status knows of %d rejects by %s, %d attacks were sent", n, th.prepatch, th.attacks())
	}
	var events []pie.Event
	pieRun(t, otherBuild, &events, append([]string{"events"}, target...)...)
	seen := 0
	for _, e := range events {
		if e.ID == th.prepatch && e.Kind == "reject" {
			seen++
		}
	}
	if seen < th.attacks() {
		t.Errorf("%d reject events of %s, %d attacks were sent", seen, th.prepatch, th.attacks())
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

// familiesLater gives the process of a client that has left a moment to end.
func familiesLater(servers []*server, before []int) []int {
	for end := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		after := families(servers)
		if slices.Equal(before, after) || time.Now().After(end) {
			return after
		}
	}
}
