package tracee

import (
	"context"
	"strings"
	"testing"
)

// states are the blocking states of testdata/victim.c that stay as they are
// when a thread of theirs runs a remote system call.
var states = []string{
	"read", "poll", "ppoll", "epoll", "epoll_pwait", "select", "futex", "cond", "nanosleep", "nanosleep_abs", "recv", "accept",
	"semop", "semtimedop", "sigtimedwait", "waitpid", "io_getevents", "io_uring", "signals", "alarm", "compute", "compute-zmm",
	"call", "clone", "fork",
}

// rounds is how often one victim is touched.
const rounds = 8

func TestRemoteSyscallLeavesNoTrace(t *testing.T) {
	tr := newTracer(t)
	for _, state := range states {
		t.Run(state, func(t *testing.T) {
			v := startVictim(t, "victim", state, "1")
			p := v.open()
			defer p.Close()
			for range rounds {
				tid := v.worker()
				if state == "clone" {
					tid = 0 // its last thread lives for microseconds
				}
				if err := attachTo(tr, p, tid, mapUnmap); err != nil {
					t.Fatal(err)
				}
				v.mustProgress()
			}
		})
	}
}

func TestStopWorldLeavesNoTrace(t *testing.T) {
	tr := newTracer(t)
	for _, state := range append(states, "vfork", "spawn") {
		for _, threads := range []string{"1", "64"} {
			if threads == "64" && (state == "alarm" || strings.HasPrefix(state, "compute") || state == "call" || state == "spawn") {
				continue // one timer a process; and 64 busy threads leave no CPU to check them
			}
			t.Run(state+"/"+threads, func(t *testing.T) {
				v := startVictim(t, "victim", state, threads)
				p := v.open()
				defer p.Close()
				for i := range rounds {
					stop, err := tr.StopWorld(context.Background(), p, nil, patchAnswer(v, i))
					if err != nil {
						t.Fatal(err)
					}
					if stop.Threads < 2 {
						t.Errorf("stopped %d threads", stop.Threads)
					}
					v.mustProgress()
				}
			})
		}
	}
}

// patchAnswer changes the number that answer() adds, between 1 and 2: gcc made
// it 'lea 1(%rdi),%eax'.
func patchAnswer(v *victim, i int) func(*World) error {
	at := v.answer + 2
	return func(w *World) error {
		old, new := byte(1+i%2), byte(2-i%2)
		return w.Write(at, []byte{new}, []byte{old})
	}
}
