package pie_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
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

// Of a server with a sandboxed child the server is guarded as usual, and the child, in
// which nothing can be mapped, in unused bytes; whoever the server starts from then on has
// the server's guard, inside its sandbox. A guard that reads memory cannot go into the
// child: that is told by name, and the child stays as it is.
func TestSandboxedChild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forkbox")
	h := runHost(t, path, exec.Command("gcc", "-O2", "-o", path, "testdata/language/forkbox.c"))
	child := int(h.ask(t, "start", 0))
	pids := pie.Pids(h.cmd.Process.Pid, child)
	reads := sandboxGuard(t, "c.Bytes(libpie.Addr(n), 4).Count('*') > 3")
	report, err := pie.Insert(context.Background(), reads, pids, pie.Options{Mode: pie.ModeEnforce})
	if err != nil || len(report.Processes) != 2 || report.Guarded() != 1 {
		t.Fatalf("%+v, %v; want one of two guarded", report, err)
	}
	unguarded := report.Processes[1]
	if unguarded.Pid != child || unguarded.Reason != pie.CodeNoSyscall || !strings.Contains(unguarded.Instead, fmt.Sprintf("pid %d", h.cmd.Process.Pid)) {
		t.Errorf("of the child: %+v", unguarded)
	}
	if _, err := pie.Remove(context.Background(), reads.ID, pids); err != nil {
		t.Fatal(err)
	}
	if got := h.ask(t, "ask", 101); got != 101 {
		t.Errorf("the child that was there answers %d, want 101", got)
	}
	p := sandboxGuard(t, "n > 100")
	report, err = pie.Insert(context.Background(), p, pids, pie.Options{Mode: pie.ModeEnforce})
	if err != nil || report.Guarded() != 2 {
		t.Fatalf("%+v, %v; want both guarded", report, err)
	}
	if bad, good := h.ask(t, "ask", 101), h.ask(t, "ask", 5); bad != -1 || good != 5 {
		t.Errorf("the child that was there answers %d and %d, want -1 and 5", bad, good)
	}
	h.ask(t, "start", 0)
	if bad, good := h.ask(t, "ask", 101), h.ask(t, "ask", 5); bad != -1 || good != 5 {
		t.Errorf("the next child answers %d and %d, want -1 and 5", bad, good)
	}
}

// sandboxGuard rejects by condition.
func sandboxGuard(t *testing.T, condition string) *pie.Prepatch {
	t.Helper()
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(fmt.Sprintf(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id SANDBOX-2

//pie:guard exe=forkbox func=check onfault=pass onfuel=pass
func Check(c *libpie.Call, n int32) libpie.Verdict {
	if %s {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`, condition))})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
