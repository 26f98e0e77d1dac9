package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

// While it goes through many processes the agent answers, and leaves alone at once
// what an operator takes over.
func TestAnswersWhileBusy(t *testing.T) {
	const servers = 8
	w := layOut(t, "testdata/victim.c")
	w.policy(theRule)
	a, err := New(Config{Policy: filepath.Join(w.dir, "policy"), Prepatches: w.dir, Version: "test",
		Log: slog.New(slog.NewJSONHandler(t.Output(), nil)), PollOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.changer.close()
	for range servers {
		w.server()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a.looked = true
	done := make(chan struct{})
	go func() { a.pass(ctx); close(done) }()
	kept := 0
	for kept == 0 {
		if err := a.ask(ctx, func() { kept = len(a.kept) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.ask(ctx, func() { kept, err = len(a.kept), a.suspend("TEST-AGENT") }); err != nil {
		t.Fatal(err)
	}
	<-done
	if err != nil || kept == servers || len(a.kept) > kept {
		t.Errorf("suspended with %d of %d guarded (%v), in the end %d are", kept, servers, err, len(a.kept))
	}
}
