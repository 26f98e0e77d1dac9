package tracee

import (
	"context"
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
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
		var policy uintptr
		var level int32
		err := stop(func() {
			tracer = unix.Gettid()
			policy, level, _ = scheduler()
		})
		if err != nil {
			t.Fatal(err)
		}
		if rushed := policy == schedFIFO && level > 0; rushed != tr.watchdog.above || level > 0 && level >= dog {
			t.Errorf("in the stop policy %d, level %d; the watchdog's level is %d", policy, level, dog)
		}
		if after, _, _ := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tracer), 0, 0); after != schedOther {
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
