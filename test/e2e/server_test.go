package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cacheDir is where servers.sh puts the servers.
func cacheDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PIE_TEST_CACHE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "pie-test")
	}
	return dir
}

// built are the servers that servers.sh has been asked for.
var built sync.Map // name → struct{}

// installed returns the folder of a server, building it when it is not there yet.
func installed(t *testing.T, server string) string {
	t.Helper()
	dir := filepath.Join(cacheDir(t), "servers", server)
	if _, ok := built.Load(server); ok {
		return dir
	}
	cmd := exec.Command("./servers.sh", server)
	cmd.Env = append(os.Environ(), "PIE_TEST_CACHE="+cacheDir(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("test/e2e/servers.sh %s: %v\n%s", server, err, out)
	}
	built.Store(server, struct{}{})
	return dir
}

// A server is a running process with everything it forks.
type server struct {
	cmd  *exec.Cmd
	addr string
	out  lockedBuffer
	done chan struct{} // closed when the process has ended
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// startServer runs command, whose arguments hold the port it shall listen on,
// and waits until it accepts connections.
func startServer(t *testing.T, port int, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{cmd: cmd, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { cmd.Wait(); close(s.done) }()
	t.Cleanup(s.kill)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			c.Close()
			return s
		}
		if !s.alive() || time.Now().After(end) {
			t.Fatalf("%s does not listen on %s: %v\n%s", cmd.Path, s.addr, err, s.out.String())
		}
	}
}

// kill ends the server and what it forked: its own process group, by id.
func (s *server) kill() {
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
	}
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) alive() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// family is the server's process and its children, sorted.
func (s *server) family() []int {
	pids := []int{s.pid()}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid(), s.pid()))
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// freePort is a port of 127.0.0.1 that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
