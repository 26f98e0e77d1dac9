package tracee

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

// A process whose main thread has ended is one like any other: the kernel answers for
// it by its other threads, if it is asked for one of them.
func TestMainThreadEnded(t *testing.T) {
	tr := newTracer(t)
	for _, state := range []string{"read", "epoll", "nanosleep", "recv", "compute", "call", "clone", "fork", "spawn", "vfork"} {
		t.Run(state, func(t *testing.T) {
			v := startVictim(t, mainless, state, "4", "eintr-wrong")
			v.waitMainEnded()
			p := v.open()
			defer p.Close()
			for i := range rounds {
				if err := tr.Attach(context.Background(), p, mapUnmap); err != nil {
					t.Fatal(err)
				}
				stop, err := tr.StopWorld(context.Background(), p, nil, patchAnswer(v, i))
				if err != nil {
					t.Fatal(err)
				}
				if stop.Threads < 4 {
					t.Errorf("stopped %d threads", stop.Threads)
				}
				v.mustProgress()
			}
		})
	}
}

// What is pinned while main lives is the same process when main has ended.
func TestMainThreadEndsUnderOurHands(t *testing.T) {
	tr := newTracer(t)
	for range 20 {
		v := startVictim(t, mainless, "poll", "2", "eintr-wrong")
		p := v.open() // main is on its way out
		for i := range 3 {
			if _, err := tr.StopWorld(context.Background(), p, nil, patchAnswer(v, i)); err != nil {
				t.Fatal(err)
			}
			if err := tr.Attach(context.Background(), p, mapUnmap); err != nil {
				t.Fatal(err)
			}
			v.waitMainEnded()
		}
		v.mustProgress()
		p.Close()
	}
}

// Kernel threads have as little memory as a thread that has ended, and must not be
// taken for tasks that share the process's.
func TestMainThreadEndedSharesWithNobody(t *testing.T) {
	v := startVictim(t, mainless, "vfork", "1", "eintr-wrong")
	v.waitMainEnded()
	p := v.open()
	defer p.Close()
	shared := 0
	for range 200 {
		sharing, err := p.SharingMM()
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range sharing {
			if st, err := taskStatus(pid, pid); err == nil && st.PPid != v.pid() {
				t.Fatalf("pid %d (%q), child of %d, is said to share the memory of %d", pid, st.Name, st.PPid, v.pid())
			}
			shared++
		}
	}
	if shared == 0 {
		t.Error("no vfork child was ever found")
	}
}

// The address space that is looked at is the living threads'.
func TestMainThreadEndedIsRead(t *testing.T) {
	v := startVictim(t, mainless, "read", "1", "eintr-wrong")
	before := v.open()
	defer before.Close()
	v.waitMainEnded()
	after := v.open()
	defer after.Close()
	for _, p := range []*Process{before, after} {
		var b [4]byte
		if _, err := p.ReadAt(b[:], v.answer); err != nil || b[0] != 0x8d { // lea 1(%rdi),%eax
			t.Errorf("read % x, %v", b, err)
		}
		maps, err := p.Maps()
		if s, ok := findStack(maps); err != nil || !ok || s.Size() == 0 {
			t.Errorf("%d mappings, %v", len(maps), err)
		}
		st, err := p.Status()
		if err != nil || st.State == 'Z' || st.Tgid != v.pid() {
			t.Errorf("%+v, %v", st, err)
		}
		if h, err := p.Headroom(); err != nil || h.AddressSpace != NoLimit {
			t.Errorf("%+v, %v", h, err)
		}
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		f, err := p.OpenExe()
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := unix.Kill(v.pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
