package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// footprint is what the processes of an agent take.
type footprint struct {
	processes, threads, fds int
	memory                  int // private and shared memory in use, bytes
}

// footprintOf adds up a process and those it started.
func footprintOf(t *testing.T, pid int) (f footprint) {
	t.Helper()
	for _, p := range append(descendants(pid), pid) {
		dir := fmt.Sprintf("/proc/%d/", p)
		tasks, err := os.ReadDir(dir + "task")
		if err != nil {
			continue // it has just ended
		}
		fds, _ := os.ReadDir(dir + "fd")
		status, _ := os.ReadFile(dir + "status")
		f.processes++
		f.threads += len(tasks)
		f.fds += len(fds)
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				kb, _ := strconv.Atoi(strings.Fields(rest)[0])
				f.memory += kb << 10
			}
		}
	}
	return f
}

func descendants(pid int) (out []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(s); err == nil {
				out = append(append(out, child), descendants(child)...)
			}
		}
	}
	return out
}

// endureTime is how long TestEndures lasts: PIE_AGENT_ENDURE names another time,
// such as 1h.
const endureTime = 10 * time.Second

// An agent among processes that come and go takes no more of anything as time goes
// by. The agent is a process of its own, this test started anew.
func TestEndures(t *testing.T) {
	long := endureTime
	if s := os.Getenv("PIE_AGENT_ENDURE"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	w := layOut(t, "testdata/victim.c")
	w.policy(theRule)
	agent := exec.Command(os.Args[0], "-test.run", "^TestBeAgent$")
	agent.Env = append(os.Environ(), "PIE_BE_AGENT="+w.dir)
	in, err := agent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{} // what it ends with, should it end
	agent.Stderr = said
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = agent.Wait(); close(ended) }()
	t.Cleanup(func() { in.Close(); <-ended })
	begin, n := time.Now(), 0
	during := func(from, until time.Duration) footprint {
		var all []footprint
		for time.Since(begin) < until {
			_ = exec.Command(w.victim, "4").Run()
			_ = exec.Command("/bin/true").Run()
			select {
			case <-ended:
				t.Fatalf("the agent ended after %v: %v\n%s", time.Since(begin).Round(time.Second), agent.ProcessState, said.String())
			default:
			}
			if n++; time.Since(begin) >= from && n%8 == 0 {
				all = append(all, footprintOf(t, agent.Process.Pid))
			}
		}
		return median(all)
	}
	before := during(long/3, long*2/3) // once everything has been used
	after := during(long*2/3, long)
	t.Logf("%v, %d starts held: %+v became %+v", long, n, before, after)
	if before.processes == 0 || after.processes == 0 {
		t.Fatal("the agent is not there")
	}
	const slack, memory = 12, 24 << 20 // threads of the runtime come and go; a collection may be due
	if after.fds > before.fds+slack || after.threads > before.threads+slack || after.memory > before.memory+memory {
		t.Errorf("it grows: %+v became %+v", before, after)
	}
}

// median is that of each part: a worker of the gate may be about to end, or to begin,
// at any one moment.
func median(all []footprint) (f footprint) {
	for _, part := range []func(*footprint) *int{
		func(f *footprint) *int { return &f.processes },
		func(f *footprint) *int { return &f.threads },
		func(f *footprint) *int { return &f.fds },
		func(f *footprint) *int { return &f.memory },
	} {
		slices.SortFunc(all, func(a, b footprint) int { return *part(&a) - *part(&b) })
		if len(all) > 0 {
			*part(&f) = *part(&all[len(all)/2])
		}
	}
	return f
}

// TestBeAgent is the agent of TestEndures: it runs until its standard input ends.
func TestBeAgent(t *testing.T) {
	dir := os.Getenv("PIE_BE_AGENT")
	if dir == "" {
		return // the test is TestEndures
	}
	w := &world{t: t, dir: dir, victim: filepath.Join(dir, "victim")}
	w.begin(false)
	_, _ = os.Stdin.Read(make([]byte, 1))
}
