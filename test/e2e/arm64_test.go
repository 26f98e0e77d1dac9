package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestFingerprintArm64 finds functions of programs for arm64 in other builds: a C
// program in the next release of its package, a Go program in a build that was stripped
// and is for newer processors. Code for x86-64 is nothing to compare with.
func TestFingerprintArm64(t *testing.T) {
	programs := installed(t, "arm64")
	at := func(name string) string { return filepath.Join(programs, name) }
	for _, c := range []struct{ function, from, in string }{
		{"ACLSetSelector", "redis-old", "redis"},
		{"streamAppendItem", "redis-old", "redis"},
		{"zslInsert", "redis-old", "redis"},
		{"main.(*server).parse", "gohost", "gohost-stripped"},
		{"strings.(*Builder).grow", "gohost", "gohost-stripped"},
	} {
		pf := createFingerprint(t, c.function, []string{at(c.from)}, nil)
		if a := pfpFind(t, pf, at(c.in)); a.Tier != "AUTO" && a.Tier != "CONFIRM" || !slices.Contains(a.Names, c.function) {
			t.Errorf("%s of %s in %s: %s, %v", c.function, c.from, c.in, a.Tier, a.Names)
		}
		if a := pfpFind(t, pf, filepath.Join(installed(t, "redis"), "redis-server")); a.Tier != "abstain" {
			t.Errorf("%s of %s in a program for x86-64: %s %v", c.function, c.from, a.Tier, a.Names)
		}
	}
	out, err := exec.Command(pfpPath, "diff", "--json", at("redis-old"), at("redis")).Output()
	var d struct{ Same int }
	if err == nil {
		err = json.Unmarshal(out, &d)
	}
	if err != nil || d.Same < 3000 {
		t.Errorf("pfp diff: %v, %d functions are the same\n%s", err, d.Same, out)
	}
}

type pfpAnswer struct {
	Tier  string
	Names []string
}

// pfpFind runs pfp find in one program.
func pfpFind(t *testing.T, pf, program string) pfpAnswer {
	t.Helper()
	out, err := exec.Command(pfpPath, "find", "--json", pf, program).Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 5) {
		t.Fatalf("pfp find %s %s: %v", pf, program, err)
	}
	var said struct{ Answers []pfpAnswer }
	if err := json.Unmarshal(out, &said); err != nil || len(said.Answers) != 1 {
		t.Fatalf("pfp find %s %s --json: %v\n%s", pf, program, err, out)
	}
	return said.Answers[0]
}
