package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// module is the last release before the fix (v2.0.2).
const module = "github.com/nats-io/nats-server/v2@v2.0.0"

// Build returns the path of nats-server v2.0.0, built by the go command from
// the module proxy unless dir has it already.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "nats-server")
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		return path, nil
	}
	gobin, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("building nats-server: no go command in PATH; install Go 1.26 or newer from https://go.dev/dl: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a place for nats-server: %w", err)
	}
	cmd := exec.CommandContext(ctx, gobin, "install", module)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOWORK=off")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s (it needs the Go module proxy): %w\n%s", module, err, tail(out, 600))
	}
	return path, nil
}

func tail(b []byte, n int) []byte {
	b = bytes.TrimSpace(b)
	return b[max(0, len(b)-n):]
}

// A Server is one nats-server on a loopback port of its own choosing.
type Server struct {
	Pid  int
	Addr string

	cmd    *exec.Cmd
	exited chan struct{}
	log    *logTail
}

// startTimeout bounds how long a server may take to listen.
const startTimeout = 15 * time.Second

// Start runs the binary and waits until it listens. The server dies with pie:
// it is killed when the thread that started it ends, and that thread does
// nothing but wait for it.
func Start(ctx context.Context, binary string) (*Server, error) {
	s := &Server{exited: make(chan struct{}), log: newLogTail()}
	s.cmd = exec.Command(binary, "-a", "127.0.0.1", "-p", "-1")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.reap()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	s.Pid = s.cmd.Process.Pid
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case s.Addr = <-s.log.listening:
		return s, nil
	case <-s.exited:
		return nil, fmt.Errorf("%s ended at once:\n%s", binary, s.log.String())
	case <-ctx.Done():
		s.Stop()
		return nil, fmt.Errorf("waiting for %s to listen: %w", binary, ctx.Err())
	}
}

// reap waits for the server's end. While pie traces its own child, any wait(2)
// for it returns its ptrace stops, which are the tracer's: so the pidfd tells
// when it has ended (pidfd_open(2)), and only then it is waited for.
func (s *Server) reap() {
	defer close(s.exited)
	fd, err := unix.PidfdOpen(s.cmd.Process.Pid, 0)
	if err == nil {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(poll, -1)
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		unix.Close(fd)
	}
	s.cmd.Wait()
}

// Alive reports whether the server still runs.
func (s *Server) Alive() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Crash waits until the server is dead and returns its last words.
func (s *Server) Crash(ctx context.Context) (string, error) {
	select {
	case <-s.exited:
	case <-time.After(replyTimeout):
		return "", errors.New("the server survived")
	case <-ctx.Done():
		return "", ctx.Err()
	}
	for _, line := range strings.Split(s.log.String(), "\n") {
		if strings.HasPrefix(line, "panic:") {
			return line, nil
		}
	}
	return s.cmd.ProcessState.String(), nil
}

// Stop ends the server and waits for it.
func (s *Server) Stop() {
	s.cmd.Process.Kill()
	<-s.exited
}

// logTail keeps the end of a server's log and tells once where it listens.
type logTail struct {
	listening chan string

	mu  sync.Mutex
	buf bytes.Buffer
	hit bool
}

const logLimit = 64 << 10

var listenLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`Listening for client connections on (127\.0\.0\.1:\d+)`)
})

func newLogTail() *logTail { return &logTail{listening: make(chan string, 1)} }

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() < logLimit {
		l.buf.Write(p)
	}
	if !l.hit {
		if m := listenLine().FindSubmatch(l.buf.Bytes()); m != nil {
			l.hit = true
			l.listening <- string(m[1])
		}
	}
	return len(p), nil
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
