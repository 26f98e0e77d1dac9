package e2e

import (
	"fmt"
	"io"
	"net"
	"sync"
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

// startLoadAnyhow is startLoad on a server that may be dead already: a client that
// cannot connect is a failure of the load's, not the end of the test.
func startLoadAnyhow(t *testing.T, n int, addr string, dial dial) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for i := range n {
		l.stopped.Go(func() { l.run(nil, func() (client, error) { return dial(addr, i) }) })
	}
	t.Cleanup(func() { l.finish() })
	return l
}

func (l *load) run(c client, connect func() (client, error)) {
	for {
		select {
		case <-l.stop:
			if c != nil {
				c.Close()
			}
			return
		default:
		}
		start, err := time.Now(), error(nil)
		if c == nil {
			if c, err = connect(); err != nil {
				c = nil // which a failed dial need not leave it
			}
		}
		if err == nil {
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
			c = nil
			time.Sleep(50 * time.Millisecond)
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

// proveLoadNotices shows that a workload, run through a proxy, records one reply
// that is held back for 20 ms and one that never comes.
func proveLoadNotices(p *proxy, dial dial) error {
	c, err := dial(p.addr(), 0)
	if err != nil {
		return fmt.Errorf("client through the proxy: %w", err)
	}
	defer c.Close()
	l := &load{}
	measured := func() snapshot {
		start := time.Now()
		err := c.request()
		l.record(time.Since(start), err)
		return l.snapshot()
	}
	if s := measured(); len(s.failures) != 0 {
		return fmt.Errorf("a request through the proxy: %w", s.failures[0])
	}
	l.resetSlowest()
	p.hold.Store(int64(20 * time.Millisecond))
	s := measured()
	p.hold.Store(0)
	if s.slowest < 20*time.Millisecond || len(s.failures) != 0 {
		return fmt.Errorf("a reply 20 ms late went unnoticed: slowest %v, failures %v", s.slowest, s.failures)
	}
	p.lose.Store(true)
	if s := measured(); len(s.failures) != 1 {
		return fmt.Errorf("a lost reply went unnoticed: failures %v", s.failures)
	}
	return nil
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
