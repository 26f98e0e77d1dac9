package tracee

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// both stops the world and makes remote system calls, n times.
func both(t *testing.T, tr *Tracer, v *victim, n int) {
	t.Helper()
	p := v.open()
	defer p.Close()
	for range n {
		if err := tr.Attach(context.Background(), p, mapUnmap); err != nil {
			t.Fatal(err)
		}
		_, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error { return flipAnswer(w, v.answer+2) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSignalsAreNeitherLostNorDoubled(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "situation", "storm")
	p := v.open()
	defer p.Close()
	_, before := v.report()
	tids, err := p.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	target := tids[1] // the thread the signals go to
	for i := range 200 {
		if err := attachTo(tr, p, target, mapUnmap); err != nil {
			t.Fatal(i, err)
		}
		_, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error { return flipAnswer(w, v.answer+2) })
		if err != nil {
			t.Fatal(i, err)
		}
	}
	v.mustProgress()
	if _, after := v.report(); after < before+50 {
		t.Errorf("only %d signals arrived", after-before)
	}
}

func TestRestartableSequenceIsAbortedNotForgotten(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "situation", "rseq")
	p := v.open()
	defer p.Close()
	for i := range 200 {
		if err := attachTo(tr, p, v.worker(), mapUnmap); err != nil {
			t.Fatal(i, err)
		}
	}
	v.mustProgress()
	if _, aborts := v.report(); aborts == 0 {
		t.Error("no sequence was interrupted: the test has shown nothing")
	}
}

func TestStoppedProcessStaysStopped(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "victim", "epoll", "4")
	v.mustProgress()
	if err := unix.Kill(v.pid(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	state := func() byte {
		st, err := taskStatus(v.pid(), v.pid())
		if err != nil {
			t.Fatal(err)
		}
		return st.State
	}
	waitFor(t, "the victim to stop", func() bool { return state() == 'T' })
	both(t, tr, v, 5)
	waitFor(t, "the victim to be stopped again", func() bool { return state() == 'T' })
	if err := unix.Kill(v.pid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	v.mustProgress()
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patient {
			t.Fatalf("waited %v for %s", patient, what)
		}
	}
}

func TestExecWhileStoppingIsGone(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "situation", "exec")
	for range 60 {
		p, err := Open(v.pid())
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.StopWorld(context.Background(), p, nil, func(*World) error { return nil })
		if err != nil && !errors.Is(err, ErrGone) && !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		if err := tr.Attach(context.Background(), p, mapUnmap); err != nil &&
			!errors.Is(err, ErrGone) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrNoRemoteSyscall) { // before libc is mapped
			t.Error(err)
		}
		p.Close()
	}
	if err := unix.Kill(v.pid(), 0); err != nil {
		t.Fatalf("the victim is gone: %v", err)
	}
}

func TestSeccomp(t *testing.T) {
	tr := newTracer(t)
	for _, c := range []struct {
		name string
		want error
	}{
		{"seccomp-allow", nil},
		{"seccomp-errno", nil}, // suspended; alive with an errno if we die
		{"seccomp-kill", ErrNoRemoteSyscall},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := startVictim(t, "situation", c.name)
			p := v.open()
			defer p.Close()
			if err := tr.Attach(context.Background(), p, mapUnmap); !errors.Is(err, c.want) {
				t.Errorf("remote mmap: %v, want %v", err, c.want)
			}
			v.mustProgress()
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = zombie.Wait() }()
	waitFor(t, "a zombie", func() bool {
		st, err := taskStatus(zombie.Process.Pid, zombie.Process.Pid)
		return err == nil && st.State == 'Z'
	})
	for _, c := range []struct {
		name string
		pid  int
		want error
	}{
		{"this process", os.Getpid(), ErrSelf},
		{"an ended one", ended.Process.Pid, ErrGone},
		{"no process", -3, ErrGone},
		{"a kernel thread", 2, ErrKernelThread},
		{"a zombie", zombie.Process.Pid, ErrZombie},
	} {
		p, err := Open(c.pid)
		if !errors.Is(err, c.want) {
			t.Errorf("%s (pid %d): %v, want %v", c.name, c.pid, err, c.want)
		}
		if err == nil {
			p.Close()
		}
	}
}

