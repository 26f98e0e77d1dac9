package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/locate"
)

const croppingFunction = "ngx_http_mp4_crop_stsc_data"

// TestFingerprintNginx guards a static function of stripped nginx builds by a
// fingerprint that was made from another build of the source, and is refused
// where the function is not there or has the fix.
func TestFingerprintNginx(t *testing.T) {
	original := filepath.Join(installed(t, "nginx"), "sbin/nginx")
	fixed := buildNginx(t, "fixed", "-O2", fixCropping)
	pf := filepath.Join(t.TempDir(), "crop.pf")
	writeFingerprint(t, pf, original, fixed)

	for _, flags := range []string{"-O2 -mtune=intel", "-O2 -fno-plt"} {
		t.Run("guarded"+strings.ReplaceAll(flags, " ", "_"), func(t *testing.T) {
			s := startNginxBinary(t, strip(t, buildNginx(t, "other", flags, nil)))
			if code := pieRefused(t, "insert", withoutFingerprints(t, "nginx/cve-2024-7347"), "--pid", fmt.Sprint(s.pid())); code != pie.CodeNotFound {
				t.Errorf("without a fingerprint: %s", code)
			}
			pieRun(t, piePath, nil, "insert", "CVE-2024-7347", "--pid", fmt.Sprint(s.pid()), "--fingerprint", pf, "--accept-match")
			attackNginx(t, s)
			pieRun(t, piePath, nil, "remove", "CVE-2024-7347", "--pid", fmt.Sprint(s.pid()))
		})
	}
	t.Run("fixed", func(t *testing.T) {
		s := startNginxBinary(t, strip(t, fixed))
		if code := pieRefused(t, "insert", "CVE-2024-7347", "--pid", fmt.Sprint(s.pid()), "--fingerprint", pf, "--accept-match"); code != pie.CodeFixed {
			t.Errorf("got %s, want %s", code, pie.CodeFixed)
		}
	})
	t.Run("inlined", func(t *testing.T) {
		s := startNginxBinary(t, strip(t, buildNginx(t, "inlined", "-O2", inlineCropping)))
		if code := pieRefused(t, "insert", "CVE-2024-7347", "--pid", fmt.Sprint(s.pid()), "--fingerprint", pf, "--accept-match"); code != pie.CodeNoMatch {
			t.Errorf("got %s, want %s", code, pie.CodeNoMatch)
		}
	})
}

// TestFingerprintOfCatalogue lets the catalogue's own fingerprint tell of Debian's
// stripped nginx, which has the fix, and of a stripped build with the hole.
func TestFingerprintOfCatalogue(t *testing.T) {
	fixed := startNginxBinary(t, filepath.Join(installed(t, "nginx-debian"), "usr/sbin/nginx"))
	if code := pieRefused(t, "insert", "CVE-2024-7347", "--pid", fmt.Sprint(fixed.pid()), "--accept-match"); code != pie.CodeFixed {
		t.Errorf("Debian's nginx: %s, want %s", code, pie.CodeFixed)
	}
	if state := scanned(t, "CVE-2024-7347", fixed.pid()); state != pie.ScanFixed {
		t.Errorf("pie scan says %q of Debian's nginx, want %q", state, pie.ScanFixed)
	}
	open := startNginxBinary(t, strip(t, filepath.Join(installed(t, "nginx"), "sbin/nginx")))
	if state := scanned(t, "CVE-2024-7347", open.pid()); state == pie.ScanFixed {
		t.Errorf("pie scan says %q of an nginx with the hole", state)
	}
	pid := fmt.Sprint(open.pid())
	pieRun(t, piePath, nil, "insert", "CVE-2024-7347", "--pid", pid, "--accept-match")
	attackNginx(t, open)
	pieRun(t, piePath, nil, "remove", "CVE-2024-7347", "--pid", pid)
}

