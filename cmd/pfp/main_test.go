package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// TestListArm64 lists a program that only says it is for arm64: its tables are read as
// ever, and its code makes no fingerprint.
func TestListArm64(t *testing.T) {
	b, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	b[18], b[19] = byte(elf.EM_AARCH64), byte(elf.EM_AARCH64>>8) // e_machine
	out := filepath.Join(t.TempDir(), "arm64")
	if err := os.WriteFile(out, b, 0o644); err != nil {
		t.Fatal(err)
	}
	native, err := list("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	other, err := list(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(other.Functions) != len(native.Functions) || len(other.Functions) == 0 {
		t.Errorf("%d functions, want %d", len(other.Functions), len(native.Functions))
	}
	pfp(t, exitFailed, "create", out, "-f", "0x1000")
}

// TestProcessCoreHost finds a function of libc in a process, in a core of it, and
// in all that runs here.
func TestProcessCoreHost(t *testing.T) {
	dir := t.TempDir()
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleep.Process.Kill(); sleep.Wait() }()
	pid := fmt.Sprint(sleep.Process.Pid)
	libc := mappedLibrary(t, pid, "libc.so.6")
	pf, core, cache := filepath.Join(dir, "qsort_r.pf"), filepath.Join(dir, "core"), filepath.Join(dir, "cache")
	pfp(t, exitDone, "create", libc, "-f", "qsort_r", "-o", pf)
	if out, err := exec.Command("gcore", "-o", core, pid).CombinedOutput(); err != nil {
		t.Fatalf("gcore: %v (gdb has it; scripts/setup installs it)\n%s", err, out)
	}
	inProcess := oneAnswer(t, pfp(t, exitDone, "find", "--json", pf, "--pid", pid))
	inCore := oneAnswer(t, pfp(t, exitDone, "find", "--json", pf, core+"."+pid))
	if inProcess.Runtime == "" || inProcess.Runtime != inCore.Runtime || inCore.Tier != "AUTO" {
		t.Errorf("in the process at %q, in its core at %q [%s]", inProcess.Runtime, inCore.Runtime, inCore.Tier)
	}
	for range 2 { // searched, and from the index
		a := pfp(t, exitDone, "find", "--json", pf, "--host", "--cache", cache)
		if !slices.ContainsFunc(a, func(a answer) bool { return a.Tier == "AUTO" && slices.Contains(a.Pids, sleep.Process.Pid) }) {
			t.Errorf("--host does not find it in %s: %+v", pid, a)
		}
	}
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	pfp(t, exitFailed, "find", "--json", pf, "--host", "--cache", cache)
}

// pfp runs a command in this process and returns its answers, where it gives some.
func pfp(t *testing.T, want int, args ...string) []answer {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(args, &stdout, &stderr); code != want {
		t.Fatalf("pfp %v: exit code %d, want %d\n%s%s", args, code, want, &stdout, &stderr)
	}
	var said struct{ Answers []answer }
	if bytes.HasPrefix(stdout.Bytes(), []byte("{")) {
		if err := json.Unmarshal(stdout.Bytes(), &said); err != nil {
			t.Fatal(err)
		}
	}
	return said.Answers
}

func oneAnswer(t *testing.T, all []answer) answer {
	t.Helper()
	if len(all) != 1 {
		t.Fatalf("%d answers: %+v", len(all), all)
	}
	return all[0]
}

func mappedLibrary(t *testing.T, pid, name string) string {
	t.Helper()
	for range 100 { // until it is loaded
		b, err := os.ReadFile("/proc/" + pid + "/maps")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 6 && filepath.Base(f[5]) == name {
				return f[5]
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("process %s does not map %s", pid, name)
	return ""
}
