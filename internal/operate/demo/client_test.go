package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// fakeServer answers the handshake, then hands each PUB to reply.
func fakeServer(t *testing.T, reply func(w io.Writer, subject string, n int, body string)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, reply)
		}
	}()
	return l.Addr().String()
}

func serve(c net.Conn, reply func(w io.Writer, subject string, n int, body string)) {
	defer c.Close()
	in := bufio.NewReader(c)
	fmt.Fprintf(c, "INFO {}\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		var subject string
		var n int
		if line == "PING\r\n" {
			fmt.Fprintf(c, "PONG\r\n")
		} else if _, err := fmt.Sscanf(line, "PUB %s %d", &subject, &n); err == nil {
			body := make([]byte, n+2)
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			reply(c, subject, n, string(body))
		}
	}
}

// The demo's claim rests on its load: it must notice one wrong byte, one lost
// message and a stall.
func TestLoadNotices(t *testing.T) {
	good := func(w io.Writer, subject string, n int, body string) {
		fmt.Fprintf(w, "MSG %s 1 %d\r\n%s", subject, n, body)
	}
	seen := 0
	for _, tt := range []struct {
		name   string
		reply  func(w io.Writer, subject string, n int, body string)
		failed bool
		stall  time.Duration
	}{
		{"nothing when all is well", good, false, 0},
		{"one wrong byte", func(w io.Writer, subject string, n int, body string) {
			good(w, subject, n, strings.Replace(body, "message 3", "message 4", 1))
		}, true, 0},
		{"one lost message", func(w io.Writer, subject string, n int, body string) {
			if !strings.Contains(body, "message 3 ") {
				good(w, subject, n, body)
			} else {
				good(w, subject, n, strings.Replace(body, "message 3", "message 2", 1))
			}
		}, true, 0},
		{"a stall of 20 ms", func(w io.Writer, subject string, n int, body string) {
			if seen++; seen == 5 {
				time.Sleep(20 * time.Millisecond)
			}
			good(w, subject, n, body)
		}, false, 20 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := StartLoad(context.Background(), fakeServer(t, tt.reply), 1)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			s := l.Stop()
			if (len(s.Failed) > 0) != tt.failed {
				t.Errorf("failures: %v, want any: %v", s.Failed, tt.failed)
			}
			if s.Longest < tt.stall {
				t.Errorf("longest wait %s, want at least %s", s.Longest, tt.stall)
			}
			if !tt.failed && s.Checked < 5 {
				t.Errorf("only %d messages checked", s.Checked)
			}
		})
	}
}
