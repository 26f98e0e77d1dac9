package pie_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// A guard may end the process where its file says so; in audit mode it does not.
func TestGuardEndsProcess(t *testing.T) {
	h := startHost(t)
	h.guard(t, `
//pie:cap exit

//pie:guard exe=host func=lookup onfault=reject:-2 onfuel=pass
func Lookup(c *libpie.Call, key int64) libpie.Verdict {
	if key > 100 {
		return libpie.Exit(int32(key)).WithCode(3)
	}
	return libpie.Pass()
}
`)
	if s := h.status(t); fmt.Sprint(s.Caps) != "[exit]" {
		t.Errorf("status says %v", s.Caps)
	}
	for _, x := range []struct {
		mode pie.Mode
		key  int
		want int
	}{{pie.ModeAudit, 101, 102}, {pie.ModeEnforce, 100, 101}} {
		if _, err := pie.SetMode(context.Background(), "LANG-1", x.mode, pie.Pids(h.cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
		if got := h.ask(t, "lookup", x.key); got != x.want {
			t.Errorf("%s: lookup %d is %d", x.mode, x.key, got)
		}
	}
	if _, err := fmt.Fprintln(h.in, "lookup", 300); err != nil {
		t.Fatal(err)
	}
	err := h.cmd.Wait()
	var end *exec.ExitError
	if !errors.As(err, &end) || end.ExitCode() != 300&0xff {
		t.Errorf("the process ended: %v", err)
	}
}
