package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestIndex looks for a function in everything that runs: in a program, in its
// successor, which took its place while the old one runs on, and in a copy of it. What is
// kept gives the same answers as a search.
func TestIndex(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	build := func(name string, flags ...string) string {
		out := filepath.Join(dir, name)
		gcc(t, append(flags, "-O2", "-Dmain=shop", "-o", out, "../../internal/find/fingerprint/testdata/shop.c", "testdata/waits.c")...)
		return out
	}
	open, fixed, stripped, successor := build("open"), build("fixed", "-DFIXED"), build("program", "-s", "-no-pie"), build("successor", "-s", "-no-pie", "-DFIXED")
	pf := filepath.Join(dir, "x.pf")
	pfp(t, exitDone, "create", open, "-f", "parse_line", "--fixed", fixed, "-o", pf)

	old := startWaiting(t, stripped)
	if err := os.Rename(successor, stripped); err != nil {
		t.Fatal(err)
	}
	replaced := startWaiting(t, stripped)
	cp := exec.Command("cp", stripped, filepath.Join(dir, "copy"))
	if out, err := cp.CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	copied := startWaiting(t, filepath.Join(dir, "copy"))
	waitSettled()

	first := indexed(t, pf, cache)
	for _, flags := range [][]string{{}, {"--fresh"}} {
		if again := indexed(t, pf, cache, flags...); !slices.Equal(again.of(old, replaced, copied), first.of(old, replaced, copied)) {
			t.Errorf("again, with %v: %+v\nfirst: %+v", flags, again, first)
		}
	}
	want := []string{"AUTO", "AUTO, fixed", "AUTO, fixed"}
	if got := first.of(old, replaced, copied); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q in %+v", got, want, first)
	}
	for _, f := range first {
		if slices.Contains(f.Pids, old) && len(f.Found) > 0 && !f.Deleted {
			t.Errorf("nothing tells that the file was replaced: %+v", f)
		}
	}
}

// waitSettled waits until files that were just made count as settled.
func waitSettled() { time.Sleep(2100 * time.Millisecond) }

type indexing []*mappedFile

// of returns what was found in the programs of some processes.
func (all indexing) of(pids ...int) []string {
	out := make([]string, len(pids))
	for i, pid := range pids {
		for _, f := range all {
			for _, a := range f.Found {
				if !slices.Contains(f.Pids, pid) {
					continue
				}
				out[i] = a.Tier
				if a.Fixed {
					out[i] += ", fixed"
				}
			}
		}
	}
	return out
}

func indexed(t *testing.T, pf, cache string, flags ...string) indexing {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(append([]string{"index", pf, "--cache", cache, "--json"}, flags...), &stdout, &stderr); code != exitDone {
		t.Fatalf("pfp index: exit code %d\n%s", code, &stderr)
	}
	var all indexing
	if err := json.Unmarshal(stdout.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func startWaiting(t *testing.T, program string) int {
	t.Helper()
	cmd := exec.Command(program)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil { // it runs its own code now
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
