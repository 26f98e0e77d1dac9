package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// TestRedisStripped guards functions of stripped builds of Redis that export nothing,
// by fingerprints made from another build: one by the same compiler at another level, where
// the static function of Lua is found for sure, and one by the other compiler, where a
// person has to look. Debian's own, with the fixes, is refused.
func TestRedisStripped(t *testing.T) {
	builds := installed(t, "redis-stripped")
	reference := []string{filepath.Join(installed(t, "redis"), "redis-server")}
	toHex := createFingerprint(t, "bit_tohex", reference, []string{filepath.Join(builds, "fixed")})
	selector := createFingerprint(t, "ACLSetSelector", reference, nil)

	t.Run("gcc-O3", func(t *testing.T) {
		runScenario(t, strippedRedis("gcc-O3", threat{prepatch: "CVE-2024-31449", flags: []string{"--fingerprint", toHex}, attack: attackRedis(digitsWithoutOpposite)}))
	})
	t.Run("clang-14-O2", func(t *testing.T) {
		sc := strippedRedis("clang-14-O2", threat{prepatch: "CVE-2024-31227", flags: []string{"--fingerprint", selector, "--accept-match"}, attack: attackRedis(emptySelector)})
		runScenario(t, sc)
		pid := fmt.Sprint(sc.start(t).pid())
		if code := pieRefused(t, "insert", "CVE-2024-31227", "--pid", pid, "--fingerprint", selector); code != pie.CodeUnsure {
			t.Errorf("without --accept-match: %s, want %s", code, pie.CodeUnsure)
		}
	})
	t.Run("debian", func(t *testing.T) {
		// It has one of the names; that it has the fix, the catalogue's fingerprint knows.
		pid := fmt.Sprint(startRedisDebian(t).pid())
		if code := pieRefused(t, "insert", "CVE-2024-31227", "--pid", pid); code != pie.CodeFixed {
			t.Errorf("the function that it exports: %s, want %s", code, pie.CodeFixed)
		}
		if code := pieRefused(t, "insert", "CVE-2024-31449", "--pid", pid, "--fingerprint", toHex, "--accept-match"); code != pie.CodeFixed {
			t.Errorf("the static function: %s, want %s", code, pie.CodeFixed)
		}
	})
}

// strippedRedis is a scenario of a build of redis-stripped.
func strippedRedis(build string, th threat) scenario {
	th.times = 10
	return scenario{
		start: func(t *testing.T) *server {
			return startRedisBinary(t, filepath.Join(installed(t, "redis-stripped"), build, "redis-server"))
		},
		dial:    dialRedis,
		threats: []threat{th},
	}
}

func startRedisDebian(t *testing.T) *server {
	root := filepath.Join(installed(t, "redis-stripped"), "debian")
	port := freePort(t)
	cmd := exec.Command(filepath.Join(root, "usr/bin/redis-server"), "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	cmd.Env = []string{"LD_LIBRARY_PATH=" + filepath.Join(root, "usr/lib/x86_64-linux-gnu")}
	return startServer(t, port, cmd)
}
