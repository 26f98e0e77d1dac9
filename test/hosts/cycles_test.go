package hosts

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// held is what a process holds: what must not grow.
type held struct {
	mappings, fds int
	anonymousKB   int
}

func (h *host) held() held {
	h.t.Helper()
	return held{len(lines(h.t, h.pid(), "maps")), entries(h.t, h.pid(), "fd"), anonymousKB(h.t, h.pid())}
}

func lines(t testing.TB, pid int, file string) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func entries(t testing.TB, pid int, dir string) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, dir))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// anonymousKB is RssAnon and RssShmem of /proc/PID/status, in KiB.
func anonymousKB(t testing.TB, pid int) (kb int) {
	t.Helper()
	for _, line := range lines(t, pid, "status") {
		if f := strings.Fields(line); len(f) == 3 && (f[0] == "RssAnon:" || f[0] == "RssShmem:") {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			kb += n
		}
	}
	return kb
}

// Nothing grows over many cycles: not the target's mappings, memory or descriptors,
// not those of who inserts. What stays of PIE is one arena.
func TestCyclesLeaveNothing(t *testing.T) {
	cycles := 25
	if os.Getenv("PIE_TEST_LONG") != "" {
		cycles = 10000
	}
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	ids := []*pie.Prepatch{guard(t, "HOST-1", exeOf(path)), guard(t, "HOST-2", exeOf(path))}
	h := start(t, nil, path, "", "2")
	cycle := func(i int) {
		p := ids[i%len(ids)] // two programs, so that slots change hands
		h.insert(p)
		h.remove(p.ID)
	}
	for i := range 6 {
		cycle(i)
	}
	before, own, began := h.held(), entries(t, os.Getpid(), "fd"), h.read()
	for i := range cycles {
		cycle(i)
	}
	after, s := h.held(), h.read()
	if after.mappings > before.mappings || after.fds > before.fds || after.anonymousKB > before.anonymousKB+16 {
		t.Errorf("after %d cycles the target holds %+v, at first %+v", cycles, after, before)
	}
	if now := entries(t, os.Getpid(), "fd"); now > own {
		t.Errorf("after %d cycles this process has %d descriptors open, at first %d", cycles, now, own)
	}
	if s.Wrong != 0 {
		t.Errorf("%d wrong results", s.Wrong)
	}
	t.Logf("%d cycles raced by %d calls: %+v, then %+v", cycles, s.Calls-began.Calls, before, after)
	h.asItsFiles()
}

// Two pies at work on one process at one time, each with a prepatch of its own on
// the same function: both get their way, one after the other.
func TestTwoAtOnce(t *testing.T) {
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	h := start(t, nil, path, "", "3")
	var both sync.WaitGroup
	for _, id := range []string{"HOST-1", "HOST-2"} {
		p := guard(t, id, exeOf(path))
		both.Go(func() {
			for range 8 {
				h.insertOrSay(p)
				h.removeOrSay(p.ID)
			}
		})
	}
	both.Wait()
	h.unguarded()
	h.asItsFiles()
}

// insertOrSay and removeOrSay are for other goroutines than the test's.
func (h *host) insertOrSay(p *pie.Prepatch) {
	r, err := pie.Insert(h.context(), p, pie.Pids(h.pid()), pie.Options{Mode: pie.ModeEnforce, Build: "test"})
	if err != nil || r.Guarded() != 1 {
		h.t.Errorf("inserting %s: %+v, %v", p.ID, r, err)
	}
}

func (h *host) removeOrSay(id string) {
	r, err := pie.Remove(h.context(), id, pie.Pids(h.pid()))
	if err != nil || r.Processes[0].Error != "" {
		h.t.Errorf("removing %s: %+v, %v", id, r, err)
	}
}

// A debugger has the process: pie says which, and changes nothing; when it has let
// go, pie works. One that attaches to a guarded process finds it working.
func TestAgainstGDB(t *testing.T) {
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	h := start(t, nil, path, "", "2")
	gdb := exec.Command("gdb", "-q", "-nx", "-p", strconv.Itoa(h.pid()), "-ex", "continue")
	gdb.Stdout, gdb.Stderr = nil, nil
	in, err := gdb.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gdb.Start(); err != nil {
		t.Fatalf("%v: scripts/setup installs gdb", err)
	}
	h.waitStatus(fmt.Sprintf("TracerPid:\t%d", gdb.Process.Pid))
	_, err = pie.Insert(h.context(), p, pie.Pids(h.pid()), pie.Options{Mode: pie.ModeEnforce})
	if pie.ReasonOf(err) != pie.CodeTraced || !strings.Contains(err.Error(), "gdb") {
		t.Errorf("%v instead of %s", err, pie.CodeTraced)
	}
	_ = gdb.Process.Kill() // lets go of it, as any death of a tracer does
	_ = gdb.Wait()
	in.Close()
	h.waitStatus("TracerPid:\t0")
	h.cycles(p, 1)
	h.insert(p)
	text, err := exec.Command("gdb", "-q", "-nx", "-batch", "-p", strconv.Itoa(h.pid()), "-ex", "bt", "-ex", "x/2i guarded").CombinedOutput()
	if err != nil || !strings.Contains(string(text), "<guarded>:") { // what a backtrace shows: docs/pie.md, "Debuggers"
		t.Errorf("gdb on a guarded process: %v\n%s", err, text)
	}
	h.guarded()
	h.remove(p.ID)
	h.asItsFiles()
}

// A debugger's breakpoint on a guarded function: it is hit, and gone again when the debugger lets
// go, and nobody has noticed.
func TestBreakpointOnGuarded(t *testing.T) {
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	h := start(t, nil, path, "", "2")
	h.insert(p)
	text, err := exec.Command("gdb", "-q", "-nx", "-batch", "-p", strconv.Itoa(h.pid()),
		"-ex", "break *(guarded)", "-ex", "continue", "-ex", "delete", "-ex", "detach").CombinedOutput()
	if err != nil || !strings.Contains(string(text), "Breakpoint 1,") {
		t.Errorf("gdb: %v\n%s", err, text)
	}
	h.guarded()
	h.remove(p.ID)
	h.unguarded()
	h.asItsFiles()
}

// strace, as gdb, comes first or second: pie names it and changes nothing, and what is in
// stays in.
func TestAgainstStrace(t *testing.T) {
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	p := guard(t, "HOST-1", exeOf(path))
	h := start(t, nil, path, "", "2")
	traced := func(do func() error) {
		t.Helper()
		strace := exec.Command("strace", "-f", "-o", "/dev/null", "-p", strconv.Itoa(h.pid()))
		if err := strace.Start(); err != nil {
			t.Fatalf("%v: scripts/setup installs strace", err)
		}
		h.waitStatus(fmt.Sprintf("TracerPid:\t%d", strace.Process.Pid))
		if err := do(); pie.ReasonOf(err) != pie.CodeTraced || !strings.Contains(err.Error(), "strace") {
			t.Errorf("%v instead of %s", err, pie.CodeTraced)
		}
		h.calls(perHalf)
		_ = strace.Process.Signal(os.Interrupt)
		_ = strace.Wait()
		h.waitStatus("TracerPid:\t0")
	}
	traced(func() error {
		_, err := pie.Insert(h.context(), p, pie.Pids(h.pid()), pie.Options{Mode: pie.ModeEnforce})
		return err
	})
	h.insert(p)
	traced(func() error {
		_, err := pie.Remove(h.context(), p.ID, pie.Pids(h.pid()))
		return err
	})
	h.guarded()
	h.remove(p.ID)
	h.asItsFiles()
}
