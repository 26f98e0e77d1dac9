package locate

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// TestSymbolsFromElsewhere finds a static function of a stripped program through
// the symbols that were split off from it.
func TestSymbolsFromElsewhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(t *testing.T, exe string)
		how   string // in the evidence; empty where nothing may be found
	}{
		{"mini debug info", func(t *testing.T, exe string) {
			tool(t, "objcopy", "-S", "--remove-section", ".comment", exe, exe+".mini")
			tool(t, "objcopy", "--only-keep-debug", exe, exe+".symbols")
			tool(t, "xz", "-k", "-f", exe+".symbols")
			tool(t, "objcopy", "--add-section", ".gnu_debugdata="+exe+".symbols.xz", exe+".mini")
			rename(t, exe+".mini", exe)
		}, ".gnu_debugdata hidden"},
		{"debug link", func(t *testing.T, exe string) {
			tool(t, "objcopy", "--only-keep-debug", exe, exe+".debug")
			tool(t, "strip", exe)
			tool(t, "objcopy", "--add-gnu-debuglink="+exe+".debug", exe)
		}, ".debug hidden"},
		{"debug link of another build", func(t *testing.T, exe string) {
			tool(t, "gcc", "-O1", "-DOTHER=1", "-Wl,--build-id=0x1234", "-o", exe+".other", filepath.Join(filepath.Dir(exe), "split.c"))
			tool(t, "objcopy", "--only-keep-debug", exe+".other", exe+".debug")
			tool(t, "strip", exe)
			tool(t, "objcopy", "--add-gnu-debuglink="+exe+".debug", exe)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			exe := filepath.Join(t.TempDir(), "split")
			source := "#include <unistd.h>\nstatic __attribute__((noinline)) int hidden(int n) { return n * 3 + getpid(); }\nint main(int c, char **v) { int r = hidden(c); pause(); return r; }\n"
			if err := os.WriteFile(exe+".c", []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
			tool(t, "gcc", "-O1", "-o", exe, exe+".c")
			c.build(t, exe)
			cmd := exec.Command(exe)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cmd.Process.Kill(); cmd.Wait() }()
			p, err := proc.Open(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			found, err := Find(p, Query{Func: "hidden"})
			switch {
			case c.how == "" && err == nil:
				t.Errorf("found %s by symbols that belong to another build", found[0].How)
			case c.how != "" && err != nil:
				t.Error(err)
			case c.how != "" && !strings.Contains(found[0].How, c.how):
				t.Errorf("found by %q, want %q", found[0].How, c.how)
			}
		})
	}
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v (gcc, binutils and xz-utils are needed; scripts/setup installs them)\n%s", name, args, err, out)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
