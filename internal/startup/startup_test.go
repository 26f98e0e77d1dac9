package startup_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/startup"
)

// asChild makes the test program tell what its threads may run on, before and behind Over.
const asChild = "STARTUP_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		fmt.Println(threadsOn())
		startup.Over()
		fmt.Println(threadsOn())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// threadsOn returns the CPUs of all threads, each set that occurs once.
func threadsOn() string {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err.Error()
	}
	var sets []string
	for _, t := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + t.Name() + "/status")
		if err != nil {
			continue // it has ended
		}
		_, behind, _ := bytes.Cut(status, []byte("Cpus_allowed_list:\t"))
		line, _, _ := bytes.Cut(behind, []byte("\n"))
		if !strings.Contains(strings.Join(sets, " "), string(line)) {
			sets = append(sets, string(line))
		}
	}
	return strings.Join(sets, " ")
}

// TestOneCPUUntilOver: a command that prepares beside a program begins on one CPU, with
// every thread, and has all of its own again when it says so, no more.
func TestOneCPUUntilOver(t *testing.T) {
	may := threadsOn() // of this program, which is no such command
	for range 5 {
		before, after := asCommand(t, os.Args[0], "insert", "CVE-2024-31228")
		if strings.ContainsAny(before, "-, ") {
			t.Errorf("its threads may run on %s before main does, not on one CPU", before)
		}
		if after != may {
			t.Errorf("its threads may run on %s afterwards, not on %s", after, may)
		}
	}
}

// TestOthersAreLeftAlone: no other command, and no helper that a program starts of itself.
func TestOthersAreLeftAlone(t *testing.T) {
	may := threadsOn()
	for _, args := range [][]string{{}, {"agent"}, {"--json", "insert"}, {"inserts"}, {"status", "insert"}, {""}} {
		if before, after := asCommand(t, os.Args[0], args...); before != may || after != may {
			t.Errorf("%q: its threads may run on %s, then on %s, not on %s", args, before, after, may)
		}
	}
}

// asCommand starts a program with arguments, and returns what its threads may run on
// when main begins, and behind Over.
func asCommand(t *testing.T, program string, args ...string) (before, after string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), asChild+"=1")
	out, err := cmd.CombinedOutput()
	lines := strings.Split(string(out), "\n")
	if err != nil || len(lines) != 3 {
		t.Fatalf("%v: %v %q", cmd.Args, err, out)
	}
	return lines[0], lines[1]
}

// TestKeepsWhatItWasGiven: who starts it on some CPUs finds it on those.
func TestKeepsWhatItWasGiven(t *testing.T) {
	first := firstCPU(t)
	before, after := asCommand(t, "taskset", "-c", fmt.Sprint(first), os.Args[0], "plan")
	if want := fmt.Sprint(first); before != want || after != want {
		t.Errorf("its threads may run on %s, then on %s, not on %s", before, after, want)
	}
}

// TestBeforeTheRuntime: a command that is linked to begin here is on one CPU before the Go
// runtime counts them, and has all of its own behind Over. No other command is.
func TestBeforeTheRuntime(t *testing.T) {
	program := linked(t)
	all := runtime.NumCPU()
	for _, test := range []struct {
		args  []string
		began int
	}{
		{[]string{"insert"}, 1},
		{[]string{"remove", "x"}, 1},
		{[]string{"plan", "insert"}, 1},
		{nil, all},
		{[]string{""}, all},
		{[]string{"plans"}, all},
		{[]string{"pla"}, all},
		{[]string{"inserts"}, all},
		{[]string{"removed"}, all},
		{[]string{"status", "insert"}, all},
		{[]string{"--json", "insert"}, all},
		{[]string{strings.Repeat("plan", 1<<13)}, all},
	} {
		out, err := exec.Command(program, test.args...).CombinedOutput()
		if want := fmt.Sprintf("%d\n%d\n", test.began, all); err != nil || string(out) != want {
			t.Errorf("%.40q: it counts %q CPUs, then processors (%v); want %q", test.args, out, err, want)
		}
	}
}

// TestBeforeTheRuntimeKeepsWhatItWasGiven is TestKeepsWhatItWasGiven ahead of the runtime.
func TestBeforeTheRuntimeKeepsWhatItWasGiven(t *testing.T) {
	program := linked(t)
	out, err := exec.Command("taskset", "-c", fmt.Sprint(firstCPU(t)), program, "plan").CombinedOutput()
	if err != nil || string(out) != "1\n1\n" {
		t.Errorf("on one CPU: %v %q", err, out)
	}
}

// linked builds a program that begins ahead of the runtime.
func linked(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "begins")
	if out, err := exec.Command("go", "build", "-ldflags", "-E pie_entry", "-o", program, "./testdata/begins").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// firstCPU is the first that this program may run on.
func firstCPU(t *testing.T) int {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for first := 0; ; first++ {
		if all.IsSet(first) {
			return first
		}
	}
}
