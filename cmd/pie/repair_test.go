package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A `pie insert` that is killed anywhere leaves something that `pie status` names
// and `pie repair` puts right: guarded, or as it was.
func TestKilledInsertIsRepaired(t *testing.T) {
	rounds := 10
	if os.Getenv("PIE_TEST_LONG") != "" {
		rounds = 200
	}
	left := 0
	for i := range rounds {
		v, pid := startPlain(t) // each without an arena: its maps tell when one is made
		insert := []string{"insert", "testdata/guard", "--pid", pid, "--trial", "0"}
		killAtWork(t, pid, time.Duration(i)*1500/time.Duration(rounds)*time.Microsecond, insert...)
		expect(t, v, "1", "4")
		if status := pieSays(t, 0, "status", "--pid", pid); strings.Contains(status, "half-done:") {
			left++
			if out := pieSays(t, 0, "repair", "--pid", pid); !strings.Contains(out, "1 of 1 processes put right") {
				t.Errorf("repair says:\n%s", out)
			}
		}
		if out := pieSays(t, 0, "repair", "--pid", pid); !strings.Contains(out, "nothing was left") {
			t.Errorf("a second repair says:\n%s", out)
		}
		expect(t, v, "1", "4")
		pieSays(t, 0, insert...) // in already, or in now
		expect(t, v, "101", "-1")
		pieSays(t, 0, "remove", "TEST-0001", "--pid", pid)
		if status := pieSays(t, 0, "status", "--pid", pid); !strings.Contains(status, "no prepatch is in") {
			t.Errorf("after all, status says:\n%s", status)
		}
	}
	t.Logf("%d of %d killed insertions left something", left, rounds)
}

// killAtWork runs pie and kills it some time after it has begun to change process
// pid: once it traces it, or has mapped memory in it.
func killAtWork(t *testing.T, pid string, after time.Duration, args ...string) {
	t.Helper()
	maps := func() int {
		text, err := os.ReadFile("/proc/" + pid + "/maps")
		if err != nil {
			t.Fatal(err)
		}
		return len(text)
	}
	traced := func() bool {
		text, err := os.ReadFile("/proc/" + pid + "/status")
		return err == nil && !strings.Contains(string(text), "TracerPid:\t0\n")
	}
	before := maps()
	cmd := exec.Command(filepath.Join(bin, "pie"), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); maps() == before && !traced() && time.Since(begin) < 3*time.Second; {
	}
	for seen := time.Now(); time.Since(seen) < after; {
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// startPlain starts the victim.
func startPlain(t *testing.T) (*victim, string) {
	t.Helper()
	v := &victim{cmd: exec.Command(filepath.Join(bin, "victim"))}
	in, err := v.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.in, v.out = in, bufio.NewReader(out)
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = v.cmd.Process.Kill()
		_ = v.cmd.Wait()
	})
	expect(t, v, "1", "4")
	return v, strconv.Itoa(v.cmd.Process.Pid)
}

func expect(t *testing.T, v *victim, line, want string) {
	t.Helper()
	if got, err := v.ask(line); err != nil || got != want {
		t.Fatalf("the victim answers %q to %s: %v", got, line, err)
	}
}

// pieSays runs pie, which must end with code, and returns its output.
func pieSays(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "pie"), args...)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("pie %s ended with %d instead of %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	return string(out)
}
