package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// piePath is the pie command under test, and otherBuild the same command built
// as another version: what one build put in, the other must see and take out.
// pfpPath is the command that makes fingerprints.
var piePath, otherBuild, pfpPath string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "pie-e2e")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	piePath, otherBuild, pfpPath = filepath.Join(dir, "pie"), filepath.Join(dir, "pie-other"), filepath.Join(dir, "pfp")
	for path, version := range map[string]string{piePath: "e2e", otherBuild: "e2e-other", pfpPath: "e2e"} {
		command, flags := "../../cmd/pie", "-X main.version="+version
		switch path {
		case piePath: // as the Makefile builds it; the other as go build does
			flags += " -E pie_entry"
		case pfpPath:
			command = "../../cmd/pfp"
		}
		build := exec.Command("go", "build", "-o", path, "-ldflags", flags, command)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("building %s: %w\n%s", command, err, out)
		}
	}
	return m.Run(), nil
}

// pieRun runs one command of pie with --json in a home of its own, which is
// gone afterwards: nothing but the processes may remember what is in them.
func pieRun(t *testing.T, binary string, into any, args ...string) {
	t.Helper()
	home := t.TempDir()
	defer os.RemoveAll(home)
	cmd := exec.Command(binary, append(args, "--json")...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home, "XDG_STATE_HOME="+home, "XDG_CACHE_HOME="+home)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatalf("pie %v: exit code %d\n%s%s", args, exit.ExitCode(), stdout.Bytes(), stderr.Bytes())
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(stdout.Bytes(), into); err != nil {
		t.Fatalf("pie %v --json: %v\n%s", args, err, stdout.Bytes())
	}
}

// rejects sums what the processes of a status say they rejected for one prepatch.
func rejects(statuses []pie.ProcessStatus, id string) (n uint64) {
	for _, s := range statuses {
		for _, p := range s.Prepatches {
			if p.ID != id {
				continue
			}
			for _, g := range p.Guards {
				n += g.Rejects
			}
		}
	}
	return n
}