// scanned returns what pie scan says of one process and prepatch.
func scanned(t *testing.T, id string, pid int) pie.ScanState {
	t.Helper()
	cmd := exec.Command(piePath, "scan", "--pid", fmt.Sprint(pid), "--json")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pie scan: %v\n%s", err, out)
	}
	var results []pie.ScanResult
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("pie scan --json: %v\n%s", err, out)
	}
	for _, r := range results {
		if r.ID == id && r.Pid == pid {
			return r.State
		}
	}
	t.Fatalf("pie scan tells nothing of %s in %d: %s", id, pid, out)
	return ""
}

// attackNginx sends the attack and wants it answered, by workers that live on.
func attackNginx(t *testing.T, s *server) {
	t.Helper()
	before := s.family()
	c := &nginxClient{addr: s.addr}
	defer c.Close()
	for range 3 {
		if status, _, err := c.get("/bad.mp4?end=6"); err != nil || status != 500 {
			t.Errorf("the malformed file: %d, %v; want 500", status, err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if now := s.family(); !slices.Equal(now, before) {
		t.Errorf("a worker died: %v, before %v", now, before)
	}
}

// pieRefused runs a command of pie that must be refused, and returns its reason.
func pieRefused(t *testing.T, args ...string) pie.Code {
	t.Helper()
	out, err := exec.Command(piePath, append(args, "--json")...).Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("pie %v: %v, want exit code 3\n%s", args, err, out)
	}
	var said struct{ Error pie.Refusal }
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("pie %v --json: %v\n%s", args, err, out)
	}
	return said.Error.Code
}

// buildNginx builds the nginx that servers.sh left, with its mp4 module compiled
// anew after change was applied to it. It takes seconds: the rest is linked only.
func buildNginx(t *testing.T, name, flags string, change func([]byte) []byte) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), name)
	command(t, "", "cp", "-a", filepath.Join(cacheDir(t), "work/nginx"), tree)
	module := filepath.Join(tree, "src/http/modules/ngx_http_mp4_module.c")
	source, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		source = change(source)
	}
	if err := os.WriteFile(module, source, 0o644); err != nil {
		t.Fatal(err)
	}
	command(t, tree, "make", "-f", "objs/Makefile", "CFLAGS=-g -w "+flags, "objs/nginx")
	return filepath.Join(tree, "objs/nginx")
}

// fixCropping is the fix of CVE-2024-7347 in the function: products in 64 bits.
func fixCropping(source []byte) []byte {
	source = bytes.Replace(source, []byte("    uint32_t               start_sample, chunk, samples, id, next_chunk, n,\n                           prev_samples;\n"),
		[]byte("    uint64_t n;\n    uint32_t               start_sample, chunk, samples, id, next_chunk,\n                           prev_samples;\n"), 1)
	return bytes.ReplaceAll(source, []byte("n = (next_chunk - chunk) * samples;\n\n        if (start_sample"), []byte("n = (uint64_t) (next_chunk - chunk) * samples;\n\n        if (start_sample"))
}

// inlineCropping makes the function disappear into its callers.
func inlineCropping(source []byte) []byte {
	return bytes.ReplaceAll(source, []byte("static ngx_int_t\nngx_http_mp4_crop_stsc_data("), []byte("static inline __attribute__((always_inline)) ngx_int_t\nngx_http_mp4_crop_stsc_data("))
}

// strip returns a stripped copy that is called nginx, as the guard wants.
func strip(t *testing.T, path string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "nginx")
	command(t, "", "strip", "-o", out, path)
	return out
}

func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v (scripts/setup installs what is missing)\n%s", cmd, err, out)
	}
}

// writeFingerprint makes a fingerprint of the function from a build with the
// hole and one with the fix.
func writeFingerprint(t *testing.T, pf, original, fixed string) {
	t.Helper()
	var builds []fingerprint.Build
	for _, path := range []string{original, fixed} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := binfile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		build := fingerprint.Build{Label: filepath.Base(filepath.Dir(filepath.Dir(path))), Fixed: path == fixed}
		if build.At, err = locate.InFile(f, path, croppingFunction); err != nil {
			t.Fatal(err)
		}
		if build.Module, err = fingerprint.Analyze(f); err != nil {
			t.Fatal(err)
		}
		builds = append(builds, build)
	}
	fp, err := fingerprint.Create(croppingFunction, builds)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pf, fp.Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
}
