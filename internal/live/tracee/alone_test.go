package tracee

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// besides is where tests map a page in testdata/alone.c, below its text.
func besides(answer address.Addr) address.Addr { return answer.Page() - 16<<20 }

// mapAndAsk maps a page at a given place, and has the kernel tell there which handler
// SIGALRM has: the calls that a lone thread makes alone.
func mapAndAsk(at address.Addr) func(*Attached) error {
	return func(a *Attached) error {
		got, err := a.Syscall(unix.SYS_MMAP, uint64(at), pageSize, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
		if err == nil && got != uint64(at) {
			err = fmt.Errorf("mapped at %#x", got)
		}
		if err != nil {
			return err
		}
		if _, err := a.Syscall(unix.SYS_RT_SIGACTION, uint64(unix.SIGALRM), 0, uint64(at), 8); err != nil {
			return err
		}
		var handler [8]byte
		if err := a.Read(handler[:], at); err != nil || binary.LittleEndian.Uint64(handler[:]) == 0 {
			return fmt.Errorf("the handler at %x: %w", handler, err)
		}
		return nil
	}
}

func unmap(at address.Addr) func(*Attached) error {
	return func(a *Attached) error {
		_, err := a.Syscall(unix.SYS_MUNMAP, uint64(at), pageSize)
		return err
	}
}

// A thread that is alone, and computes, is in no stop but the one that takes it to the
// call; it finds its registers, its red zone and its signals as they were, and no
// frame stays behind.
func TestALoneThreadCallsAlone(t *testing.T) {
	v := startVictim(t, "alone")
	var steps []string
	tr, err := NewTracer(Options{OnStep: func(s Step) { steps = append(steps, s.Name) }})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	p := v.open()
	defer p.Close()
	alone := 0
	for i := range 100 {
		steps = nil
		if err := tr.Attach(context.Background(), p, mapAndAsk(besides(v.answer))); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if !slices.Contains(steps, "syscall") {
			alone++
		}
		maps, err := p.Maps()
		if err != nil {
			t.Fatal(err)
		}
		if left := LeftFrames(p, maps); len(left) != 0 {
			t.Fatalf("round %d: a frame is left: %+v", i, left)
		}
		if err := tr.Attach(context.Background(), p, unmap(besides(v.answer))); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	v.mustProgress()
	if alone < 80 { // it may be found in a system call of its own
		t.Errorf("%d of 100 rounds without a stop at a system call", alone)
	}
}

// A call that is refused leaves no evidence, and is made again to hear why.
func TestARefusedCallOfALoneThread(t *testing.T) {
	v := startVictim(t, "alone")
	tr := newTracer(t)
	p := v.open()
	defer p.Close()
	err := tr.Attach(context.Background(), p, func(a *Attached) error {
		_, err := a.Syscall(unix.SYS_RT_SIGACTION, uint64(unix.SIGKILL), uint64(v.answer), uint64(v.answer.Page()+pageSize), 8)
		return err
	})
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("the handler of SIGKILL: %v", err)
	}
	err = tr.Attach(context.Background(), p, mapAndAsk(v.answer.Page()))
	if !errors.Is(err, unix.EEXIST) {
		t.Errorf("mapping over its text: %v", err)
	}
	v.mustProgress()
}

// BenchmarkAlone measures the largest gap that a lone thread feels in a call.
func BenchmarkAlone(b *testing.B) {
	tr := newTracer(b)
	v := startVictim(b, "alone")
	p := v.open()
	defer p.Close()
	var felt, noise []float64
	for b.Loop() {
		v.report()
		if err := tr.Attach(context.Background(), p, mapAndAsk(besides(v.answer))); err != nil {
			b.Fatal(err)
		}
		_, gap := v.report()
		felt = append(felt, float64(gap))
		if err := tr.Attach(context.Background(), p, unmap(besides(v.answer))); err != nil {
			b.Fatal(err)
		}
		v.report()
		_, gap = v.report()
		noise = append(noise, float64(gap))
	}
	b.ReportMetric(median(felt), "µs-felt")
	b.ReportMetric(median(noise), "µs-noise")
}
