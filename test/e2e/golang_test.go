package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// A guard in a Go program under forced collection, growing stacks, stack dumps
// and SIGPROF: in and out again and again, every result right.
func TestGoRuntimeUnderStress(t *testing.T) {
	for name, flags := range map[string]string{"with symbols": "", "without symbols": "-s -w"} {
		t.Run(name, func(t *testing.T) { stressGo(t, flags) })
	}
}

func stressGo(t *testing.T, ldflags string) {
	binary := filepath.Join(t.TempDir(), "gohost")
	build := exec.Command("go", "build", "-o", binary, "-ldflags", ldflags, "./testdata/gohost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building gohost: %v\n%s", err, out)
	}
	h := startGoHost(t, binary)
	target := []string{"--pid", strconv.Itoa(h.cmd.Process.Pid)}
	for cycle := range 10 {
		before := h.report()
		pieRun(t, piePath, nil, append([]string{"insert", "testdata/goguard/guard.go", "--yes"}, target...)...)
		h.waitCalls(2000)
		guarded := h.report()
		pieRun(t, otherBuild, nil, append([]string{"remove", "gohost", "--yes"}, target...)...)
		out := h.report()
		checkTextEqualsFiles(t, h.cmd.Process.Pid)
		h.waitCalls(500)
		end := h.report()
		if guarded.wrong+end.wrong > 0 {
			t.Fatalf("cycle %d: %d wrong results", cycle, end.wrong)
		}
		if guarded.rejected == before.rejected {
			t.Errorf("cycle %d: no call was rejected", cycle)
		}
		// Eight goroutines may have been past the guard when it was taken out.
		if end.rejected > out.rejected+8 {
			t.Errorf("cycle %d: %d calls rejected after removal", cycle, end.rejected-out.rejected)
		}
	}
}

// Two guards on one Go function, each the first one once: the stack check runs once
// a call, whoever is ahead, and one goes while the other stays.
func TestGoTwoGuards(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "gohost")
	build := exec.Command("go", "build", "-o", binary, "./testdata/gohost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building gohost: %v\n%s", err, out)
	}
	h := startGoHost(t, binary)
	target := []string{"--pid", strconv.Itoa(h.cmd.Process.Pid), "--yes"}
	ids := []string{"gohost", "gosecond"}
	files := map[string]string{"gohost": "testdata/goguard/guard.go", "gosecond": "testdata/gosecond/guard.go"}
	for cycle := range 4 {
		first, second := ids[cycle%2], ids[1-cycle%2]
		pieRun(t, piePath, nil, append([]string{"insert", files[first]}, target...)...)
		pieRun(t, otherBuild, nil, append([]string{"insert", files[second]}, target...)...)
		before := h.report()
		h.waitCalls(1000)
		if h.report().rejected == before.rejected {
			t.Errorf("cycle %d: both are in, and no call was rejected", cycle)
		}
		leaves, stays := ids[cycle/2], ids[1-cycle/2]
		pieRun(t, otherBuild, nil, append([]string{"remove", leaves}, target...)...)
		before = h.report()
		h.waitCalls(1000)
		if guarded := h.report().rejected > before.rejected+8; guarded != (stays == "gohost") {
			t.Errorf("cycle %d: %s is in alone; calls are rejected: %v", cycle, stays, guarded)
		}
		pieRun(t, piePath, nil, append([]string{"remove", stays}, target...)...)
		h.waitCalls(500)
		checkTextEqualsFiles(t, h.cmd.Process.Pid)
		if r := h.report(); r.wrong > 0 {
			t.Fatalf("cycle %d: %d wrong results", cycle, r.wrong)
		}
	}
}

type goHost struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

type goReport struct{ calls, rejected, wrong uint64 }

func startGoHost(t *testing.T, binary string) *goHost {
	h := &goHost{t: t, cmd: exec.Command(binary)}
	h.cmd.Stderr = os.Stderr
	in, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.in, h.out = in, bufio.NewScanner(out)
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.cmd.Process.Kill(); h.cmd.Wait() })
	if !h.out.Scan() || h.out.Text() != "ready" {
		t.Fatalf("gohost did not start: %q", h.out.Text())
	}
	return h
}

func (h *goHost) report() (r goReport) {
	h.t.Helper()
	io.WriteString(h.in, "\n")
	if !h.out.Scan() {
		h.t.Fatalf("gohost ended: %v", h.out.Err())
	}
	if _, err := fmt.Sscan(h.out.Text(), &r.calls, &r.rejected, &r.wrong); err != nil {
		h.t.Fatalf("gohost said %q: %v", h.out.Text(), err)
	}
	return r
}

// waitCalls waits until n more calls were made.
func (h *goHost) waitCalls(n uint64) {
	h.t.Helper()
	from := h.report().calls
	for end := time.Now().Add(60 * time.Second); h.report().calls < from+n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("gohost made %d of %d calls in 60 s", h.report().calls-from, n)
		}
	}
}
