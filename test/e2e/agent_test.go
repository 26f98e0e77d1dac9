package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/operate/agent"
)

// agentCase is a server that an agent keeps guarded.
type agentCase struct {
	name   string
	binary string // its path, which the rule names
	scenario
	// slow is a server that takes longer to load than the gate may hold it, so that
	// it runs before it is guarded: it is attacked once the agent says it is.
	slow bool
}

// agentCases lays the servers out.
func agentCases(t *testing.T) []agentCase {
	t.Helper()
	postgres, dir := postgresScenario, layOutPostgres(t)
	postgres.start = func(t *testing.T) *server { return runPostgres(t, dir) }
	return []agentCase{
		{"redis", filepath.Join(installed(t, "redis"), "redis-server"), redisScenario, false},
		{"nginx", filepath.Join(installed(t, "nginx"), "sbin/nginx"), nginxScenario, false},
		{"nats", filepath.Join(installed(t, "nats"), "nats-server"), natsScenario("nats-server"), false},
		{"postgres", filepath.Join(dir, "bin/postgres"), postgres, true},
	}
}

// startAgent starts pie agent with a rule for every case. It returns its log, too.
func startAgent(t *testing.T, cases []agentCase) (*agent.Client, *lockedBuffer) {
	t.Helper()
	dir := t.TempDir()
	var policy strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&policy, "%s exe=%s enforce\n", c.threats[0].prepatch, c.binary)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy"), []byte(policy.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "sock")
	cmd := exec.Command(piePath, "agent", "--policy", filepath.Join(dir, "policy"), "--prepatches", filepath.Join(dir, "none"), "--socket", socket)
	log := &lockedBuffer{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	client := agent.Dial(socket)
	for range 200 {
		if s, err := client.Status(context.Background()); err == nil && s.Holding.On {
			time.Sleep(time.Second) // the worker compiles
			return client, log
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the agent does not hold new processes; it needs root and fanotify\n%s", log)
	return nil, nil
}

// lives counts what became of servers and of their normal clients.
type lives struct {
	log      *lockedBuffer
	mu       sync.Mutex
	all      int
	known    int // that came late, as the agent says, and died of it
	requests int // of normal clients
}

// told tells whether the agent's log says something of a server and a prepatch.
func (l *lives) told(s *server, msg, id string) bool {
	return strings.Contains(l.log.String(), fmt.Sprintf(`"msg":"%s","prepatch":"%s","pid":%d,`, msg, id, s.pid()))
}

// awaitGuard waits until the agent has guarded a server.
func (l *lives) awaitGuard(t *testing.T, s *server, id string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !l.told(s, "guarded before it ran", id) && !l.told(s, "guarded", id); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the agent does not guard pid %d\n%s", s.pid(), l.log)
		}
	}
}

// died notes a death. It is the agent's fault unless the agent told that the
// process came late: on a machine that is busy enough, some do.
func (l *lives) died(t *testing.T, s *server, c agentCase, format string, args ...any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.slow && !l.told(s, "guarded before it ran", c.threats[0].prepatch) {
		l.known++
		t.Logf("came late: "+format, args...)
		return
	}
	t.Errorf(format, args...)
}

// underAttack keeps a server under attack until stop, which returns how many
// attacks there were and the first that was not answered as a guard answers it.
func underAttack(addr string, attack func(string) error) (stop func() (int, error)) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	n, first := 0, error(nil)
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := attack(addr); err != nil && first == nil {
				first = err
			}
			n++
			time.Sleep(time.Millisecond)
		}
	}()
	return func() (int, error) { close(done); wg.Wait(); return n, first }
}

// live keeps a server under attack, with two normal clients beside it. It must not
// die, and no normal request may be lost; false if it did.
func (l *lives) live(t *testing.T, s *server, c agentCase, life time.Duration) bool {
	t.Helper()
	stop := underAttack(s.addr, c.threats[0].attack)
	normal := startLoadAnyhow(t, 2, s.addr, c.dial)
	time.Sleep(life)
	n, err := stop()
	lost := normal.finish()
	l.mu.Lock()
	l.all++
	l.requests += lost.requests
	l.mu.Unlock()
	if err != nil || !s.alive() || n == 0 {
		l.died(t, s, c, "%s: after %d attacks: %v, alive: %v\n%s", c.name, n, err, s.alive(), tail(s.out.String()))
		return false
	}
	for _, err := range lost.failures {
		t.Errorf("%s: a normal request: %v", c.name, err)
	}
	return true
}

// attacked runs one life of a server: started, attacked from its first answer on,
// ended with sig.
func attacked(t *testing.T, l *lives, c agentCase, life time.Duration, sig syscall.Signal) {
	t.Helper()
	s := c.start(t)
	if c.slow {
		l.awaitGuard(t, s, c.threats[0].prepatch)
	}
	if !l.live(t, s, c, life) {
		s.kill()
		return
	}
	syscall.Kill(-s.pid(), sig)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Errorf("%s does not end on %v", c.name, sig)
		s.kill()
	}
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// replaceInPlace puts another file with the same content at a path, as a package
// manager does.
func replaceInPlace(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o755)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// With the agent running, a server is restarted, crashed, upgraded in place and
// scaled under a continuous attack. It never dies of it, and no normal request is lost.
func TestAgentKeepsServersAlive(t *testing.T) {
	cases := agentCases(t)
	client, log := startAgent(t, cases)
	l := &lives{log: log}
	life, rounds := 700*time.Millisecond, 1
	if os.Getenv("PIE_TEST_LONG") != "" {
		life, rounds = 5*time.Second, 20
	}
	for range rounds {
		for _, c := range cases {
			attacked(t, l, c, life, syscall.SIGTERM)
			attacked(t, l, c, life, syscall.SIGKILL)
			replaceInPlace(t, c.binary)
			time.Sleep(1500 * time.Millisecond)
			attacked(t, l, c, life, syscall.SIGTERM)
			if c.name == "postgres" {
				continue // one server a data directory
			}
			var wg sync.WaitGroup
			for range 2 {
				s := c.start(t)
				wg.Go(func() { l.live(t, s, c, life) })
			}
			wg.Wait()
		}
	}
	if t.Logf("%d lives under attack, %d ended because the guard came late; %d normal requests", l.all, l.known, l.requests); l.known > l.all/3 {
		t.Error("too many")
	}
	if t.Failed() {
		t.Logf("the agent's log:\n%s", log)
	}
	s, err := client.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Healthy() {
		t.Error(p)
	}
}

// An agent that is stopped holds nobody, and one that is killed changes nothing.
func TestAgentStoppedAndKilled(t *testing.T) {
	cases := agentCases(t)[:1]
	client, log := startAgent(t, cases)
	c := cases[0]
	s := c.start(t)
	st, err := client.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(st.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	attacked(t, &lives{log: log}, c, 300*time.Millisecond, syscall.SIGTERM)
	t.Logf("a whole life with the agent stopped: %v", time.Since(began))
	if err := syscall.Kill(st.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.threats[0].attack(s.addr); err != nil || !s.alive() {
		t.Errorf("after the agent was killed: %v, alive: %v", err, s.alive())
	}
	if conn, err := net.Dial("tcp", s.addr); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}
