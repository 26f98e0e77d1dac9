package agent

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/locate"
)

// moduleOf compiles testdata/versions.c and reads it as builds of lookup.
func moduleOf(t *testing.T, path string, flags ...string) fingerprint.Build {
	t.Helper()
	if out, err := exec.Command("gcc", append(flags, "-O2", "-o", path, "testdata/versions.c")...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s(scripts/setup installs what is missing)", err, out)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	st, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	elf, err := binfile.OpenToRead(file, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	b := fingerprint.Build{Label: filepath.Base(path)}
	if b.At, err = locate.InFile(elf, path, "lookup"); err != nil {
		t.Fatal(err)
	}
	if b.Module, err = fingerprint.Analyze(elf); err != nil {
		t.Fatal(err)
	}
	return b
}

// A fingerprint that is replaced takes effect on processes that start from then on,
// with the same source of the guard: the build that it calls fixed is left alone. A
// file that is no fingerprint is told, and changes nothing.
func TestFingerprintChanges(t *testing.T) {
	w := layOut(t, "testdata/victim.c")
	hole := moduleOf(t, filepath.Join(w.dir, "hole"))
	fixed := moduleOf(t, w.victim, "-DFIXED")
	encode := func(builds ...fingerprint.Build) string {
		fp, err := fingerprint.Create("lookup", builds)
		if err != nil {
			t.Fatal(err)
		}
		return string(fp.Encode())
	}
	w.write("TEST-AGENT.go", strings.Replace(guardSource, "func=lookup", "func=lookup fingerprint=lookup.pf", 1))
	w.write("lookup.pf", encode(fixed))
	w.policy(theRule)
	w.begin(false)
	old := w.server()
	w.eventually(old.cmd.Process.Pid, Guarded)

	fixed.Fixed = true
	w.write("lookup.pf", encode(hole, fixed))
	if err := w.client.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	fresh := w.server()
	w.eventually(fresh.cmd.Process.Pid, Fixed)
	if got := fresh.ask(101); got != "-2" {
		t.Errorf("the fixed build, left alone, answers %s", got)
	}
	if got := old.ask(101); got != "-1" {
		t.Errorf("who was guarded before answers %s", got)
	}

	w.write("lookup.pf", "PIEpf")
	if err := w.client.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "lookup.pf") {
		t.Errorf("no fingerprint: %v", err)
	}
	if got := old.ask(101); got != "-1" {
		t.Errorf("after the mistake, who is guarded answers %s", got)
	}
}
