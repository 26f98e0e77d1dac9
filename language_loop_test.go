package pie_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// walking rejects what in the middle of a call is seen by every call: rounds counts down
// in the register that it came in.
const walking = `
//pie:guard exe=loops func=walk onfault=pass onfuel=pass
func Walk(c *libpie.Call, at libpie.Addr, rounds int64) libpie.Verdict {
	if rounds == 77 {
		return libpie.Reject(0)
	}
	return libpie.Pass()
}
`

// A function that is a loop from its first instruction on, with all threads in it, is
// guarded and let go of again and again: a guard is asked once a call, not once a round, and no
// call that is under way is taken for a new one; nor when pie is killed meanwhile.
func TestLoopMovesAlong(t *testing.T) {
	rounds := 20
	if os.Getenv("PIE_TEST_LONG") != "" {
		rounds = 400
	}
	path := filepath.Join(t.TempDir(), "loops")
	h := runHost(t, path, exec.Command("gcc", "-O2", "-pthread", "-o", path, "testdata/language/loops.c"))
	sel := pie.Pids(h.cmd.Process.Pid)
	inserts := h.spyOn(t, walking, "insert", 0)
	h.spyOn(t, walking, "remove", 0)
	for round := range rounds {
		if round%2 == 1 {
			h.spyOn(t, walking, "insert", time.Duration(rand.Int64N(int64(inserts))))
			h.counts(t)
			h.mended(t, sel)
		}
		before, _ := h.counts(t)
		if _, err := pie.Insert(context.Background(), loadBody(t, walking), sel, pie.Options{Mode: pie.ModeEnforce}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		asked := uint64(0)
		for end := time.Now().Add(10 * time.Second); asked < 50 && time.Now().Before(end); {
			time.Sleep(2 * time.Millisecond)
			asked = h.guardCalls(t, sel)
		}
		after, _ := h.counts(t)
		if asked < 50 || round%2 == 0 && asked > after-before+8 {
			t.Fatalf("round %d: the guard was asked %d times in %d calls", round, asked, after-before)
		}
		if _, err := pie.Remove(context.Background(), "LANG-1", sel); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if _, rejected := h.counts(t); rejected == 0 {
		t.Error("nothing was ever rejected")
	}
}

// counts asks the program how many calls were made, and rejected.
func (h *host) counts(t *testing.T) (calls, rejected uint64) {
	t.Helper()
	fmt.Fprintln(h.in, "count")
	line, err := h.out.ReadString('\n')
	if _, serr := fmt.Sscan(line, &calls, &rejected); err != nil || serr != nil {
		t.Fatalf("the program says %q: %v (a wrong result ends it)", line, err)
	}
	return calls, rejected
}

// guardCalls is how often the guard was asked.
func (h *host) guardCalls(t *testing.T, sel pie.Select) uint64 {
	t.Helper()
	all, err := pie.Status(context.Background(), sel)
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 || len(all[0].Prepatches[0].Guards) != 1 {
		t.Fatalf("status: %+v, %v", all, err)
	}
	return all[0].Prepatches[0].Guards[0].Calls
}
