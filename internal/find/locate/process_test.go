package locate

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// gcc builds testdata sources into a file of the test's directory.
func gcc(t testing.TB, out string, args ...string) string {
	t.Helper()
	out = filepath.Join(t.TempDir(), out)
	b, err := exec.Command("gcc", append([]string{"-o", out}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gcc %s: %v (is gcc installed? scripts/setup installs it)\n%s", strings.Join(args, " "), err, b)
	}
	return out
}

// process is a running test program that has told addresses of its own.
type process struct {
	*proc.Process
	addrs map[string]address.Addr
}

// start runs a program until it says ready, and reads the "name address" lines
// before that.
func start(t testing.TB, cmd *exec.Cmd) process {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", cmd, err)
		}
	})
	p := process{addrs: map[string]address.Addr{}}
	pid := cmd.Process.Pid
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == "ready" {
			break
		}
		if name == "pid" {
			pid, _ = strconv.Atoi(value)
			continue
		}
		a, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 64)
		if err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
		p.addrs[name] = address.Addr(a)
	}
	p.Process, err = proc.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Close() })
	return p
}

// inMemory checks that the function's text is what the process executes.
func inMemory(t *testing.T, p process, f Function) {
	t.Helper()
	if f.Size == 0 || uint64(len(f.Text)) < f.Size {
		t.Errorf("%s: %d bytes of text for a size of %d", f.Name, len(f.Text), f.Size)
	}
	b := make([]byte, len(f.Text))
	if _, err := p.ReadAt(b, f.Entry); err != nil {
		t.Fatal(err)
	}
	if string(b) != string(f.Text) {
		t.Errorf("%s at %v: memory differs from the file's text\n%x\n%x", f.Name, f.Entry, b, f.Text)
	}
}
