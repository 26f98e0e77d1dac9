package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// TestDebuginfod guards a stripped nginx whose symbols only Debian's debuginfod
// server has. Without the operator's word no server is asked.
func TestDebuginfod(t *testing.T) {
	original := filepath.Join(installed(t, "nginx"), "sbin/nginx")
	symbols := filepath.Join(t.TempDir(), "symbols")
	if err := os.Mkdir(symbols, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "", "objcopy", "--only-keep-debug", original, filepath.Join(symbols, "nginx.debug"))
	guard := withoutFingerprints(t, "nginx/cve-2024-7347")
	s := startNginxBinary(t, strip(t, original))
	pid := fmt.Sprint(s.pid())

	if code := pieRefused(t, "insert", guard, "--pid", pid); code != pie.CodeNotFound {
		t.Fatalf("without a server: %s, want %s", code, pie.CodeNotFound)
	}
	url := startDebuginfod(t, symbols)
	out, err := exec.Command(piePath, "plan", guard, "--pid", pid, "--debuginfod", url, "--json").Output()
	if err != nil || !strings.Contains(string(out), "debuginfod "+url) {
		t.Fatalf("pie plan does not tell where the name is from: %v\n%s", err, out)
	}
	pieRun(t, piePath, nil, "insert", guard, "--pid", pid, "--debuginfod", url)
	attackNginx(t, s)
	pieRun(t, piePath, nil, "remove", "CVE-2024-7347", "--pid", pid)
}

// withoutFingerprints copies a prepatch of the catalogue, without what finds its
// function where it has no name.
func withoutFingerprints(t *testing.T, folder string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../prepatches", folder, "guard.go"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if before, after, ok := strings.Cut(line, " fingerprint="); ok {
			_, rest, _ := strings.Cut(after, " ")
			line = before + " " + rest
		}
		lines = append(lines, line)
	}
	out := filepath.Join(t.TempDir(), "guard.go")
	if err := os.WriteFile(out, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	return out
}

// startDebuginfod serves the debug files of a folder and returns its address.
func startDebuginfod(t *testing.T, folder string) string {
	t.Helper()
	dir := installed(t, "debuginfod")
	port := freePort(t)
	cmd := exec.Command(filepath.Join(dir, "usr/bin/debuginfod"), "-F", "-d", ":memory:", "-p", fmt.Sprint(port), folder)
	lib := "x86_64-linux-gnu"
	cmd.Env = []string{"LD_LIBRARY_PATH=" + filepath.Join(dir, "usr/lib", lib) + ":" + filepath.Join(dir, "lib", lib), "HOME=" + t.TempDir()}
	s := startServer(t, port, cmd)
	url := "http://" + s.addr
	for end := time.Now().Add(20 * time.Second); !hasScanned(t, url); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("debuginfod did not read %s\n%s", folder, s.out.String())
		}
	}
	return url
}

// hasScanned asks the server's own figures whether it has read the folder.
func hasScanned(t *testing.T, url string) bool {
	t.Helper()
	r, err := http.Get(url + "/metrics")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), "\nready 1\n") && strings.Contains(string(b), "scanned_files_total")
}
