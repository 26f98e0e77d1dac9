package tracee

import (
	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/live/thread"
	"github.com/patch-integration-engine/pie/internal/live/watchdog"
)

// hurry gives the calling thread precedence over the tracees it is about to stop, where
// that takes more than background.Foreground: it goes one above a real-time process that it
// belongs to. The returned function takes it back.
//
// Elsewhere a nice value is enough: the Go runtime spins on locks in the belief that
// their holder, which may be an ordinary thread of ours, gets the CPU meanwhile.
func hurry() (calm func()) {
	policy, level, ok := thread.Scheduler()
	if p := policy &^ thread.ResetOnFork; !ok || p != thread.FIFO && p != thread.RR {
		return func() {}
	}
	thread.SetScheduler(thread.FIFO|thread.ResetOnFork, level+watchdog.TracerLevel)
	return func() { thread.SetScheduler(policy, level) }
}

// rush puts an ordinary calling thread ahead of every other ordinary one, and tells
// whether it did. It is for the time alone in which somebody stands still: a thread of
// nice value −20 yet waits for whoever has slept longer, the runtime's monitor among
// others. Between rush and relax the tracer makes raw system calls and does not wait for
// the runtime.
func rush() bool {
	policy, _, ok := thread.Scheduler()
	return ok && policy == thread.Normal && thread.SetScheduler(thread.FIFO, watchdog.TracerLevel)
}

// relax takes rush back; the nice value has stayed.
func relax() { thread.SetScheduler(thread.Normal, 0) }

// wakeOnTime ends the sleeps of the calling thread when they are over, not up to
// 50 µs later, as the kernel does to wake several threads at once (PR_SET_TIMERSLACK,
// prctl(2)): a tracer sleeps between two looks at a thread that is about to stop.
func wakeOnTime() {
	const nanosecond = 1
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, nanosecond, 0, 0, 0)
}
