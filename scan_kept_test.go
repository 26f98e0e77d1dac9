package pie_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/index"
)

const guardOfNothing = `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id TEST-1

//pie:guard exe=pie-test-name func=nothing onfault=pass onfuel=pass
func Nothing(_ *libpie.Call) libpie.Verdict { return libpie.Pass() }
`

// TestScanKept holds that a process no prepatch is about is looked at once, and anew
// when its executable gets a name that a guard has.
func TestScanKept(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if out, err := exec.Command("cp", "/bin/sleep", program).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	time.Sleep(2100 * time.Millisecond) // files that were just made are not kept
	cmd := exec.Command(program, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	asleep(t, cmd.Process.Pid)
	store, err := index.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	scan := func() (results []pie.ScanResult, loaded bool) {
		t.Helper()
		load := func() ([]*pie.Prepatch, error) {
			loaded = true
			p, err := pie.Load(map[string][]byte{"guard.go": []byte(guardOfNothing)})
			return []*pie.Prepatch{p}, err
		}
		kept := pie.Kept{Store: store, Revision: "1", Exes: []string{"pie-test-name"}, Load: load}
		results, err := pie.ScanKept(context.Background(), kept, pie.Pids(cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return results, loaded
	}
	for i, wantLoaded := range []bool{true, false} {
		if results, loaded := scan(); len(results) > 0 || loaded != wantLoaded {
			t.Errorf("scan %d: %+v, prepatches were loaded: %v, want %v", i, results, loaded, wantLoaded)
		}
	}
	if err := os.Symlink("program", filepath.Join(dir, "pie-test-name")); err != nil {
		t.Fatal(err)
	}
	if results, _ := scan(); len(results) != 1 || results[0].State != pie.ScanRefused {
		t.Errorf("under a name that a guard has: %+v", results)
	}
}

// asleep waits until sleep(1) sleeps: before, it still maps its libraries.
func asleep(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if strings.HasPrefix(string(b), fmt.Sprint(unix.SYS_CLOCK_NANOSLEEP, " ")) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("pid %d does not sleep: %s, %v", pid, b, err)
		}
	}
}
