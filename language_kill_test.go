package pie_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

// acting keeps state, writes and calls.
const acting = `
//pie:cap write call

var calls libpie.Counter

//pie:guard exe=host func=edit onfault=reject:-2 onfuel=pass
func Edit(c *libpie.Call, text libpie.Addr, n int64) libpie.Verdict {
	calls.Add(c, 1)
	if n == 7 {
		return libpie.Reject(1000 + int64(c.Invoke("wait_here", libpie.Word(n)).Word))
	}
	c.Put8(text+1, 'y')
	if c.Invoke("half", libpie.Word(6)).Double != 0x4008000000000000 { // 3.0
		return libpie.Reject(int64(-5))
	}
	return libpie.Pass()
}
`

// spyVar makes this test program a pie that does one thing to a process and is
// killed meanwhile: "insert PID", "remove PID". spyBody is the prepatch.
const (
	spyVar  = "PIE_TEST_SPY"
	spyBody = "PIE_TEST_SPY_BODY"
)

// TestSpy is not a test of its own: it is what spyVar asks for.
func TestSpy(t *testing.T) {
	var verb string
	var pid int
	if n, _ := fmt.Sscan(os.Getenv(spyVar), &verb, &pid); n != 2 {
		return // not asked
	}
	var err error
	if verb == "insert" {
		_, err = pie.Insert(context.Background(), loadBody(t, os.Getenv(spyBody)), pie.Pids(pid), pie.Options{Mode: pie.ModeEnforce})
	} else {
		_, err = pie.Remove(context.Background(), "LANG-1", pie.Pids(pid))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func loadBody(t *testing.T, body string) *pie.Prepatch {
	t.Helper()
	text := "package prepatch\n\nimport \"github.com/patch-integration-engine/pie/libpie\"\n\n//pie:id LANG-1\n" + body
	p, err := pie.Load(map[string][]byte{"guard.go": []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// spy lets a pie of its own do verb, kills it after a while when that is not 0, and
// returns how long it took.
func (h *host) spy(t *testing.T, verb string, killAfter time.Duration) time.Duration {
	t.Helper()
	return h.spyOn(t, acting, verb, killAfter)
}

// spyOn is spy with another prepatch.
func (h *host) spyOn(t *testing.T, body, verb string, killAfter time.Duration) time.Duration {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSpy$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", spyVar, verb, h.cmd.Process.Pid), spyBody+"="+body)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if killAfter == 0 {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%s: %v\n%s", verb, err, &said)
		}
		return time.Since(begin)
	}
	time.Sleep(killAfter)
	cmd.Process.Kill()
	cmd.Wait()
	return time.Since(begin)
}

// A pie that is killed while it inserts or removes a prepatch that keeps state,
// writes and calls, with a thread in a function that the guard has called, leaves the
// program right, and what it left is mended.
func TestKilledWhileGuardsAct(t *testing.T) {
	rounds := 6
	if os.Getenv("PIE_TEST_LONG") != "" {
		rounds = 200
	}
	if n, err := strconv.Atoi(os.Getenv("PIE_TEST_ROUNDS")); err == nil {
		rounds = n
	}
	h := startHost(t)
	sel := pie.Pids(h.cmd.Process.Pid)
	inserts, removes := h.spy(t, "insert", 0), h.spy(t, "remove", 0)
	either := func(when string) {
		t.Helper()
		if got := h.ask(t, "edit", 1); got != '1' && got != 'y' {
			t.Fatalf("%s: edit gives %d", when, got)
		}
	}
	exactly := func(when string, want int) {
		t.Helper()
		if got := h.ask(t, "edit", 1); got != want {
			t.Fatalf("%s: edit gives %q", when, rune(got))
		}
	}
	for round := range rounds {
		when := fmt.Sprintf("round %d", round)
		h.spy(t, "insert", time.Duration(rand.Int64N(int64(inserts))))
		either(when + ", an insertion killed")
		h.mended(t, sel)
		if _, err := pie.Insert(context.Background(), loadBody(t, acting), sel, pie.Options{Mode: pie.ModeEnforce}); err != nil {
			t.Fatalf("%s: inserting after it: %v", when, err)
		}
		exactly(when+", inserted", 'y')
		if h.ask(t, "begin", 7) != 0 {
			t.Fatal("no thread")
		}
		for end := time.Now().Add(10 * time.Second); h.status(t).Inside == 0 && time.Now().Before(end); {
			time.Sleep(2 * time.Millisecond)
		}
		h.spy(t, "remove", time.Duration(rand.Int64N(int64(removes))))
		either(when + ", a removal killed")
		if got := h.ask(t, "finish", 0); got != 1007 {
			t.Fatalf("%s: the call under way returns %d", when, got)
		}
		h.mended(t, sel)
		if _, err := pie.Remove(context.Background(), "LANG-1", sel); err != nil && pie.ReasonOf(err) != pie.CodeNotIn {
			t.Fatalf("%s: removing after it: %v", when, err)
		}
		exactly(when+", removed", '1')
	}
}

// mended finishes or undoes what a killed pie left.
func (h *host) mended(t *testing.T, sel pie.Select) {
	t.Helper()
	_, err := pie.Repair(context.Background(), sel)
	var refusal *pie.Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatal(err)
	}
}
