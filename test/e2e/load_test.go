package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// replyDeadline is how long a client waits before it calls a reply lost.
const replyDeadline = 5 * time.Second

// A client runs one request of the normal workload at a time and checks the
// content of what comes back.
type client interface {
	request() error
	Close() error
}

// A queuer is a client whose server serves one at a time: its request begins
// when its turn comes.
type queuer interface{ began() time.Time }

// dial makes client number i of a load, connected to addr.
type dial func(addr string, i int) (client, error)

// A load is a set of clients that never pause.
type load struct {
	stop    chan struct{}
	stopped sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures []error
	slowest  time.Duration
}

// startLoad connects n clients to addr and keeps them busy until finish.
func startLoad(t *testing.T, n int, addr func(i int) string, dial dial) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for i := range n {
		c, err := dial(addr(i), i)
		if err != nil {
			t.Fatalf("client %d to %s: %v", i, addr(i), err)
		}
		l.stopped.Go(func() { l.run(c, func() (client, error) { return dial(addr(i), i) }) })
	}
	t.Cleanup(func() { l.finish() })
	return l
}

func (l *load) run(c client, again func() (client, error)) {
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		start := time.Now()
		err := errors.New("not connected")
		if c != nil {
			err = c.request()
		}
		if q, ok := c.(queuer); ok && err == nil {
			start = q.began()
		}
		l.record(time.Since(start), err)
		if err != nil {
			if c != nil {
				c.Close()
			}
			time.Sleep(50 * time.Millisecond)
			c, _ = again()
		}
	}
}

func (l *load) record(took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.failures = append(l.failures, err)
	}
	l.slowest = max(l.slowest, took)
}

// snapshot is what the load saw since it began.
type snapshot struct {
	requests int
	failures []error
	slowest  time.Duration
}

func (l *load) snapshot() snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return snapshot{l.requests, append([]error(nil), l.failures...), l.slowest}
}

// resetSlowest forgets the slowest reply, so that the next snapshot speaks of one phase.
func (l *load) resetSlowest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = 0
}

func (l *load) finish() snapshot {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.stopped.Wait()
	return l.snapshot()
}

// waitRequests waits until the load has finished n more requests.
func (l *load) waitRequests(t *testing.T, n int) {
	t.Helper()
	from := l.snapshot().requests
	for end := time.Now().Add(30 * time.Second); l.snapshot().requests < from+n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the load made %d of %d requests in 30 s", l.snapshot().requests-from, n)
		}
	}
}

// proveLoadNotices shows that this workload, run through a proxy, records one
// reply that is held back for 20 ms and one that never comes.
func proveLoadNotices(t *testing.T, addr string, dial dial) {
	t.Helper()
	p := startProxy(t, addr)
	c, err := dial(p.addr(), 0)
	if err != nil {
		t.Fatalf("client through the proxy: %v", err)
	}
	defer c.Close()
	l := &load{}
	measured := func() {
		start := time.Now()
		err := c.request()
		l.record(time.Since(start), err)
	}
	measured()
	if s := l.snapshot(); len(s.failures) != 0 {
		t.Fatalf("a request through the proxy: %v", s.failures[0])
	}
	l.resetSlowest()
	p.hold.Store(int64(20 * time.Millisecond))
	measured()
	if s := l.snapshot(); s.slowest < 20*time.Millisecond || len(s.failures) != 0 {
		t.Fatalf("a reply 20 ms late went unnoticed: slowest %v, failures %v", s.slowest, s.failures)
	}
	p.lose.Store(true)
	measured()
	if s := l.snapshot(); len(s.failures) != 1 {
		t.Fatalf("a lost reply went unnoticed: failures %v", s.failures)
	}
}

// A proxy passes bytes on; on demand it holds the next reply back once, or
// swallows every one from now on.
type proxy struct {
	listener net.Listener
	hold     atomic.Int64
	lose     atomic.Bool
}

func startProxy(t *testing.T, upstream string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: ln}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				down.Close()
				continue
			}
			go func() { io.Copy(up, down); closeWrite(up) }()
			go p.replies(down, up)
		}
	}()
	return p
}

func closeWrite(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) replies(down, up net.Conn) {
	defer down.Close()
	defer up.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		if n > 0 && !p.lose.Load() {
			time.Sleep(time.Duration(p.hold.Swap(0)))
			if _, err := down.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// expect reads len(want) bytes and compares them.
func expect(r io.Reader, want string) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("reading %q, got %q: %w", want, got[:n], err)
	}
	if string(got) != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// connect dials addr; every read and write of one request is under replyDeadline.
func connect(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, replyDeadline)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func deadline(c net.Conn) { c.SetDeadline(time.Now().Add(replyDeadline)) }
