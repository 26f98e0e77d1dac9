package insert

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/live/observe"
	"github.com/patch-integration-engine/pie/internal/live/tracee"
)

// fullSweep dies after every step of every verb, not after a sample.
var fullSweep = os.Getenv("PIE_TEST_LONG") != ""

// frozenLimit is the longest the target may stand still, whatever happens to
// pie (DESIGN §7); the sweep adds what a busy machine takes to notice.
const frozenLimit = 600 * time.Millisecond

// A pie that is killed, or stopped, after any ptrace request or remote write of
// any verb leaves the target alive, right and going on; guarded or as it was;
// and a fresh pie can tell, finish and undo.
func TestStepSweep(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		for _, verb := range []string{"insert", "remove", "mode"} {
			t.Run(fmt.Sprintf("%s/%v", verb, sig), func(t *testing.T) { sweepVerb(t, verb, sig, false) })
		}
		for _, verb := range []string{"insert", "insert in table mode"} {
			t.Run(fmt.Sprintf("first %s/%v", verb, sig), func(t *testing.T) { sweepVerb(t, verb, sig, true) })
		}
	}
}

// sweepVerb lets spies die in one victim after another step of verb; or, fresh, in a
// victim each that has no arena yet.
func sweepVerb(t *testing.T, verb string, sig syscall.Signal, fresh bool) {
	start := func() *victim {
		v := startVictim(t, "2")
		v.mayEndEarly = true
		return v
	}
	v, tr := start(), newTracer(t)
	if !fresh {
		must(t, runVerb("insert", tr, v.p, v.exe, v.lib))
	}
	setUp(t, v, tr, verb)
	total, _ := v.startSpy(t, verb, 0, sig)
	t.Logf("%d steps", total)
	for step := 1; step <= total; step += stride(total, sig) {
		if fresh {
			v.stop()
			v = start()
		}
		setUp(t, v, tr, verb)
		_, died := v.startSpy(t, verb, step, sig)
		v.progress(t, frozenLimit+time.Second)
		operatorRecovers(t, v, tr, verb, step)
		if arenas, err := observe.Arenas(v.p); err != nil || len(arenas) > 2 {
			t.Fatalf("step %d: %d arenas, %v", step, len(arenas), err)
		}
		if !died {
			break // fewer steps than the first time
		}
	}
}

// stride is how far apart the steps are that a spy dies at.
func stride(total int, sig syscall.Signal) int {
	samples := 10
	switch {
	case fullSweep:
		return 1
	case sig == syscall.SIGSTOP || raceDetector:
		samples = 3
	}
	return max(1, total/samples)
}

// setUp brings the victim to where verb begins.
func setUp(t *testing.T, v *victim, tr *tracee.Tracer, verb string) {
	t.Helper()
	all, err := observe.Status(v.p)
	if err != nil {
		t.Fatal(err)
	}
	in := len(all) > 0 && all[0].State == observe.StateIn
	want := !strings.HasPrefix(verb, "insert")
	if in && (!want || verb == "mode") {
		must(t, runVerb("remove", tr, v.p))
		in = false
	}
	if want && !in {
		must(t, runVerb("insert", tr, v.p, v.exe, v.lib))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// operatorRecovers does what an operator does after a pie died: look, finish, undo.
func operatorRecovers(t *testing.T, v *victim, tr *tracee.Tracer, verb string, step int) {
	t.Helper()
	all, err := observe.Status(v.p)
	if err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
	for _, pp := range all {
		t.Logf("step %d: %s is %v", step, pp.ID, pp.State)
		if pp.State == observe.StateAltered {
			t.Fatalf("step %d: torn: %+v", step, pp)
		}
		if pp.State == observe.StateLost {
			t.Fatalf("step %d: taken for lost with a library, and none was unloaded: %+v", step, pp)
		}
		if pp.State != observe.StatePartial {
			continue
		}
		must(t, runVerb("remove", tr, v.p))
	}
	if !strings.HasPrefix(verb, "insert") {
		verb = "insert"
	}
	err = runVerb(verb, tr, v.p, v.exe, v.lib)
	for try := 0; errors.Is(err, ErrStale) && try < 3; try++ {
		// The target was still finishing what the dead pie had asked of it.
		err = runVerb(verb, tr, v.p, v.exe, v.lib)
	}
	if err != nil && !errors.Is(err, ErrAlreadyIn) {
		t.Fatalf("step %d: inserting after a pie died: %v", step, err)
	}
	v.progress(t, slow)
	if s := v.progress(t, slow); s.Passed != 0 && status(t, v, "S-1").Guards[0].Mode == jit.ModeEnforce {
		t.Fatalf("step %d: guarded again, but %+v", step, s)
	}
	must(t, runVerb("remove", tr, v.p))
	v.quiet(t)
	textEqualsFile(t, v.p)
}
