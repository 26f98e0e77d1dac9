package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestNginxSampleTable(t *testing.T) { runScenario(t, nginxScenario) }

var nginxScenario = scenario{
	start:        startNginx,
	dial:         dialNginx,
	guardedLater: reloadNginx,
	threats: []threat{{
		prepatch: "CVE-2024-7347",
		attack: func(addr string) error {
			c := &nginxClient{addr: addr}
			defer c.Close()
			status, _, err := c.get("/bad.mp4?end=6")
			if err == nil && status != http.StatusInternalServerError {
				err = fmt.Errorf("the malformed file was answered with %d, want 500", status)
			}
			return err
		},
		// The attack kills a worker, which the master replaces; the master lives.
		died: func(s *server, before []int) bool {
			return !slices.Equal(s.family(), before)
		},
	}},
}

// reloadNginx makes the master start new workers, which must be guarded too.
func reloadNginx(t *testing.T, s *server) {
	before := s.family()
	if err := syscall.Kill(s.pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		now := s.family()
		kept := 0
		for _, pid := range now {
			if pid != s.pid() && slices.Contains(before, pid) {
				kept++
			}
		}
		if kept == 0 && len(now) == len(before) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nginx kept its workers %v, now %v", before, now)
		}
	}
}

func startNginx(t *testing.T) *server {
	return startNginxBinary(t, filepath.Join(installed(t, "nginx"), "sbin/nginx"))
}

func startNginxBinary(t *testing.T, binary string) *server {
	port, dir := freePort(t), t.TempDir()
	for name, content := range map[string][]byte{
		"html/index.html": []byte("hi\n"),
		"html/good.mp4":   movie([][3]uint32{{1, 2, 1}}),
		// Two chunks of 0x80000003 samples: the 32-bit product wraps to 6.
		"html/bad.mp4": movie([][3]uint32{{1, 0x80000003, 1}, {3, 2, 1}}),
		"nginx.conf": fmt.Appendf(nil, `daemon off; worker_processes 2; user root; pid %[1]s/pid; error_log %[1]s/error.log notice;
events { worker_connections 256; }
http { client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
access_log off; server { listen 127.0.0.1:%[2]d; root %[1]s/html; keepalive_requests 100000000; location / {} location ~ \.mp4$ { mp4; } } }
`, dir, port),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, port, exec.Command(binary, "-p", dir, "-c", filepath.Join(dir, "nginx.conf")))
	for len(s.family()) < 3 {
		time.Sleep(10 * time.Millisecond)
	}
	return s
}

// An nginxClient keeps one connection alive and fetches the same pages in turn;
// each must come as it did the first time.
type nginxClient struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
	seen map[string][]byte
}

func dialNginx(addr string, i int) (client, error) {
	c := &nginxClient{addr: addr, seen: map[string][]byte{}}
	return c, c.request()
}

func (c *nginxClient) Close() error {
	if c.conn == nil {
		return nil
	}
	defer func() { c.conn = nil }()
	return c.conn.Close()
}

func (c *nginxClient) request() error {
	for _, page := range []string{"/index.html", "/good.mp4", "/good.mp4?start=3", "/good.mp4?end=6", "/good.mp4?start=3&end=9", "/bad.mp4"} {
		status, body, err := c.get(page)
		if err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
		if status != http.StatusOK || len(body) == 0 {
			return fmt.Errorf("%s answered %d with %d bytes", page, status, len(body))
		}
		if first, ok := c.seen[page]; ok && !bytes.Equal(first, body) {
			return fmt.Errorf("%s: %d bytes that differ from the %d of the first time", page, len(body), len(first))
		}
		c.seen[page] = body
	}
	return nil
}

// get fetches one page. A worker that is told to stop ends idle keep-alive
// connections: no reply was begun then, and the request is made again, as
// every HTTP client does.
func (c *nginxClient) get(page string) (int, []byte, error) {
	idle := c.conn != nil
	status, body, begun, err := c.try(page)
	if err != nil && idle && !begun {
		c.Close()
		status, body, _, err = c.try(page)
	}
	return status, body, err
}

func (c *nginxClient) try(page string) (status int, body []byte, begun bool, err error) {
	if c.conn == nil {
		if c.conn, err = connect(c.addr); err != nil {
			c.conn = nil
			return 0, nil, false, err
		}
		c.r = bufio.NewReader(c.conn)
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	deadline(c.conn)
	if _, err = fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", page); err != nil {
		return 0, nil, false, err
	}
	if _, err = c.r.Peek(1); err != nil {
		timeout, ok := err.(net.Error)
		return 0, nil, ok && timeout.Timeout(), err
	}
	reply, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, nil, true, err
	}
	defer reply.Body.Close()
	body, err = io.ReadAll(reply.Body)
	if err == nil && reply.Close {
		c.Close()
	}
	return reply.StatusCode, body, true, err
}

// movie is the smallest mp4 file nginx seeks in (ISO/IEC 14496-12): one video
// track of 20 samples in 10 chunks, with the given sample-to-chunk table.
func movie(sampleToChunk [][3]uint32) []byte {
	const samples, chunks = 20, 10
	table := be32(uint32(len(sampleToChunk)))
	for _, e := range sampleToChunk {
		table = append(table, be32(e[:]...)...)
	}
	offsets := be32(chunks)
	for i := range uint32(chunks) {
		offsets = append(offsets, be32(2000+200*i)...)
	}
	sizes := be32(0, samples)
	for range samples {
		sizes = append(sizes, be32(100)...)
	}
	sampleTable := box("stbl",
		fullBox("stsd", be32(1), box("mp4v", make([]byte, 78))),
		fullBox("stts", be32(1, samples, 1000)),
		fullBox("stsc", table),
		fullBox("stsz", sizes),
		fullBox("stco", offsets))
	media := box("mdia",
		fullBox("mdhd", be32(0, 0, 1000, samples*1000, 0)),
		fullBox("hdlr", make([]byte, 4), []byte("vide"), make([]byte, 13)),
		box("minf",
			fullBox("vmhd", make([]byte, 8)),
			box("dinf", fullBox("dref", be32(1), box("url ", be32(1)))),
			sampleTable))
	return slices.Concat(
		box("ftyp", []byte("isom\x00\x00\x00\x00isom")),
		box("moov",
			fullBox("mvhd", be32(0, 0, 1000, samples*1000), make([]byte, 80)),
			box("trak", fullBox("tkhd", be32(0, 0, 1, 0, samples*1000), make([]byte, 60)), media)),
		box("mdat", make([]byte, 8000)))
}

func be32(words ...uint32) []byte {
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func box(kind string, content ...[]byte) []byte {
	body := slices.Concat(content...)
	return slices.Concat(be32(uint32(8+len(body))), []byte(kind), body)
}

// fullBox is a box that starts with a version and flags, all zero.
func fullBox(kind string, content ...[]byte) []byte {
	return box(kind, append([][]byte{be32(0)}, content...)...)
}
