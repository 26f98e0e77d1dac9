package tracee

import (
	"context"
	"errors"
	"testing"
)

// Who sleeps is shown while who computes still runs, and nothing is written by then.
func TestSleepersAreShownFirst(t *testing.T) {
	const threads = 16 // of which one computes
	v := startVictim(t, "crowd", "16")
	tr := newTracer(t)
	p := v.open()
	defer p.Close()
	var asleep, running int
	var written, moved error
	_, err := tr.StopSleepersFirst(context.Background(), p, nil, func(w *World) error {
		asleep, running = len(w.Threads()), 0
		written = flipAnswer(w, v.answer+2)
		moved = w.SetPC(w.Threads()[0].Tid, v.answer)
		tids, err := p.Tasks()
		if err != nil {
			return err
		}
		for _, tid := range tids {
			if st, err := p.Task(tid); err == nil && st.State != 't' {
				running++
			}
		}
		return nil
	}, func(w *World) error {
		shown := 0
		for _, th := range w.Threads() {
			if th.Shown {
				shown++
			}
		}
		if len(w.Threads()) != threads || shown != asleep {
			t.Errorf("%d threads, of which %d were shown and are said to be %d", len(w.Threads()), asleep, shown)
		}
		return flipAnswer(w, v.answer+2)
	})
	if err != nil {
		t.Fatal(err)
	}
	if asleep+running != threads || running == 0 {
		t.Errorf("%d stood still and %d ran when those that sleep were shown", asleep, running)
	}
	if !errors.Is(written, ErrBusy) || !errors.Is(moved, ErrBusy) {
		t.Errorf("while a thread ran: writing %v, moving a thread %v", written, moved)
	}
	errNo := errors.New("no")
	_, err = tr.StopSleepersFirst(context.Background(), p, nil, func(*World) error { return errNo }, func(*World) error {
		t.Error("it was stopped all the same")
		return nil
	})
	if !errors.Is(err, errNo) {
		t.Errorf("first said no, and the stop says %v", err)
	}
	v.report()
}
