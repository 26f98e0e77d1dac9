// Package clock relates the processor's time stamp counter to the time of day.
//
// Guards stamp events and end trials by rdtsc, because they may make no system
// call. The counter is taken to be invariant and synchronised between
// processors, as the kernel requires before it offers the tsc clock source.
// Its frequency comes from the kernel's own calibration where perf_event_open(2)
// tells it (cap_user_time), else from a short measurement.
package clock

import (
	"fmt"
	"math/bits"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Clock converts between counter values and times.
type Clock struct {
	Hz   uint64    // ticks a second
	TSC  uint64    // the counter at Time
	Time time.Time // wall clock
	Mono uint64    // CLOCK_MONOTONIC at TSC, in ns
}

// Read returns the time stamp counter.
func Read() uint64 { return rdtsc() }

// New reads the clocks. The first call takes some milliseconds when the kernel
// does not tell the counter's frequency.
func New() (*Clock, error) {
	hz, err := frequency()
	if err != nil {
		return nil, fmt.Errorf("frequency of the time stamp counter: %w", err)
	}
	c := &Clock{Hz: hz}
	c.TSC, c.Mono, err = sample()
	if err != nil {
		return nil, fmt.Errorf("read CLOCK_MONOTONIC: %w", err)
	}
	c.Time = time.Now()
	return c, nil
}

// frequency is a constant of the machine.
var frequency = sync.OnceValues(func() (uint64, error) {
	if hz, err := kernelHz(); err == nil {
		return hz, nil
	}
	return measuredHz(4 * time.Millisecond)
})

// Between relates the two clocks from an earlier pair: the counter was at tsc at
// the time at. The frequency is that of the time since, when that is long
// enough to be better than hz, which was measured then.
func Between(tsc uint64, at time.Time, hz uint64) *Clock {
	c := &Clock{Hz: max(hz, 1), TSC: tsc, Time: at}
	now, age := Read(), time.Since(at)
	if age < 2*time.Second || now <= tsc {
		return c
	}
	hi, lo := bits.Mul64(now-tsc, 1e9)
	if hi >= uint64(age) {
		return c
	}
	long, _ := bits.Div64(hi, lo, uint64(age))
	if d := max(long, c.Hz) - min(long, c.Hz); d < c.Hz/1000 {
		c.Hz = max(long, 1)
	}
	return c
}

// At returns the time when the counter was at tsc.
func (c *Clock) At(tsc uint64) time.Time {
	if tsc < c.TSC {
		return c.Time.Add(-ticks(c.TSC-tsc, c.Hz))
	}
	return c.Time.Add(ticks(tsc-c.TSC, c.Hz))
}

// After returns the counter's value d from now; d must not be negative.
func (c *Clock) After(d time.Duration) uint64 {
	hi, lo := bits.Mul64(uint64(max(d, 0)), c.Hz)
	q, _ := bits.Div64(hi%1e9, lo, 1e9)
	return Read() + q
}

// Mult is nanoseconds a tick × 2^32: jit.ControlClockMult.
func (c *Clock) Mult() uint64 {
	return (1e9 << 32) / max(c.Hz, 1)
}

// ticks is the duration of n ticks, at most the longest Duration.
func ticks(n, hz uint64) time.Duration {
	hi, lo := bits.Mul64(n, 1e9)
	if hi >= hz {
		return 1<<63 - 1
	}
	q, _ := bits.Div64(hi, lo, hz)
	return time.Duration(min(q, 1<<63-1))
}

// kernelHz asks perf for the kernel's calibration: ns = ticks × mult >> shift.
func kernelHz() (uint64, error) {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY,
		Bits: unix.PerfBitDisabled | unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv,
	}
	attr.Size = uint32(unsafe.Sizeof(attr))
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("perf_event_open: %w", err)
	}
	defer unix.Close(fd)
	b, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("map perf event: %w", err)
	}
	defer unix.Munmap(b)
	page := (*unix.PerfEventMmapPage)(unsafe.Pointer(&b[0]))
	const userTime = 1 << 3 // cap_user_time, perf_event_open(2)
	if page.Capabilities&userTime == 0 || page.Time_mult == 0 || page.Time_shift > 63 {
		return 0, fmt.Errorf("perf_event_open: %w", unix.ENOTSUP)
	}
	hi, lo := bits.Mul64(1e9, 1<<page.Time_shift)
	if hi >= uint64(page.Time_mult) {
		return 0, fmt.Errorf("perf_event_open: multiplier %d: %w", page.Time_mult, unix.ERANGE)
	}
	hz, _ := bits.Div64(hi, lo, uint64(page.Time_mult))
	return hz, nil
}

// measuredHz counts ticks over d.
func measuredHz(d time.Duration) (uint64, error) {
	t0, n0, err := sample()
	if err != nil {
		return 0, err
	}
	time.Sleep(d)
	t1, n1, err := sample()
	if err != nil {
		return 0, err
	}
	if n1 <= n0 || t1 <= t0 {
		return 0, fmt.Errorf("the counter went from %d to %d in %d ns", t0, t1, n1-n0)
	}
	hi, lo := bits.Mul64(t1-t0, 1e9)
	hz, _ := bits.Div64(hi, lo, n1-n0)
	return hz, nil
}

// sample reads the counter and CLOCK_MONOTONIC together: the closest of a few
// tries.
func sample() (tsc, ns uint64, err error) {
	best := ^uint64(0)
	for range 5 {
		var ts unix.Timespec
		before := Read()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return 0, 0, err
		}
		if after := Read(); after-before < best {
			best, tsc, ns = after-before, before+(after-before)/2, uint64(ts.Nano())
		}
	}
	return tsc, ns, nil
}
