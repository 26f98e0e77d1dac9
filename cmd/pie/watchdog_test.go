package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestWatchdogComesBeforeThePackages: every stop waits for a watchdog, which is pie started
// anew. It takes over when few packages have been set up, not when most have: that depends
// on what package watchdog imports, and on its name.
func TestWatchdogComesBeforeThePackages(t *testing.T) {
	all, before := packagesSetUp(t, "pie", "--version"), packagesSetUp(t, "pie-watchdog")
	if before == 0 || before > all/4 {
		t.Errorf("%d packages of %d are set up before the watchdog takes over", before, all)
	}
}

// packagesSetUp counts the packages whose initialization a run of pie tells of
// (GODEBUG=inittrace=1, package runtime).
func packagesSetUp(t *testing.T, args ...string) int {
	t.Helper()
	cmd := exec.Cmd{Path: filepath.Join(bin, "pie"), Args: args, Env: append(os.Environ(), "GODEBUG=inittrace=1")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return len(regexp.MustCompile(`(?m)^init [^ ]+ @`).FindAll(out, -1))
}
