package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// sshGuard has getpwnam(3) know nobody of one name.
const sshGuard = `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id HOST-SSH

//pie:guard exe=sshd lib=libc.so.6 func=getpwnam onfault=pass onfuel=pass
func Guard(c *libpie.Call, name libpie.Addr) libpie.Verdict {
	if text, _ := c.CStr(name, 64); text.Equal("daemon") {
		return libpie.RejectPtr(0)
	}
	return libpie.Pass()
}
`

// sshd is a server on a port of its own, for root and daemon.
type sshd struct {
	t         *testing.T
	dir, port string
	pid       int
}

// TestSSH guards a real sshd: its children give up their rights and enter a sandbox that
// kills, and by default each of them executes the program anew, and has no guard.
func TestSSH(t *testing.T) {
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(sshGuard)})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("children that are forked", func(t *testing.T) {
		t.Parallel()
		s := startSSH(t, "-r")
		s.wants("daemon", false)
		s.insert(p, s.pid)
		s.wants("daemon", true)
		s.wants("root", false)
		if _, err := pie.Remove(t.Context(), p.ID, pie.Pids(s.pid)); err != nil {
			t.Fatal(err)
		}
		s.wants("daemon", false)
	})
	t.Run("children that execute it anew", func(t *testing.T) {
		t.Parallel()
		s := startSSH(t)
		ctx, cancel := context.WithCancel(t.Context())
		session := s.command(ctx, "root", "sleep 60")
		if err := session.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cancel(); _ = session.Wait() }()
		child := s.child()
		r := s.insert(p, s.pid, child)
		for _, of := range r.Processes {
			noted := slices.ContainsFunc(of.Notes, func(n string) bool { return strings.Contains(n, "executed the program anew") })
			if noted != (of.Pid == child) {
				t.Errorf("pid %d, where %d started %d: notes %q", of.Pid, s.pid, child, of.Notes)
			}
		}
		s.wants("daemon", false)
	})
}

func startSSH(t *testing.T, args ...string) *sshd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("sshd with sandboxed children takes root, as these tests do")
	}
	dir, err := os.MkdirTemp(programs, "ssh")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.MkdirAll("/run/sshd", 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	s := &sshd{t: t, dir: dir, port: port}
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s(scripts/setup installs what is missing)", err, out)
		}
	}
	config := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPidFile none\nUsePAM no\nStrictModes no\n", port, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/sshd", append([]string{"-D", "-e", "-f", filepath.Join(dir, "config")}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: scripts/setup installs what is missing", err)
	}
	s.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log.Bytes())
		}
	})
	s.eventually("does not listen", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return s
}

func (s *sshd) eventually(otherwise string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patient); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("sshd, pid %d, %s", s.pid, otherwise)
		}
	}
}

// child is what the server has started for a session.
func (s *sshd) child() (pid int) {
	s.t.Helper()
	s.eventually("starts nothing for a session", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid, s.pid))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, word := range strings.Fields(string(text)) {
			pid, err = strconv.Atoi(word)
			title, _ := os.ReadFile(fmt.Sprintf("/proc/%s/cmdline", word))
			if err == nil && bytes.Contains(title, []byte("root@")) {
				return true
			}
		}
		return false
	})
	return pid
}

func (s *sshd) insert(p *pie.Prepatch, pids ...int) *pie.Report {
	s.t.Helper()
	r, err := pie.Insert(s.t.Context(), p, pie.Pids(pids...), pie.Options{Mode: pie.ModeEnforce})
	if err != nil || r.Guarded() != len(pids) {
		s.t.Fatalf("%+v, %v", r, err)
	}
	return r
}

func (s *sshd) command(ctx context.Context, user, command string) *exec.Cmd {
	return exec.CommandContext(ctx, "ssh", "-F", "/dev/null", "-i", filepath.Join(s.dir, "user"), "-p", s.port, "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", user+"@127.0.0.1", command)
}

// wants has a user log in, and be let in or not. Who is let in gets his shell: root's
// answers, daemon's says that there is none for him.
func (s *sshd) wants(user string, rejected bool) {
	s.t.Helper()
	out, err := s.command(s.t.Context(), user, "echo hello").CombinedOutput()
	const denied = 255 // ssh(1): an error of its own
	var exit *exec.ExitError
	switch {
	case rejected && (!errors.As(err, &exit) || exit.ExitCode() != denied || !bytes.Contains(out, []byte("Permission denied"))):
		s.t.Errorf("%s is not turned away: %v\n%s", user, err, out)
	case !rejected && user == "root" && (err != nil || string(out) != "hello\n"):
		s.t.Errorf("%s is not let in: %v\n%s", user, err, out)
	case !rejected && user != "root" && (!errors.As(err, &exit) || exit.ExitCode() == denied):
		s.t.Errorf("%s is not let in: %v\n%s", user, err, out)
	}
}
