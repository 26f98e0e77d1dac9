package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// A program of ours on Debian's own stripped libevent.
func TestLibevent(t *testing.T) { runScenario(t, evhttpScenario) }

var evhttpScenario = scenario{
	start: func(t *testing.T) *server {
		port := freePort(t)
		return startServer(t, port, exec.Command(filepath.Join(installed(t, "evhttp"), "evhttp"), strconv.Itoa(port)))
	},
	dial:    func(addr string, _ int) (client, error) { return &evhttpClient{addr: addr}, nil },
	threats: []threat{{prepatch: "CVE-2026-63388", attack: attackEvhttp}},
}

// An evhttpClient connects anew for each request.
type evhttpClient struct {
	addr string
	n    int
}

func (c *evhttpClient) Close() error { return nil }

func (c *evhttpClient) request() error {
	c.n++
	conn, err := connect(c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	return evhttpGet(conn, fmt.Sprintf("/path/%d", c.n))
}

func evhttpGet(conn net.Conn, path string) error {
	deadline(conn)
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
		return err
	}
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err == nil && (reply.StatusCode != http.StatusOK || string(body) != path+"\n") {
		err = fmt.Errorf("%s answered %d %q", path, reply.StatusCode, body)
	}
	return err
}

var evhttpAttacks atomic.Int64

// attackEvhttp binds its end of a unix socket to a name of 100 bytes. The guarded
// server serves it like any other.
func attackEvhttp(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("@%s-%d-", port, evhttpAttacks.Add(1))
	name += strings.Repeat("x", 100-len(name))
	conn, err := net.DialUnix("unix", &net.UnixAddr{Name: name, Net: "unix"}, &net.UnixAddr{Name: "@evhttp-" + port, Net: "unix"})
	if err != nil {
		return err
	}
	defer conn.Close()
	return evhttpGet(conn, "/attack")
}
