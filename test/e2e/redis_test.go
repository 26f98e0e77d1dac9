package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRedis(t *testing.T) { runScenario(t, redisScenario) }

var redisScenario = scenario{
	start: startRedis,
	dial:  dialRedis,
	threats: []threat{
		{prepatch: "CVE-2024-31228", attack: attackRedis(manyStars)},
		{prepatch: "CVE-2024-31227", attack: attackRedis(emptySelector)},
		{prepatch: "CVE-2024-31449", attack: attackRedis(digitsWithoutOpposite)},
		{prepatch: "CVE-2026-25243", attack: attackRedis(hugeString)},
	},
}

// manyStars makes KEYS match a pattern against a long key: the recursion is deep.
func manyStars(c *redisClient) error {
	if _, err := c.do("SET", strings.Repeat("a", 200000), "1"); err != nil {
		return err
	}
	_, err := c.do("KEYS", strings.Repeat("*?", 200000))
	return err
}

func emptySelector(c *redisClient) error {
	reply, err := c.do("ACL", "SETUSER", "mallory", "%~")
	if err != nil {
		return err
	}
	if _, err := c.do("ACL", "LIST"); err != nil {
		return err
	}
	if !strings.HasPrefix(reply, "-ERR") {
		return fmt.Errorf("the malformed selector was accepted: %q", reply)
	}
	return nil
}

func digitsWithoutOpposite(c *redisClient) error {
	reply, err := c.do("EVAL", "return bit.tohex(65535, -2147483648)", "0")
	if err == nil && reply != "(nil)" {
		err = fmt.Errorf("the script saw %q", reply)
	}
	return err
}

// hugeString restores a string that says it has 2^64-9 bytes, and no more.
func hugeString(c *redisClient) error {
	reply, err := c.do("RESTORE", "mallory", "0", dumped("\x00\x81\xff\xff\xff\xff\xff\xff\xff\xf7"))
	if err == nil && !strings.Contains(reply, "Bad data format") {
		err = fmt.Errorf("the payload was answered %q", reply)
	}
	return err
}

// dumped is a serialized value as RESTORE takes it: the value, the version of
// the format, and a checksum (CRC-64/Jones, reflected, without complements).
func dumped(value string) string {
	b := append([]byte(value), 10, 0)
	var crc uint64
	for _, c := range b {
		crc ^= uint64(c)
		for range 8 {
			crc = crc>>1 ^ crc&1*0x95ac9329ac4bc9b5
		}
	}
	return string(binary.LittleEndian.AppendUint64(b, crc))
}

func startRedis(t *testing.T) *server {
	return startRedisBinary(t, filepath.Join(installed(t, "redis"), "redis-server"))
}

func startRedisBinary(t *testing.T, binary string) *server {
	port := freePort(t)
	// The recursion overflows the usual 8 MiB stack; a larger limit would hide the hole.
	return startServer(t, port, exec.Command("sh", "-c", `ulimit -S -s 8192; exec "$@"`, "sh",
		binary, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()))
}

func attackRedis(run func(*redisClient) error) func(addr string) error {
	return func(addr string) error {
		c, err := newRedisClient(addr)
		if err != nil {
			return err
		}
		defer c.Close()
		return run(c)
	}
}

// A redisClient speaks RESP, the protocol of Redis.
type redisClient struct {
	net.Conn
	r    *bufio.Reader
	name string
	n    int
}

func newRedisClient(addr string) (*redisClient, error) {
	conn, err := connect(addr)
	if err != nil {
		return nil, err
	}
	return &redisClient{Conn: conn, r: bufio.NewReader(conn)}, nil
}

func dialRedis(addr string, i int) (client, error) {
	c, err := newRedisClient(addr)
	if err != nil {
		return nil, err
	}
	c.name = fmt.Sprintf("client-%d", i)
	return c, nil
}

// request exercises the guarded functions with input that is fine: a pattern of
// KEYS and CONFIG GET, a selector of ACL SETUSER, a number of digits, a
// serialized string; and plain keys.
func (c *redisClient) request() error {
	c.n++
	value := fmt.Sprintf("%s-%d", c.name, c.n)
	for _, step := range []struct {
		want    string
		command []string
	}{
		{"+OK", []string{"SET", c.name, value}},
		{value, []string{"GET", c.name}},
		{"[" + c.name + "]", []string{"KEYS", c.name[:len(c.name)-2] + "*" + c.name[len(c.name)-2:]}},
		{"[maxmemory 0]", []string{"CONFIG", "GET", "maxmemor[y]"}},
		{"+OK", []string{"ACL", "SETUSER", c.name, "%R~" + value}},
		{fmt.Sprintf("%08x", c.n), []string{"EVAL", "return bit.tohex(ARGV[1], 8)", "0", strconv.Itoa(c.n)}},
		{"+OK", []string{"RESTORE", c.name, "0", dumped("\x00\x05hello"), "REPLACE"}},
		{"hello", []string{"GET", c.name}},
	} {
		got, err := c.do(step.command...)
		if err != nil {
			return fmt.Errorf("%v: %w", step.command, err)
		}
		if got != step.want {
			return fmt.Errorf("%v answered %q, want %q", step.command, got, step.want)
		}
	}
	return nil
}

// do sends one command and returns its reply: +status and -error lines as they
// are, strings bare, arrays as [a b].
func (c *redisClient) do(args ...string) (string, error) {
	c.SetDeadline(time.Now().Add(replyDeadline))
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return "", err
	}
	return c.reply()
}

func (c *redisClient) reply() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", fmt.Errorf("empty reply line")
	}
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$':
		if n < 0 {
			return "(nil)", nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return string(b[:n]), err
	case '*':
		items := make([]string, max(n, 0))
		for i := range items {
			if items[i], err = c.reply(); err != nil {
				return "", err
			}
		}
		return "[" + strings.Join(items, " ") + "]", nil
	}
	return line, nil
}
