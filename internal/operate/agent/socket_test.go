package agent

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The socket answers root; nonsense gets an error and changes nothing.
func TestSocket(t *testing.T) {
	w := newWorld(t, theRule, true)
	path := filepath.Join(w.dir, "sock")
	if _, err := Listen(path, ""); err == nil {
		t.Error("two agents listen at one socket")
	}
	for _, text := range []string{"\n\n\n\n", "GET / HTTP/1.1\r\n\r\n", "POST /v1/suspend?id=%zz HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("A", 100<<10),
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "POST /v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n",
		"POST /v1/suspend?id=TEST-AGENT&id=OTHER HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v1/suspend?id=TEST-AGENT&for=1h HTTP/1.1\r\nHost: x\r\n\r\n"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		_, _ = io.WriteString(c, text)
		_ = c.(*net.UnixConn).CloseWrite()
		answer, _ := io.ReadAll(c)
		if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%.40q: %.80s", text, answer)
		}
		c.Close()
	}
	h := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return net.Dial("unix", path) }}}
	resp, err := h.Get("http://agent/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	for _, name := range []string{"pie_policy_ok 1", "pie_holding 0", "pie_pause_seconds_count"} {
		if !strings.Contains(string(body), name) {
			t.Errorf("no %s in the metrics", name)
		}
	}
	for _, ask := range []struct{ method, path string }{{http.MethodGet, "/v1/nonsense"}, {http.MethodDelete, "/v1/status"}, {http.MethodGet, "/v1/reload"}, {http.MethodGet, "/"}} {
		req, err := http.NewRequest(ask.method, "http://agent"+ask.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var said failure
		if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(said.Error, ask.method+" "+ask.path+" is not answered") {
			t.Errorf("%v: %d, %+v, %v", ask, resp.StatusCode, said, err)
		}
		resp.Body.Close()
	}
	cmd := exec.Command("python3", "-c", "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'GET /v1/health HTTP/1.0\\r\\n\\r\\n'); sys.exit(len(s.recv(100)) > 0)", path)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Run(); cmd.ProcessState.ExitCode() == 1 && err != nil {
		t.Error("another user was answered, though the file let it connect")
	}
}
