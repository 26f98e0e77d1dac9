package insert

import (
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// A thread that computes, where there is no other, is let go of between the steps of
// a preparation: it is seized again and again, and once for the commit.
func TestABusyThreadIsLetGoOfBetweenSteps(t *testing.T) {
	v := startVictim(t, "-1")
	seized := 0
	tr, err := tracee.NewTracer(tracee.Options{OnStep: func(s tracee.Step) {
		if s.Name == "seize" {
			seized++
		}
	}})
	must(t, err)
	defer tr.Close()
	_, err = insertGuards(ctxFor(t, 20*time.Second), tr, v.p, handMade(t, v.p, "S-1", v.exe, v.lib), Options{Mode: jit.ModeEnforce})
	must(t, err)
	if seized < 4 {
		t.Errorf("seized %d times", seized)
	}
	v.progress(t, slow)
	must(t, runVerb("remove", tr, v.p))
	v.quiet(t)
	textEqualsFile(t, v.p)
}

// Between two stops of it, too, pie may die.
func TestStepSweepOfABusyThread(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "-1")
	total, _ := v.startSpy(t, "insert", 0, syscall.SIGKILL)
	for step := 1; step <= total; step += stride(total, syscall.SIGKILL) {
		v.stop()
		v = startVictim(t, "-1")
		v.startSpy(t, "insert", step, syscall.SIGKILL)
		v.progress(t, frozenLimit+time.Second)
		operatorRecovers(t, v, tr, "insert", step)
	}
}
