package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFoldersOf(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"opt/releases/1", "bin", "alternatives"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"opt/current":         "releases/1",
		"bin/server":          filepath.Join(root, "alternatives/server"),
		"alternatives/server": "../opt/current/server",
		"bin/round":           "round",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"opt/releases/1/server": "opt/releases/1",
		"opt/current/server":    "opt opt/releases/1",
		"bin/server":            "bin alternatives opt opt/releases/1",
		"nowhere/server":        "nowhere",
	} {
		got := foldersOf(filepath.Join(root, path))
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], root+"/")
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := foldersOf(filepath.Join(root, "bin/round")); len(got) > maxLinks+1 {
		t.Errorf("a link to itself: %d folders", len(got))
	}
}

// What an upgrade points a link at is held soon, with no exec that would tell of it.
func TestUpgradeByLink(t *testing.T) {
	w := layOut(t, "testdata/victim.c")
	for _, release := range []string{"1", "2", "3"} {
		dir := filepath.Join(w.dir, "releases", release)
		b, err := os.ReadFile(w.victim)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "victim"), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	current := filepath.Join(w.dir, "current")
	if err := os.Symlink("releases/1", current); err != nil {
		t.Fatal(err)
	}
	w.victim = filepath.Join(current, "victim")
	w.policy(theRule)
	w.begin(false)
	for _, change := range []struct {
		how string
		do  func() error
	}{
		{"renamed", func() error { // as ln -sfn does
			if err := os.Symlink("releases/2", current+".new"); err != nil {
				return err
			}
			return os.Rename(current+".new", current)
		}},
		{"removed and made", func() error {
			if err := os.Remove(current); err != nil {
				return err
			}
			return os.Symlink("releases/3", current)
		}},
	} {
		began := time.Now()
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(w.victim, &st); err != nil {
			t.Fatal(err)
		}
		for held := false; !held; time.Sleep(5 * time.Millisecond) {
			_ = w.agent.ask(t.Context(), func() {
				held = w.agent.holds[[2]uint64{st.Dev, st.Ino}] && slices.Contains(w.agent.named, w.victim)
			})
			if time.Since(began) > 10*time.Second {
				t.Fatalf("%s: not held", change.how)
			}
		}
		t.Logf("%s: held %v later", change.how, time.Since(began))
	}
}
