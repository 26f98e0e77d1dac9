package agent

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie"
)

// changerOf finds the process that makes an agent's changes, a child of this one.
func changerOf(t *testing.T) int {
	t.Helper()
	for _, pid := range descendants(os.Getpid()) {
		if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(line), changerName) {
			return pid
		}
	}
	t.Fatal("nobody makes changes")
	return 0
}

// unstarted is an agent with theRule that does nothing by itself.
func (w *world) unstarted() *Agent {
	w.t.Helper()
	w.policy(theRule)
	a, err := New(Config{Policy: w.dir + "/policy", Prepatches: w.dir, Version: "test", Log: slog.New(slog.NewJSONHandler(w.t.Output(), nil)), PollOnly: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(a.changer.close)
	return a
}

// The agent outlives whoever changes processes for it, killed or stopped, and what was
// to be done is done by the next.
func TestChangerKilled(t *testing.T) {
	w := layOut(t, "testdata/victim.c")
	a := w.unstarted()
	insert := func() error {
		s := w.server()
		report, err := a.changer.insert(t.Context(), a.rules[0].prepatch, s.cmd.Process.Pid, pie.Options{Mode: pie.ModeEnforce, Build: "test"})
		if err == nil && report.Guarded() != 1 {
			err = fmt.Errorf("%+v", report)
		}
		return err
	}
	if err := insert(); err != nil {
		t.Fatal(err)
	}
	first := changerOf(t)
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := insert(); err != nil {
		t.Errorf("after a death: %v", err)
	}
	second := changerOf(t)
	if second == first {
		t.Error("the dead one is still there")
	}
	if err := unix.Kill(second, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a.changer.wait = time.Second // not orderTime
	if err := insert(); err != nil {
		t.Errorf("after a stop: %v", err)
	}
	a.changer.close()
	if runsNow(second) || runsNow(first) {
		t.Error("one outlived its agent")
	}
}

func runsNow(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// What the process refuses comes back as the refusal it was.
func TestChangerRefuses(t *testing.T) {
	w := layOut(t, "testdata/victim.c")
	a := w.unstarted()
	const nobody = 1 << 22 // above every pid
	if _, err := a.changer.insert(t.Context(), a.rules[0].prepatch, nobody, pie.Options{Mode: pie.ModeEnforce}); pie.ReasonOf(err) != pie.CodeNoProcess {
		t.Errorf("a process that is none: %v", err)
	}
	s := w.server()
	if _, err := a.changer.remove(t.Context(), "TEST-AGENT", []int{s.cmd.Process.Pid}); pie.ReasonOf(err) != pie.CodeNotIn {
		t.Errorf("a prepatch that is not in: %v", err)
	}
	if _, err := a.changer.setMode(t.Context(), "TEST-AGENT", pie.ModeAudit, s.cmd.Process.Pid); pie.ReasonOf(err) != pie.CodeNotIn {
		t.Errorf("the mode of one that is not in: %v", err)
	}
}