func TestCheckNoticesTheEnd(t *testing.T) {
	v := startVictim(t, "victim", "read", "1")
	p := v.open()
	defer p.Close()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = v.cmd.Wait()
	if err := p.Check(); !errors.Is(err, ErrGone) {
		t.Errorf("Check: %v, want %v", err, ErrGone)
	}
	tr := newTracer(t)
	if err := tr.Attach(context.Background(), p, mapUnmap); !errors.Is(err, ErrGone) {
		t.Errorf("Attach: %v, want %v", err, ErrGone)
	}
	if _, err := tr.StopWorld(context.Background(), p, nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("StopWorld: %v, want %v", err, ErrGone)
	}
}

// A thread that does not get to its stop in time, here the parent of a vfork(2), which
// sleeps until its child ends, is let go of by the end of the tracer's thread. Nobody is
// traced any more when a stop returns; before, the watchdog is armed: a pie that is
// stopped in between would keep the thread.
func TestNobodyIsTracedAfterwards(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "victim", "vfork", "4", "eintr-allowed")
	p := v.open()
	defer p.Close()
	for i := range 30 {
		if _, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error { return flipAnswer(w, v.answer+2) }); err != nil {
			t.Fatal(err)
		}
		tids, err := p.Tasks()
		if err != nil {
			t.Fatal(err)
		}
		for _, tid := range tids {
			if st, err := taskStatus(v.pid(), tid); err == nil && st.Tracer != 0 {
				t.Fatalf("round %d: thread %d (%c) is still traced by %d", i, tid, st.State, st.Tracer)
			}
		}
	}
	v.mustProgress()
}

func TestTracedByAnother(t *testing.T) {
	v := startVictim(t, "victim", "read", "1")
	strace := exec.Command("strace", "-f", "-o", "/dev/null", "-p", fmt.Sprint(v.pid()))
	if err := strace.Start(); err != nil {
		t.Fatalf("the tests need strace: %v", err)
	}
	defer func() {
		_ = strace.Process.Signal(unix.SIGINT)
		_ = strace.Wait()
	}()
	waitFor(t, "strace to attach", func() bool {
		st, err := taskStatus(v.pid(), v.pid())
		return err == nil && st.Tracer != 0
	})
	p := v.open()
	defer p.Close()
	tr := newTracer(t)
	var traced *TracedError
	if err := tr.Attach(context.Background(), p, mapUnmap); !errors.As(err, &traced) || traced.By != strace.Process.Pid || traced.Name != "strace" {
		t.Errorf("Attach: %v, want traced by strace, pid %d", err, strace.Process.Pid)
	}
	if _, err := tr.StopWorld(context.Background(), p, nil, nil); !errors.As(err, &traced) || traced.By != strace.Process.Pid {
		t.Errorf("StopWorld: %v, want traced by strace, pid %d", err, strace.Process.Pid)
	}
	v.mustProgress()
}

func TestOrdinaryUser(t *testing.T) {
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, c := range []struct {
		name string
		v    *victim
		want string
	}{
		{"its own process", startVictimAs(t, nobody, "victim", "epoll", "2"), "done"},
		{"another user's", startVictim(t, "victim", "epoll", "2"), PolicyCapability.String()},
		{"a non-dumpable one", startVictimAs(t, nobody, "situation", "non-dumpable"), PolicyNonDumpable.String()},
		{"one under a seccomp filter it may not read", startVictimAs(t, nobody, "situation", "seccomp-allow"), "CAP_SYS_ADMIN"},
	} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{spyName, "attach", fmt.Sprint(c.v.pid()), "0", "0", "0", "9"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %q, want %q", c.name, out, c.want)
		}
		c.v.mustProgress()
	}
}

