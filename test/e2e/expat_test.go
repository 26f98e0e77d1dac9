package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// expatGuard is for processInternalEntity, a static function.
const expatGuard = "testdata/guards/expat"

// TestExpat guards a static function of stripped builds of libexpat, in Debian's
// stripped python3, by a fingerprint made from other builds of the source: by the
// same compiler with other flags, and by the other compiler.
func TestExpat(t *testing.T) {
	builds := installed(t, "expat")
	pf := createFingerprint(t, "processInternalEntity",
		[]string{expatLibrary(builds, "hole-gcc-O2-g"), expatLibrary(builds, "hole-clang-14-O2-g")},
		[]string{expatLibrary(builds, "fixed-gcc-O2-g") + "@processEntity"})
	for _, build := range []string{"hole-gcc-O2-s", "hole-clang-14-O3-s"} {
		t.Run(build, func(t *testing.T) {
			runScenario(t, scenario{
				start:   func(t *testing.T) *server { return startExpat(t, build) },
				dial:    func(addr string, i int) (client, error) { return &expatClient{url: "http://" + addr, name: i}, nil },
				threats: []threat{{prepatch: "CVE-2024-8176", given: expatGuard, flags: []string{"--fingerprint", pf}, attack: attackExpat, times: 10}},
			})
		})
	}
	for _, build := range []string{"fixed-gcc-O2-s", "debian"} {
		t.Run(build, func(t *testing.T) {
			pid := fmt.Sprint(startExpat(t, build).pid())
			if code := pieRefused(t, "insert", expatGuard, "--pid", pid, "--fingerprint", pf, "--accept-match"); code != pie.CodeFixed {
				t.Errorf("with a fingerprint that knows the fix: %s, want %s", code, pie.CodeFixed)
			}
			unknowing := createFingerprint(t, "processInternalEntity", []string{expatLibrary(builds, "hole-gcc-O2-g")}, nil)
			if code := pieRefused(t, "insert", expatGuard, "--pid", pid, "--fingerprint", unknowing, "--accept-match"); code != pie.CodeNoMatch {
				t.Errorf("with one that does not: %s, want %s", code, pie.CodeNoMatch)
			}
		})
	}
}

func expatLibrary(builds, build string) string {
	return filepath.Join(builds, build, "libexpat.so.1")
}

// createFingerprint runs pfp create.
func createFingerprint(t *testing.T, function string, builds, fixed []string) string {
	t.Helper()
	pf := filepath.Join(t.TempDir(), function+".pf")
	args := append([]string{"create", "-f", function, "-o", pf}, builds...)
	for _, path := range fixed {
		args = append(args, "--fixed", path)
	}
	command(t, "", pfpPath, args...)
	return pf
}

func startExpat(t *testing.T, build string) *server {
	builds := installed(t, "expat")
	port := freePort(t)
	// The recursion overflows the usual 8 MiB stack; a larger limit would hide the hole.
	cmd := exec.Command("sh", "-c", `ulimit -S -s 8192; exec "$@"`, "sh", "/usr/bin/python3", filepath.Join(builds, "server.py"), strconv.Itoa(port))
	cmd.Env = []string{"LD_LIBRARY_PATH=" + filepath.Join(builds, build)}
	return startServer(t, port, cmd)
}

// An expatClient posts documents, each on a connection of its own.
type expatClient struct {
	url     string
	name, n int
}

func (c *expatClient) Close() error { return nil }

// request uses entities in one another as documents do.
func (c *expatClient) request() error {
	c.n++
	document := fmt.Sprintf(`<!DOCTYPE m [<!ENTITY a "%d"><!ENTITY b "&a;-&a;">]><m>%d &b;</m>`, c.n, c.name)
	status, body, err := postXML(c.url, document)
	if want := fmt.Sprintf("%d %d-%d", c.name, c.n, c.n); err == nil && (status != http.StatusOK || body != want) {
		err = fmt.Errorf("answered %d %q, want %q", status, body, want)
	}
	return err
}

// attackExpat nests 60,000 entities.
func attackExpat(addr string) error {
	var b strings.Builder
	b.WriteString(`<!DOCTYPE m [<!ENTITY e0 "x">`)
	for i := 1; i < 60000; i++ {
		fmt.Fprintf(&b, `<!ENTITY e%d "&e%d;">`, i, i-1)
	}
	b.WriteString(`]><m>&e59999;</m>`)
	status, body, err := postXML("http://"+addr, b.String())
	if err == nil && (status != http.StatusBadRequest || !strings.Contains(body, "recursive entity reference")) {
		err = fmt.Errorf("answered %d %q", status, body)
	}
	return err
}

func postXML(url, document string) (status int, body string, err error) {
	c := http.Client{Timeout: replyDeadline, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Post(url, "text/xml", strings.NewReader(document))
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}
