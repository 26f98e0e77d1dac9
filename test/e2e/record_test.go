package e2e

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// TestRecord records Redis under load and replays what was recorded. Among the
// normal requests are patterns that do no harm and that the guard would reject: the
// replay finds all of them, and nothing else.
func TestRecord(t *testing.T) {
	const id = "CVE-2024-31228"
	s := startRedis(t)
	l := startLoad(t, clients, func(int) string { return s.addr }, dialRedis)
	l.waitRequests(t, 2*clients)
	stop := keepAsking(t, s.addr)
	file := filepath.Join(t.TempDir(), "redis.rec")
	var recorded pie.RecordReport
	pieRun(t, piePath, &recorded, "record", id, "--pid", strconv.Itoa(s.pid()), "--for", "1m", "--max-calls", "4000", "--per-call", "4096", "-o", file)
	stop()
	if recorded.Recorded != 4000 || recorded.Cut > 0 || recorded.Lost > 0 || len(recorded.Left) > 0 {
		t.Errorf("recorded: %+v", recorded)
	}
	checkTextEqualsFiles(t, s.pid())

	out, err := exec.Command(piePath, "test", id, "--replay", file).CombinedOutput()
	if err == nil || err.(*exec.ExitError).ExitCode() != 1 {
		t.Errorf("some calls would be rejected, and pie test ends with %v", err)
	}
	for _, want := range []string{" of 4,000 recorded calls would be rejected", `patternLen = 1002`, "with this prepatch"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the replay does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "unknown") {
		t.Errorf("the replay does not know of some:\n%s", out)
	}

	if end := l.finish(); len(end.failures) > 0 {
		t.Errorf("%d of %d requests were not answered as they should be: %v", len(end.failures), end.requests, end.failures[0])
	}
}

// TestRecordKilled kills pie record at any moment. The server answers on, its file
// can be read up to there, and the next recording clears what was left.
func TestRecordKilled(t *testing.T) {
	const id = "CVE-2024-31228"
	s := startRedis(t)
	l := startLoad(t, clients, func(int) string { return s.addr }, dialRedis)
	l.waitRequests(t, 2*clients)
	dir, pid := t.TempDir(), strconv.Itoa(s.pid())
	for round := range killRounds() {
		file := filepath.Join(dir, strconv.Itoa(round)+".rec")
		cmd := exec.Command(piePath, "record", id, "--pid", pid, "-o", file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if !s.alive() {
			t.Fatalf("round %d: the server has ended\n%s", round, s.out.String())
		}
		out, err := exec.Command(piePath, "test", id, "--replay", file).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) || err == nil && !strings.Contains(string(out), "ends abruptly") {
			t.Errorf("round %d: %v\n%s", round, err, out)
		}
	}
	var recorded pie.RecordReport
	pieRun(t, piePath, &recorded, "record", id, "--pid", pid, "--max-calls", "100", "-o", filepath.Join(dir, "last.rec"))
	if recorded.Recorded != 100 || len(recorded.Left) > 0 {
		t.Errorf("the last recording: %+v", recorded)
	}
	checkTextEqualsFiles(t, s.pid())
	if end := l.finish(); len(end.failures) > 0 {
		t.Errorf("%d of %d requests were not answered as they should be: %v", len(end.failures), end.requests, end.failures[0])
	}
}

// killRounds is how often a recording is killed.
func killRounds() int {
	if os.Getenv("PIE_TEST_LONG") != "" {
		return 500
	}
	return 8
}

// keepAsking sends patterns of more stars than the guard allows, which this key does
// not make Redis recurse on.
func keepAsking(t *testing.T, addr string) (stop func()) {
	t.Helper()
	c, err := newRedisClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.do("SET", "b", "1"); err != nil {
		t.Fatal(err)
	}
	pattern := "a" + strings.Repeat("*", 1001)
	end, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			if _, err := c.do("KEYS", pattern); err != nil {
				done <- err
				return
			}
			select {
			case <-end:
				done <- nil
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(end)
		if err := <-done; err != nil {
			t.Errorf("a pattern of many stars: %v", err)
		}
		c.Close()
	}
}
