package background

import (
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/patch-integration-engine/pie/internal/live/thread"
)

// sessions is state of the package because what it stands for is state of the process:
// policies, nice values, dispositions of signals. Two sessions that each put back what they
// found would leave it as the other had made it.
var sessions foreground

// foreground counts what needs it just now.
type foreground struct {
	sync.Mutex
	running int         // sessions
	idle    []int       // threads that go to the background again
	nice    map[int]int // of the threads that were there when the first one began
	other   int         // the nice value of all that were started since
	garbage int         // percent, as debug.SetGCPercent has it
	hear    func()      // the keyboard
}

// Foreground makes this process fit to keep somebody from running, until end has been
// called for each call of Foreground: the keyboard cannot stop it, no collection of garbage
// begins, and every thread is out of the background and ahead of the other processes'. It
// is not the calling thread alone, for the Go runtime takes the processor from a goroutine
// that has had it for 10 ms, and gives it back by way of another thread: on a machine that
// is full, an ordinary one gets there too late.
//
// Without CAP_SYS_NICE no nice value changes. Threads that are started meanwhile are as
// urgent, and become ordinary in the end. A program would stay urgent for all its life, and
// keep others off the CPU: os/exec and os.StartProcess wait for the end before they start one.
func Foreground() (end func()) {
	s := &sessions
	s.Lock()
	defer s.Unlock()
	if s.running++; s.running == 1 {
		s.begin()
	}
	return sync.OnceFunc(func() {
		s.Lock()
		defer s.Unlock()
		if s.running--; s.running == 0 {
			s.back()
		}
	})
}

// begin changes the process for the first session.
func (s *foreground) begin() {
	syscall.ForkLock.RLock() // waits for a start that is under way
	s.nice = map[int]int{}
	s.other, _ = thread.Nice(0)
	thread.Each(func(tid int) (needed bool) {
		if thread.Change(tid, thread.Idle, thread.Normal) {
			s.idle, needed = append(s.idle, tid), true
		}
		if nice, ok := thread.Nice(tid); ok && nice != thread.Urgent && thread.SetNice(tid, thread.Urgent) {
			s.nice[tid], needed = nice, true
		}
		return needed
	})
	s.garbage = debug.SetGCPercent(-1) // waits for the end of one that runs
	s.hear = holdJobControl()
}

// back makes the process what it was before the first session.
func (s *foreground) back() {
	thread.Each(func(tid int) bool {
		nice, ok := thread.Nice(tid)
		if !ok || nice != thread.Urgent {
			return false
		}
		was, known := s.nice[tid]
		if !known {
			was = s.other
		}
		return was != thread.Urgent && thread.SetNice(tid, was)
	})
	for _, tid := range s.idle {
		thread.Change(tid, thread.Normal, thread.Idle)
	}
	debug.SetGCPercent(s.garbage)
	s.hear()
	s.idle, s.nice, s.hear = nil, nil, nil
	syscall.ForkLock.RUnlock()
}

// Urge makes a program that was just started as urgent as Foreground makes this one: it is
// waited for, and on a full machine would take seconds to begin.
func Urge(pid int) {
	thread.Change(pid, thread.Idle, thread.Normal)
	thread.SetNice(pid, thread.Urgent)
}
