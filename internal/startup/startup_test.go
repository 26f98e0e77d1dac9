package startup_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
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
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	first := 0
	for !all.IsSet(first) {
		first++
	}
	before, after := asCommand(t, "taskset", "-c", fmt.Sprint(first), os.Args[0], "plan")
	if want := fmt.Sprint(first); before != want || after != want {
		t.Errorf("its threads may run on %s, then on %s, not on %s", before, after, want)
	}
}
