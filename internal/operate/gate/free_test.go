package gate

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain keeps the first thread, which does not end, from the tests' goroutines.
func TestMain(m *testing.M) {
	runtime.LockOSThread()
	os.Exit(m.Run())
}

// traceChild has a thread of this process trace a child of it until let go is called.
func traceChild(t *testing.T) (child, tracer int, letGo func()) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seized, over := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // for good: it ends as a tracer does
		if tracer = unix.Gettid(); tracer == os.Getpid() {
			t.Error("on the first thread, which does not end")
		}
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(cmd.Process.Pid), 0, 0, 0, 0)
		if errno != 0 {
			seized <- errno
			return
		}
		seized <- nil
		<-over
	}()
	err := <-seized
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, tracer, func() { close(over) }
}

// Of a worker that is killed the thread that holds a process preempts all the others, and
// no other thread does.
func TestHasten(t *testing.T) {
	child, tracer, letGo := traceChild(t)
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{process: &exec.Cmd{Process: self}}
	if w.hasten(nobody); levelOf(tracer) != ordinary {
		t.Error("hastened for nobody")
	}
	if w.hasten(child); levelOf(tracer) != gateLevel || levelOf(os.Getpid()) != ordinary {
		t.Errorf("the tracer is at level %d, the first thread at %d (the tests run as root)", levelOf(tracer), levelOf(os.Getpid()))
	}
	began := time.Now()
	time.AfterFunc(50*time.Millisecond, letGo)
	if awaitFree(child, tracer); traced(child) || time.Since(began) < 50*time.Millisecond {
		t.Errorf("after %v it is traced: %v", time.Since(began), traced(child))
	}
	other := &worker{process: exec.Command("sleep", "60")}
	if err := other.process.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.process.Process.Kill(); _ = other.process.Wait() }()
	child, tracer, letGo = traceChild(t)
	defer letGo()
	if got := other.hasten(child); got != nobody || levelOf(tracer) != ordinary {
		t.Error("a thread of another process was hastened")
	}
}

// A wait for the end of a trace ends with the thread, too, and does not wait for another
// tracer's.
func TestAwaitFree(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	child, tracer, letGo := traceChild(t)
	defer letGo()
	began := time.Now()
	awaitFree(cmd.Process.Pid, tracer)
	awaitFree(child, tracer+1)
	if awaitFree(child, nobody); time.Since(began) > freeTime/2 {
		t.Errorf("it took %v", time.Since(began))
	}
}

// The gate does not wait for a worker to be started: as long as that takes nobody would be
// answered.
func TestWorkerStartsAside(t *testing.T) {
	c := newCrowd(t)
	c.pool.answers = make(chan said, 1)
	config, err := configFile(c.config)
	if err != nil {
		t.Fatal(err)
	}
	defer config.Close()
	c.pool.config = config
	began := time.Now()
	c.answer(said{worker: c.worker, ended: true})
	if time.Since(began) > restartPause/2 {
		t.Errorf("the gate waited for %v", time.Since(began))
	}
	s := <-c.pool.answers
	if s.err != nil || s.begun == nil {
		t.Fatalf("%+v", s)
	}
	c.answer(s)
	if c.worker.process == nil || c.worker.ready {
		t.Errorf("%+v", c.worker)
	}
	c.worker.kill(nobody)
	for s = range c.pool.answers {
		if s.ended {
			break
		}
	}
}
