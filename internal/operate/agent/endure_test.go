package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// footprint is what the processes of an agent take.
type footprint struct {
	processes, threads, fds int
	memory, largest         int // private memory in use: of all, and of the process that has most; bytes
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
				f.largest = max(f.largest, kb<<10)
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
	agent := w.agentProcess()
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
	churn := func(until time.Duration) (starts int) {
		for begin := time.Now(); time.Since(begin) < until; starts++ {
			_ = exec.Command(w.victim, "4").Run()
			_ = exec.Command("/bin/true").Run()
			select {
			case <-ended:
				t.Fatalf("the agent ended after %d starts: %v\n%s", starts, agent.ProcessState, said.String())
			default:
			}
		}
		return starts
	}
	churn(long / 3) // everything has been used
	time.Sleep(settle)
	before := footprintOf(t, agent.Process.Pid)
	starts := churn(long * 2 / 3)
	after := atRest(t, agent.Process.Pid, before)
	t.Logf("%v, %d starts held: %+v became %+v", long, starts, before, after)
	if before.processes == 0 || after.processes == 0 {
		t.Fatal("the agent is not there")
	}
	if after.within(before) {
		return
	}
	// On a busy machine the runtime comes to need threads later than in the first third.
	// What grows goes on growing.
	starts = churn(long * 2 / 3)
	later := atRest(t, agent.Process.Pid, after)
	t.Logf("%d starts more: %+v", starts, later)
	if !later.within(after) {
		t.Errorf("it grows: %+v became %+v, and %+v", before, after, later)
	}
}

// agentProcess is an agent in a process of its own, to be started.
func (w *world) agentProcess() *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBeAgent$")
	cmd.Env = append(os.Environ(), "PIE_BE_AGENT="+w.dir)
	return cmd
}

// within tells whether an agent at rest takes no more than it did before. Threads of
// the runtime stay once they have been needed, and a collection of memory may be due. A
// process of the agent's that has just been replaced, such as a worker of the gate, has
// yet to read what the one before it had read; and the one that makes its changes is
// there once there was one to make.
func (f footprint) within(before footprint) bool {
	const threads, replaced = 12, 3
	memory := 24 << 20
	if raced {
		memory *= 5 // as much as the race detector makes of it
	}
	const its = 20 // descriptors of a process more
	more := max(0, f.processes-before.processes)
	return f.processes <= mostProcesses() && f.fds <= before.fds+f.processes+more*its && f.threads <= before.threads+(1+more)*threads &&
		f.largest <= before.largest+memory && f.memory <= before.memory+(replaced+more)*memory
}

// mostProcesses is how many an agent at rest has: itself, its gate, the gate's second;
// and, each with a watchdog, the gate's workers and who makes changes.
func mostProcesses() int { return 3 + 2*min(runtime.NumCPU(), 4) + 2 }

// settle is how long an agent has to come to rest: at any one moment of a churn,
// workers of the gate end and begin, and processes are guarded as they run.
const settle = 2 * time.Second

// atRest is what an agent takes while nothing starts, once that is within what it took
// before or it has had ample time to come to that.
func atRest(t *testing.T, pid int, before footprint) footprint {
	t.Helper()
	for end := time.Now().Add(10 * settle); ; time.Sleep(100 * time.Millisecond) {
		if f := footprintOf(t, pid); f.within(before) || time.Now().After(end) {
			return f
		}
	}
}

// TestBeAgent is the agent of TestEndures and TestConnectionsLeaveNothing: it runs until
// its standard input ends. For each byte it writes what it holds after a collection of
// garbage: bytes, and goroutines.
func TestBeAgent(t *testing.T) {
	dir := os.Getenv("PIE_BE_AGENT")
	if dir == "" {
		return // it is none by itself
	}
	log, err := os.Create(filepath.Join(dir, "log")) // in memory it would grow with every start
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w := &world{t: t, dir: dir, victim: filepath.Join(dir, "victim"), log: log}
	w.begin(false)
	for n, _ := os.Stdin.Read(make([]byte, 1)); n > 0; n, _ = os.Stdin.Read(make([]byte, 1)) {
		runtime.GC() // twice: what was in a sync.Pool goes with the second one
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprintln(os.Stderr, "HOLDS", m.HeapAlloc, runtime.NumGoroutine())
	}
}
