package tracee

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/live/thread"
	"github.com/patch-integration-engine/pie/internal/live/watchdog"
)

// While somebody stands still the tracer goes ahead of all ordinary threads, and its
// watchdog ahead of it; before and afterwards it is an ordinary thread itself.
func TestTracerRushesInAStopOnly(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "crowd", "2")
	p := v.open()
	defer p.Close()
	if !tr.watchdog.above { // a control group without a share of it (cpu.rt_runtime_us)
		t.Log("no real-time priority is to be had here: the tracer must not take any")
	}
	dog := levelOf(t, tr.watchdog.process.Pid)
	within := func(stop func(do func()) error) {
		t.Helper()
		var tracer int
		var policy int
		var level int32
		err := stop(func() {
			tracer = unix.Gettid()
			policy, level, _ = thread.Scheduler()
		})
		if err != nil {
			t.Fatal(err)
		}
		if rushed := policy == thread.FIFO && level > 0; rushed != tr.watchdog.above || level > 0 && level >= dog {
			t.Errorf("in the stop policy %d, level %d; the watchdog's level is %d", policy, level, dog)
		}
		if after := thread.Policy(tracer); after != thread.Normal {
			t.Errorf("after the stop policy %d", after)
		}
	}
	within(func(do func()) error {
		_, err := tr.StopWorld(context.Background(), p, nil, func(*World) error { do(); return nil })
		return err
	})
	within(func(do func()) error {
		return tr.Attach(context.Background(), p, func(*Attached) error { do(); return nil })
	})
}

// levelOf returns the real-time level of a thread.
func levelOf(t *testing.T, tid int) (level int32) {
	t.Helper()
	if _, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETPARAM, uintptr(tid), uintptr(unsafe.Pointer(&level)), 0); errno != 0 {
		t.Fatal(errno)
	}
	return level
}

// A page that a process has from a file becomes its own by Own, and holds what it held;
// where another byte is there than expected, nothing is written.
func TestOwnCopiesThePage(t *testing.T) {
	tr := newTracer(t)
	v := startVictim(t, "victim", "compute", "1")
	p := v.open()
	defer p.Close()
	at := v.answer + 2
	var was, is [64]byte
	if _, err := p.ReadAt(was[:], at); err != nil {
		t.Fatal(err)
	}
	own := func(b byte) {
		t.Helper()
		if err := tr.Attach(context.Background(), p, func(a *Attached) error { a.Own(at, b); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if own(was[0] + 1); !fromFile(t, p, at) {
		t.Fatal("another byte was expected, and the page was copied")
	}
	if own(was[0]); fromFile(t, p, at) {
		t.Error("the page is not the process's own")
	}
	if _, err := p.ReadAt(is[:], at); err != nil || is != was {
		t.Errorf("% x, before % x: %v", is, was, err)
	}
	v.mustProgress()
}

// fromFile tells whether the page at addr is the file's: bit 61 of pagemap(5).
func fromFile(t *testing.T, p *Process, addr address.Addr) bool {
	t.Helper()
	fd := p.openPagemap()
	if fd < 0 {
		t.Fatal("pagemap cannot be opened")
	}
	defer unix.Close(fd)
	var entry [8]byte
	if _, err := unix.Pread(fd, entry[:], int64(addr/pageSize*8)); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint64(entry[:])&(1<<61) != 0
}

// hogName is the name under which the test program keeps a CPU.
const hogName = "pie-hog"

// hogMain is the hog: CPU. It says that it is there, and once it has read a byte it keeps
// that CPU for longer than a stop may last, from every thread but the watchdog's.
func hogMain() bool {
	if os.Args[0] != hogName {
		return false
	}
	runtime.LockOSThread()
	cpu, err := strconv.Atoi(os.Args[1])
	var one unix.CPUSet
	one.Set(cpu)
	if err = errors.Join(err, unix.SchedSetaffinity(0, &one)); err != nil || !thread.SetScheduler(thread.FIFO, watchdog.TracerLevel) {
		fmt.Println("hog:", err)
		return true
	}
	fmt.Println("ready")
	var b [1]byte
	if n, err := unix.Read(0, b[:]); n != 1 || err != nil {
		return true
	}
	for begin := time.Now(); time.Since(begin) < stopLimit+200*time.Millisecond; {
	}
	return true
}

// On a full machine a tracer may get no CPU for long as soon as it does not go ahead of
// everybody any more. Nobody stands still then: its watchdog must know.
func TestWatchdogIsCalledOffBeforeTheTracerGivesWay(t *testing.T) {
	for name, stop := range map[string]func(*Tracer, *Process, func()) error{
		"attach": func(tr *Tracer, p *Process, within func()) error {
			return tr.Attach(context.Background(), p, func(*Attached) error { within(); return nil })
		},
		"world": func(tr *Tracer, p *Process, within func()) error {
			_, err := tr.StopWorld(context.Background(), p, nil, func(*World) error { within(); return nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTracer(t)
			if !tr.watchdog.above {
				t.Log("no real-time priority is to be had here: the tracer does not go ahead of anybody")
				return
			}
			v := startVictim(t, "victim", "nanosleep", "2")
			p := v.open()
			defer p.Close()
			cpu := 0
			err := tr.on(context.Background(), func(*hand) error {
				var may unix.CPUSet
				err := unix.SchedGetaffinity(0, &may)
				for !may.IsSet(cpu) {
					cpu++
				}
				may.Zero()
				may.Set(cpu)
				return errors.Join(err, unix.SchedSetaffinity(0, &may))
			})
			if err != nil {
				t.Fatal(err)
			}
			kept := 0
			for range 5 { // the kernel gives ordinary threads a little of a CPU that others keep (fair server, Linux 6.12)
				begin := time.Now()
				if err := stop(tr, p, startHog(t, cpu).wake); err != nil {
					t.Fatal(err)
				}
				if time.Since(begin) > stopLimit {
					kept++
				}
			}
			t.Logf("%d times kept from its CPU for longer than a stop may last", kept)
			v.mustProgress()
		})
	}
}

// hog is one that has been started.
type hog struct{ in uintptr } // a descriptor

func startHog(t *testing.T, cpu int) (h hog) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{hogName, strconv.Itoa(cpu)}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, h.in = in, ours.Fd()
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = ours.Close() })
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "ready\n" {
		t.Fatalf("the hog says %q: %v", said, err)
	}
	return h
}

// wake has the hog run as soon as the calling thread leaves its CPU, and takes long enough
// for the kernel to have seen to that. It does not leave the CPU itself, as a sleep would,
// a write by way of the runtime, or a goroutine that has had its processor for 10 ms.
func (h hog) wake() {
	b := [1]byte{1}
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, h.in, uintptr(unsafe.Pointer(&b)), 1)
	for begin := time.Now(); time.Since(begin) < 5*time.Millisecond; {
	}
}