func TestTwoTracersKeepApart(t *testing.T) {
	v := startVictim(t, "victim", "read", "1")
	p, q := v.open(), v.open()
	defer p.Close()
	defer q.Close()
	unlock, err := p.Lock()
	if err != nil {
		t.Fatal(err)
	}
	tr := newTracer(t)
	if err := tr.Attach(context.Background(), q, mapUnmap); !errors.Is(err, ErrBusy) {
		t.Errorf("with the lock held by another: %v, want %v", err, ErrBusy)
	}
	if err := tr.Attach(context.Background(), p, mapUnmap); err != nil {
		t.Errorf("by the holder: %v", err)
	}
	unlock()
	if err := tr.Attach(context.Background(), q, mapUnmap); err != nil {
		t.Errorf("after unlocking: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "victim", "read", "1")
	p := v.open()
	defer p.Close()
	end := v.answer.Page() + pageSize
	_, err := tr.StopWorld(context.Background(), p, nil, func(w *World) error {
		if err := w.Write(end-4, make([]byte, 8), nil); !errors.Is(err, ErrPageBoundary) {
			t.Errorf("across a page: %v", err)
		}
		if err := w.Write(v.answer, []byte{0x90}, []byte{0xcc}); !errors.Is(err, ErrMismatch) {
			t.Errorf("over other bytes: %v", err)
		}
		if err := w.Write(8, []byte{1}, nil); err == nil {
			t.Error("to unmapped memory: no error")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	v.mustProgress()
}

// The fallback where proc_mem.force_override forbids writing through
// /proc/PID/mem: whole words, whose neighbours stay as they were.
func TestPokeWritesExactlyItsBytes(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "victim", "read", "1")
	p := v.open()
	defer p.Close()
	err := tr.Attach(context.Background(), p, func(a *Attached) error {
		at, err := a.Syscall(unix.SYS_MMAP, 0, pageSize, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
		if err != nil {
			return err
		}
		page := address.Addr(at)
		for _, c := range []struct{ off, n int }{{0, 1}, {3, 5}, {1, 13}, {pageSize - 3, 3}, {pageSize - 13, 13}, {100, 64}} {
			want := make([]byte, pageSize)
			for i := range want {
				want[i] = byte(i)
			}
			if err := a.Write(page, want); err != nil {
				return err
			}
			for i := range c.n {
				want[c.off+i] = 0xee
			}
			if err := a.memory.poke(a.h, page.Add(int64(c.off)), want[c.off:c.off+c.n]); err != nil {
				return err
			}
			got := make([]byte, pageSize)
			if err := a.Read(got, page); err != nil {
				return err
			}
			if string(got) != string(want) {
				t.Errorf("%d bytes at %d: neighbours changed", c.n, c.off)
			}
		}
		_, err = a.Syscall(unix.SYS_MUNMAP, at, pageSize)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefused32Bit(t *testing.T) {
	src := filepath.Join(t.TempDir(), "a.s")
	program := `.globl _start
_start:	mov $29, %eax
	int $0x80
	jmp _start
`
	if err := os.WriteFile(src, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	obj, bin := src+".o", src+".out"
	for _, args := range [][]string{{"as", "--32", "-o", obj, src}, {"ld", "-m", "elf_i386", "-o", bin, obj}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v (the tests need binutils): %v\n%s", args, err, out)
		}
	}
	cmd := exec.Command(bin)
	err := cmd.Start()
	if errors.Is(err, unix.ENOEXEC) {
		t.Skip("this kernel runs no 32-bit programs (IA-32 emulation is off): there is none to refuse")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := Open(cmd.Process.Pid); !errors.Is(err, ErrNotAMD64) {
		t.Errorf("Open: %v, want %v", err, ErrNotAMD64)
	}
}
