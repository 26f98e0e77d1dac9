package hosts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// nobody is an ordinary user.
var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

// An ordinary user guards processes of his own with pie, and no others.
func TestOrdinaryUser(t *testing.T) {
	path := build(t, "plain", "gcc", "-pthread", "plain.c", "guarded.c")
	u := newUser(t)
	file := filepath.Join(programs, "user.go")
	if err := os.WriteFile(file, guardSource("HOST-USER", exeOf(path)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"", "mainless"} {
		t.Run(names("own", what), func(t *testing.T) {
			h := start(t, nobody, path, what, "3")
			if what == "mainless" {
				h.waitStatus("State:\tZ")
			}
			pid := strconv.Itoa(h.pid())
			u.pie(t, 0, "insert", file, "--pid", pid)
			h.guarded()
			if out := u.pie(t, 0, "status", "--pid", pid); !strings.Contains(out, "HOST-USER") {
				t.Errorf("status says %s", out)
			}
			// The host rejects faster than anybody reads.
			if out := u.pie(t, 0, "events", "--pid", pid); !strings.Contains(out, "reject") && !strings.Contains(out, "overwritten") {
				t.Errorf("events says %s", out)
			}
			u.pie(t, 0, "mode", "HOST-USER", "audit", "--pid", pid)
			h.unguarded()
			u.pie(t, 0, "remove", "HOST-USER", "--pid", pid)
			h.unguarded()
			h.asItsFiles()
		})
	}
	for _, c := range []struct {
		name, what string
		attr       *syscall.SysProcAttr
	}{{"root's", "", nil}, {"another's", "setuid", nil}, {"his own, which forbids it", "nondumpable", nobody}} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, c.attr, path, c.what, "3")
			h.calls(perHalf)
			if out := u.pie(t, 3, "insert", file, "--pid", strconv.Itoa(h.pid())); !strings.Contains(out, "permission") {
				t.Errorf("refused without a word about permission: %s", out)
			}
			h.unguarded()
			h.asItsFiles()
		})
	}
}

// user runs pie as an ordinary user.
type user struct{ program string }

func newUser(t *testing.T) user {
	t.Helper()
	u := user{filepath.Join(programs, "pie")}
	cmd := exec.Command("go", "build", "-o", u.program, "../../cmd/pie")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building pie: %v\n%s", err, out)
	}
	return u
}

// pie runs a command, wants its exit code, and returns what it says.
func (u user) pie(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := exec.Command(u.program, args...)
	cmd.SysProcAttr, cmd.Dir, cmd.Env = nobody, "/", []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if err != nil && exit == nil || got != code {
		t.Fatalf("pie %s: exit code %d, %v, instead of %d\n%s", strings.Join(args, " "), got, err, code, out)
	}
	return string(out)
}
