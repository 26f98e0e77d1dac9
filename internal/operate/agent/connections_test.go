package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Connections leave nothing behind, whatever is said on them: not a goroutine, a
// descriptor or a byte of the heap each, though the heap may first grow to what it
// takes. PIE_TEST_LONG makes 10,000 of them.
func TestConnectionsLeaveNothing(t *testing.T) {
	const warm = 400
	count := 1600
	if os.Getenv("PIE_TEST_LONG") != "" {
		count = 10000
	}
	w := layOut(t, "testdata/victim.c")
	w.policy(theRule)
	agent := w.agentProcess()
	in, err := agent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := agent.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer agent.Wait()
	defer in.Close()
	said := bufio.NewScanner(out)
	holds := func() (heap, goroutines int) {
		t.Helper()
		if _, err := io.WriteString(in, "?"); err != nil {
			t.Fatal(err)
		}
		for said.Scan() {
			if _, err := fmt.Sscanf(said.Text(), "HOLDS %d %d", &heap, &goroutines); err == nil {
				return heap, goroutines
			}
		}
		t.Fatal("the agent has ended")
		return 0, 0
	}
	w.client = Dial(filepath.Join(w.dir, "sock"))
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err := w.client.Status(context.Background()); err == nil {
			break
		}
	}
	w.connect(warm)
	heap, goroutines := holds()
	before := footprintOf(t, agent.Process.Pid)
	w.connect(count)
	var heapNow, goroutinesNow int
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if heapNow, goroutinesNow = holds(); goroutinesNow <= goroutines {
			break // those of the last connections may take a moment to end
		}
	}
	after := footprintOf(t, agent.Process.Pid)
	t.Logf("%d connections: heap %d became %d bytes, %d became %d goroutines, %+v became %+v", count, heap, heapNow, goroutines, goroutinesNow, before, after)
	const most = 64 // bytes a connection; a goroutine alone has 2 KiB
	if heapNow > heap+count*most || goroutinesNow > goroutines+2 || after.fds > before.fds+4 || after.threads > before.threads+12 {
		t.Errorf("%d connections leave something behind", count)
	}
}

// connect makes connections of every kind, one after another.
func (w *world) connect(count int) {
	w.t.Helper()
	for i := range count {
		c, err := net.Dial("unix", filepath.Join(w.dir, "sock"))
		if err != nil {
			w.t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		text := []string{
			"GET /v1/status HTTP/1.0\r\n\r\n", "GET /metrics HTTP/1.0\r\n\r\n", "GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"POST /v1/suspend?id=NONE HTTP/1.0\r\n\r\n", "\x00\x01nonsense\r\n\r\n", "GET /v1/sta", "",
		}[i%7]
		_, _ = io.WriteString(c, text)
		if strings.HasSuffix(text, "\r\n\r\n") { // else it hangs up in the midst
			if answer, err := io.ReadAll(c); err != nil || len(answer) == 0 {
				w.t.Fatalf("connection %d, %q: %q, %v", i, text, answer, err)
			}
		}
		c.Close()
	}
}
