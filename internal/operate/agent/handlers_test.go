package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/patch-integration-engine/pie"
)

const readingGuard = `package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id TEST-AGENT

//pie:guard exe=victim func=serve onfault=pass onfuel=pass
func Guard(c *libpie.Call, text libpie.Addr, n int32) libpie.Verdict {
	if c.Bytes(text, 1).At(0) == '!' {
		return libpie.Reject(int32(-1))
	}
	return libpie.Pass()
}
`

// A server that puts signal handlers of its own in the place of PIE's is guarded anew by
// the agent, with reads that need none.
func TestHandlersThatComeLate(t *testing.T) {
	w := layOut(t, "testdata/late.c")
	w.write("TEST-AGENT.go", readingGuard)
	w.policy(theRule)
	a, err := New(Config{Policy: filepath.Join(w.dir, "policy"), Prepatches: w.dir, Version: "test",
		Log: slog.New(slog.NewJSONHandler(t.Output(), nil)), PollOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.changer.close()
	s := w.server()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got := s.ask(0); got != "7" {
		t.Fatalf("answers %s", got)
	}
	a.pass(ctx)
	if reads := readsOf(t, s); reads != "table" {
		t.Fatalf("reads by %q at first", reads)
	}
	if got := s.ask(1); got != "8" { // its handlers come
		t.Fatalf("answers %s", got)
	}
	a.pass(ctx)
	if reads := readsOf(t, s); reads != "copy" {
		t.Errorf("reads by %q with handlers of its own", reads)
	}
	a.pass(ctx)
	if got := s.ask(0); got != "7" {
		t.Errorf("answers %s in the end", got)
	}
}

func readsOf(t *testing.T, s *server) string {
	t.Helper()
	all, err := pie.Status(t.Context(), pie.Pids(s.cmd.Process.Pid))
	if err != nil || len(all) != 1 || len(all[0].Prepatches) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	return all[0].Prepatches[0].Guards[0].Faults
}
