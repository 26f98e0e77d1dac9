package tracee

import (
	"time"

	"golang.org/x/sys/unix"
)

// resume lets everybody go, those that were running first: a sleeping thread
// does not notice. Detaching is resuming: signals that arrived are passed on,
// and a job-control stop that is in effect is entered again by the kernel.
func (w *World) resume() (pause, window time.Duration) {
	for _, running := range [...]bool{true, false} {
		for i := range w.crowd.tasks {
			t := &w.crowd.tasks[i]
			if t.state != taskStopped || t.running != running {
				continue
			}
			if !w.h.holds(t.tid) {
				_ = w.h.detach(t.tid, t.signal) // ESRCH: it was killed
			}
			t.state = taskGone
			if running && !w.crowd.began.IsZero() {
				pause = max(pause, time.Since(w.crowd.began)-t.interrupted)
			}
		}
		if running && len(w.crowd.tasks) > manyAsleep {
			w.calm() // the others need the CPU now
		}
	}
	if !w.crowd.began.IsZero() {
		window = time.Since(w.crowd.began)
	}
	if pause == 0 {
		pause = window
	}
	w.h.sweep(w.letGo)
	return pause, window
}

// manyAsleep are so many that to let go of them takes some tenths of a millisecond.
const manyAsleep = 64

// hasten puts the tracer ahead of every ordinary thread, where it may go there.
func (w *World) hasten() {
	if w.mayRush && !w.rushing {
		w.rushing = rush()
	}
}

// calm ends the time in which the tracer goes ahead of everybody.
func (w *World) calm() {
	if w.rushing {
		relax()
		w.rushing = false
	}
}

// letGo detaches a task that has stopped late.
func (w *World) letGo(tid int, ws unix.WaitStatus) {
	if w.crowd.find(tid) == nil {
		w.crowd.add(task{tid: tid, group: tid, foreign: true})
	}
	w.stopped(w.crowd.find(tid), ws)
	_ = w.h.detach(tid, w.crowd.find(tid).signal) // ESRCH: it was killed
}

// sweepTime is how long late stops are waited for at the end.
const sweepTime = 20 * time.Millisecond

// sweep lets go of tracees whose stop arrives late, newborns among them, and
// reaps those that ended, until this thread has none left: one that is not
// reaped keeps its whole process from ending. What does not stop is left to
// the end of the OS thread.
func (h *hand) sweep(letGo func(tid int, ws unix.WaitStatus)) {
	if h.held.Load() != 0 {
		return // a process at its first instruction has one thread
	}
	begin := time.Now()
	for !h.abandoned {
		tid, ws, errno := h.poll(-1)
		switch {
		case errno != 0: // ECHILD: no tracee is left
			return
		case time.Since(begin) > sweepTime:
			h.abandoned = true
		case tid == 0:
			h.rest(1, time.Since(begin))
		case ws.Stopped():
			letGo(tid, ws)
		}
	}
}
