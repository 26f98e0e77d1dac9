package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"pfp": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the transcripts with a small program that gcc builds.
func TestScripts(t *testing.T) {
	dir := t.TempDir()
	source, err := filepath.Abs("testdata/small.c")
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"small": {"-O1"}, "stripped": {"-O1", "-s"},
	} {
		gcc(t, append(args, "-o", filepath.Join(dir, name), source)...)
	}
	shop, err := filepath.Abs("../../internal/find/fingerprint/testdata/shop.c")
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"shop": {"-O2"}, "shop_stripped": {"-O2", "-s", "-no-pie"}, "shop_fixed": {"-O2", "-DFIXED"}, "shop_fixed_stripped": {"-O2", "-DFIXED", "-s", "-no-pie"},
		"shop_gone": {"-O2", "-DGONE", "-s"}, "shop_twins": {"-O2", "-fno-ipa-icf"}, "shop_twins_stripped": {"-O2", "-fno-ipa-icf", "-no-pie", "-s"},
	} {
		gcc(t, append(args, "-o", filepath.Join(dir, name), shop)...)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PROGRAMS", dir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"poke": poke},
	})
}

func gcc(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("gcc", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v (is gcc installed? scripts/setup installs it)\n%s", cmd, err, out)
	}
}

// poke FROM TO OFFSET BYTE copies a file and changes one byte of it.
func poke(ts *testscript.TestScript, neg bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	var off int
	var value byte
	_, err = fmt.Sscan(args[2]+" "+args[3], &off, &value)
	ts.Check(err)
	b[off] = value
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
}
