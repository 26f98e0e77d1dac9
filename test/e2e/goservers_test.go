package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Programs of ours on vulnerable versions of Go packages: testdata/servers.

func TestGoSSH(t *testing.T) { runScenario(t, sshdScenario) }

var sshdScenario = scenario{
	start:   startGoServer("sshd", "serve"),
	dial:    dialCompanion("sshd", "load"),
	threats: []threat{{prepatch: "CVE-2020-9283", attack: attackByCompanion("sshd", "attack", "short-key")}},
}

func TestGoDTLS(t *testing.T) { runScenario(t, dtlsScenario) }

var dtlsScenario = scenario{
	start:   startGoServer("dtls", "serve"),
	dial:    dialCompanion("dtls", "load"),
	threats: []threat{{prepatch: "CVE-2022-29190", attack: attackByCompanion("dtls", "attack")}},
}

func TestGoCodec(t *testing.T) { runScenario(t, codecScenario) }

var codecScenario = scenario{
	start: startGoServer("codec"),
	dial:  dialCodec,
	threats: []threat{
		{prepatch: "CVE-2023-24535", attack: attackCodec("text", "syntax: - ", "error")},
		{prepatch: "CVE-2022-28948", attack: attackCodec("yaml", "0: [:!00 \xef", "error")},
		{prepatch: "CVE-2018-17848", attack: attackCodec("html", "<math><template><mn><b></template>", "ok")},
		{prepatch: "CVE-2024-24786", attack: attackCodec("json", `{"a":{"b":{"c":},"d":}}`, "error"), died: spins},
		{prepatch: "CVE-2022-32149", attack: attackCodec("accept-language", strings.Repeat("-", 1<<20), "error"), died: spins},
		{prepatch: "CVE-2023-50658", attack: attackCodec("jwe", hungryToken, "error"), died: spins},
	},
}

// hungryToken asks for 2,000,000,000 rounds of hashing.
var hungryToken = base64.RawURLEncoding.EncodeToString(
	[]byte(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2000000000,"p2s":"RAl_tA9XxqyDr8Eb"}`)) +
	".nYFpnmiGhdj5Ca6ex_lD8aOh5K-Gv2PR.9Lb9pOHJIKRG9VmA.6pY4AJE.2iq2R86AQLfDe0K0N2j7dw"

func startGoServer(name string, args ...string) func(*testing.T) *server {
	return func(t *testing.T) *server {
		port := freePort(t)
		binary := filepath.Join(installed(t, name), name)
		return startServer(t, port, exec.Command(binary, append(args, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))...))
	}
}

// spins reports whether a server that has nothing to do is at work.
func spins(s *server, _ []int) bool {
	const wait = 400 * time.Millisecond
	before := cpuTicks(s.pid())
	time.Sleep(wait)
	return cpuTicks(s.pid())-before >= int(wait/(20*time.Millisecond)) // half of the time, in ticks of 10 ms
}

// cpuTicks is the processor time of a process in user mode (proc_pid_stat(5)).
func cpuTicks(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, fields, _ := strings.Cut(string(b), ") ")
	const utime = 11 // field 14, counted from the state
	if f := strings.Fields(fields); len(f) > utime {
		n, _ := strconv.Atoi(f[utime])
		return n
	}
	return 0
}

// A companion is a client process that makes a request for each line on its
// stdin and answers it with "ok" or what went wrong.
type companion struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	n   int
}

// startCompanion runs a server's binary as a client of addr.
func startCompanion(name, addr string, args ...string) (*companion, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	cache := os.Getenv("PIE_TEST_CACHE")
	if cache == "" {
		cache = filepath.Join(dir, "pie-test")
	}
	c := &companion{cmd: exec.Command(filepath.Join(cache, "servers", name, name), append(args, addr)...)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

func (c *companion) request() error {
	c.n++
	if _, err := fmt.Fprintf(c.in, "request %d\n", c.n); err != nil {
		return err
	}
	answer, err := c.out.ReadString('\n')
	if err == nil && answer != "ok\n" {
		err = errors.New(strings.TrimSpace(answer))
	}
	return err
}

func (c *companion) Close() error {
	c.in.Close()
	return c.cmd.Wait()
}

func dialCompanion(name string, args ...string) dial {
	return func(addr string, _ int) (client, error) {
		c, err := startCompanion(name, addr, args...)
		if err != nil {
			return nil, err
		}
		return c, c.request()
	}
}

func attackByCompanion(name string, args ...string) func(addr string) error {
	return func(addr string) error {
		c, err := startCompanion(name, addr, args...)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.request()
	}
}

// A codecClient has documents of every kind decoded in turn.
type codecClient struct {
	net.Conn
	r     *bufio.Reader
	n     int
	token string // sealed once, opened each time
}

func dialCodec(addr string, _ int) (client, error) {
	conn, err := connect(addr)
	if err != nil {
		return nil, err
	}
	c := &codecClient{Conn: conn, r: bufio.NewReader(conn)}
	status, token, err := c.decode("seal", "a secret")
	if err == nil && status != "ok" {
		err = errors.New(token)
	}
	c.token = token
	return c, err
}

// decode returns "ok" or "error", and what the server says to it.
func (c *codecClient) decode(kind, document string) (status, text string, err error) {
	deadline(c)
	if _, err := fmt.Fprintf(c, "%s %s\n", kind, base64.StdEncoding.EncodeToString([]byte(document))); err != nil {
		return "", "", err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", "", err
	}
	status, quoted, _ := strings.Cut(strings.TrimSpace(line), " ")
	return status, text, json.Unmarshal([]byte(quoted), &text)
}

func (c *codecClient) request() error {
	c.n++
	for _, step := range []struct{ kind, document, want string }{
		{"accept-language", "en-US;q=0.8,de", "[de en-US]"},
		{"json", fmt.Sprintf(`{"name":"n%d","other":{"a":[{"b":"}"},{}]}}`, c.n), fmt.Sprintf("n%d", c.n)},
		{"text", fmt.Sprintf("name: %q syntax: - # one\n 1", strconv.Itoa(c.n)), fmt.Sprintf("%d-1", c.n)},
		{"html", "<p>a<template>b</template>c", "<html><head></head><body><p>a<template>b</template>c</p></body></html>"},
		{"yaml", fmt.Sprintf("a: [%d, {b: c}] # d\n", c.n), fmt.Sprintf("map[a:[%d map[b:c]]]", c.n)},
		{"jwe", c.token, "a secret"},
	} {
		status, got, err := c.decode(step.kind, step.document)
		if err != nil {
			return fmt.Errorf("%s: %w", step.kind, err)
		}
		if status != "ok" || got != step.want {
			return fmt.Errorf("%s answered %s %q, want %q", step.kind, status, got, step.want)
		}
	}
	return nil
}

func attackCodec(kind, document, want string) func(addr string) error {
	return func(addr string) error {
		conn, err := connect(addr)
		if err != nil {
			return err
		}
		c := &codecClient{Conn: conn, r: bufio.NewReader(conn)}
		defer c.Close()
		status, text, err := c.decode(kind, document)
		if err == nil && status != want {
			err = fmt.Errorf("%s: %s %s, want %s", kind, status, text, want)
		}
		return err
	}
}
