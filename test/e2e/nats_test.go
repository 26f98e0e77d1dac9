package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

func TestNatsPublishSize(t *testing.T) { runScenario(t, natsScenario("nats-server")) }

func TestNatsPublishSizeWithoutSymbols(t *testing.T) {
	runScenario(t, natsScenario("stripped/nats-server"))
}

func natsScenario(binary string) scenario {
	return scenario{
		start: func(t *testing.T) *server {
			port := freePort(t)
			return startServer(t, port, exec.Command(filepath.Join(installed(t, "nats"), binary), "-a", "127.0.0.1", "-p", strconv.Itoa(port)))
		},
		dial:    dialNats,
		threats: []threat{{prepatch: "CVE-2019-13126", attack: attackNats}},
	}
}

// attackNats publishes a size of 2^62, which is 0 once it is cut to 32 bits. The
// guarded server closes the connection of the client that sent it.
func attackNats(addr string) error {
	c, err := newNatsClient(addr, "attacker")
	if err != nil {
		return err
	}
	defer c.Close()
	deadline(c)
	if _, err := io.WriteString(c, "PUB a 4611686018427387904\r\nxx"); err != nil {
		return err
	}
	io.Copy(io.Discard, c.r)
	return nil
}

// A natsClient publishes to a subject of its own and reads every message back.
type natsClient struct {
	net.Conn
	r       *bufio.Reader
	subject string
	n       int
}

func dialNats(addr string, i int) (client, error) {
	return newNatsClient(addr, fmt.Sprintf("load.%d", i))
}

func newNatsClient(addr, subject string) (*natsClient, error) {
	conn, err := connect(addr)
	if err != nil {
		return nil, err
	}
	c := &natsClient{Conn: conn, r: bufio.NewReader(conn), subject: subject}
	deadline(c)
	if _, err := c.r.ReadString('\n'); err != nil { // INFO {...}
		return nil, err
	}
	fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB %s 1\r\nPING\r\n", subject)
	if err := expect(c.r, "PONG\r\n"); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// request publishes without and with a reply subject and reads both back.
func (c *natsClient) request() error {
	deadline(c)
	c.n++
	body := fmt.Sprintf("message %d", c.n)
	if _, err := fmt.Fprintf(c, "PUB %s %d\r\n%s\r\nPUB %s reply.to  0\r\n\r\n", c.subject, len(body), body, c.subject); err != nil {
		return err
	}
	return expect(c.r, fmt.Sprintf("MSG %s 1 %d\r\n%s\r\nMSG %s 1 reply.to 0\r\n\r\n", c.subject, len(body), body, c.subject))
}
