package insert

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/address"
)

// stateVictim is a program whose threads are all in one state, over and over, while one
// more calls the guarded function: testdata/caller.c with tracee's victim.c, or
// testdata/gostates. It checks every result itself, and ends when one is wrong.
type stateVictim struct {
	victim
	threads int
	rounds  address.Addr // of what each thread counts
	mu      sync.Mutex
	says    []string
}

// What the table calls the two, and the first when its main thread has ended.
const (
	cProgram  = "C"
	mainless  = "C, main ended"
	goProgram = "Go"
)

var buildStates = sync.OnceValues(func() (map[string]string, error) {
	dir, err := buildVictim()
	if err != nil {
		return nil, err
	}
	programs := map[string]string{cProgram: filepath.Join(dir, "states"), mainless: filepath.Join(dir, "states"), goProgram: filepath.Join(dir, "gostates")}
	for _, args := range [][]string{
		{"gcc", "-O2", "-mavx2", "-pthread", "-o", programs[cProgram], "../tracee/testdata/victim.c", "testdata/caller.c"},
		{"go", "build", "-o", programs[goProgram], "./testdata/gostates"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: install gcc and libc6-dev\n%s", args, err, out)
		}
	}
	return programs, nil
})

func startStates(t testing.TB, program, state string, threads int) *stateVictim {
	t.Helper()
	programs, err := buildStates()
	if err != nil {
		t.Fatal(err)
	}
	// A tracer that dies in the middle may leave an EINTR visible (package tracee).
	cmd := exec.Command(programs[program], state, strconv.Itoa(threads), "eintr-allowed")
	if program == mainless {
		cmd.Args = append(cmd.Args, "mainless")
	}
	cmd.Stderr = os.Stderr
	v := &stateVictim{victim: victim{cmd: cmd}, threads: threads}
	if v.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.stop)
	v.pid = cmd.Process.Pid
	lines := bufio.NewReader(out)
	for _, ready := range []bool{false, true} {
		line, err := lines.ReadString('\n')
		if ready && err == nil && strings.HasPrefix(line, "ready") {
			break
		}
		if _, scan := fmt.Sscanf(line, "exe=%v lib=%v stats=%v rounds=%v", (*hex)(&v.exe), (*hex)(&v.lib), (*hex)(&v.stats), (*hex)(&v.rounds)); scan != nil || err != nil {
			t.Fatalf("%v says %q: %v", cmd.Args, line, err)
		}
	}
	go v.listen(lines)
	v.p = v.open(t)
	return v
}

// listen keeps what the program says: only what is wrong.
func (v *stateVictim) listen(lines *bufio.Reader) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		v.mu.Lock()
		v.says = append(v.says, strings.TrimSpace(line))
		v.mu.Unlock()
	}
}

// counts reads the number of calls, what came of them, and the rounds of each thread.
func (v *stateVictim) counts(t testing.TB) (s stats, rounds []uint64) {
	t.Helper()
	b := make([]byte, 8*v.threads)
	_, err := v.p.ReadAt(b, v.rounds)
	if err != nil {
		time.Sleep(50 * time.Millisecond) // until what it said has arrived
		v.mu.Lock()
		defer v.mu.Unlock()
		t.Fatalf("%v is gone: %v: %q", v.cmd.Args, err, v.says)
	}
	rounds = make([]uint64, v.threads)
	for i := range rounds {
		rounds[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	if s = v.read(t); s.Wrong != 0 {
		t.Fatalf("%v got %d wrong results", v.cmd.Args, s.Wrong)
	}
	return s, rounds
}

// goOn waits until every thread has gone on and the function was called, and returns how
// long that took, at most ten times what it may.
func (v *stateVictim) goOn(t testing.TB) time.Duration {
	t.Helper()
	return v.goOnAfter(t, "")
}

// goOnAfter is goOn after something that has a name.
func (v *stateVictim) goOnAfter(t testing.TB, what string) time.Duration {
	t.Helper()
	began := time.Now()
	s0, before := v.counts(t)
	for {
		s, now := v.counts(t)
		behind := -1
		for i := range now {
			if now[i] == before[i] {
				behind = i
			}
		}
		if behind < 0 && s.Calls > s0.Calls {
			return time.Since(began)
		}
		if time.Since(began) > 10*frozenLimit {
			t.Fatalf("%s%v: thread %d, or the caller, does not go on: %d calls, rounds %v\n%s", what, v.cmd.Args, behind, s.Calls-s0.Calls, now, v.threadStates())
		}
		time.Sleep(time.Millisecond)
	}
}

// threadStates says where the threads of the process and of its children stand, for
// whoever has to find out why they do not go on.
func (v *stateVictim) threadStates() string {
	var b strings.Builder
	pids := []int{v.pid}
	if kids, err := v.p.Children(); err == nil {
		pids = append(pids, kids...)
	}
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		for _, task := range tasks {
			call, _ := os.ReadFile(filepath.Join(task, "syscall"))
			where, _ := os.ReadFile(filepath.Join(task, "wchan"))
			status, _ := os.ReadFile(filepath.Join(task, "status"))
			fmt.Fprintf(&b, "%s: in %s, %s", task, where, call)
			for _, line := range strings.Split(string(status), "\n") {
				if name, _, _ := strings.Cut(line, ":"); slices.Contains([]string{"Name", "State", "TracerPid", "SigPnd", "ShdPnd", "SigBlk"}, name) {
					fmt.Fprintf(&b, "  %s\n", line)
				}
			}
		}
	}
	return b.String()
}

// isGuarded wants negative numbers rejected, or none, as soon as the calls in flight
// have returned.
func (v *stateVictim) isGuarded(t testing.TB, guarded bool) {
	t.Helper()
	var s stats
	for range 20 {
		s = v.progress(t, slow)
		if guarded && s.Rejected > 0 && s.Passed == 0 || !guarded && s.Rejected == 0 && s.Passed > 0 {
			return
		}
	}
	t.Fatalf("%v: guarded is %v, and %+v", v.cmd.Args, guarded, s)
}
