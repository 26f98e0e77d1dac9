package pie_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// A seccomp filter may be one thread's alone. A guard that would make system calls
// there is refused, although the main thread may make any.
func TestSandboxedWorker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandbox")
	h := runHost(t, path, exec.Command("gcc", "-O2", "-pthread", "-o", path, "testdata/language/sandbox.c"))
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id SANDBOX-1

//pie:guard exe=sandbox func=check onfault=pass onfuel=pass
func Check(c *libpie.Call, s libpie.Addr) libpie.Verdict {
	if c.Bytes(s, 4).Count('*') > 3 {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = pie.Insert(context.Background(), p, pie.Pids(h.cmd.Process.Pid), pie.Options{Mode: pie.ModeEnforce})
	if pie.ReasonOf(err) != pie.CodeSeccomp {
		t.Errorf("%v, want %s", err, pie.CodeSeccomp)
	}
	if got := h.ask(t, "worker", 0); got != 3 {
		t.Errorf("the worker's check: %d, want 3", got)
	}
}
