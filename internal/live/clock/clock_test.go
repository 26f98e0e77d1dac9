package clock

import (
	"testing"
	"time"
)

func TestClockAgreesWithTime(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t0, start := Read(), time.Now()
	time.Sleep(50 * time.Millisecond)
	t1, end := Read(), time.Now()
	got, want := ticks(t1-t0, c.Hz), end.Sub(start)
	if d := (got - want).Abs(); d > want/50 {
		t.Errorf("counter says %v, clock %v", got, want)
	}
	if d := time.Until(c.At(Read())).Abs(); d > 5*time.Millisecond {
		t.Errorf("the counter's now is %v from the clock's", d)
	}
	if d := c.At(c.After(time.Hour)).Sub(time.Now().Add(time.Hour)).Abs(); d > 5*time.Millisecond {
		t.Errorf("an hour from now is off by %v", d)
	}
}

func TestSourcesAgree(t *testing.T) {
	m, err := measuredHz(20 * time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernelHz()
	if err != nil {
		t.Logf("the kernel does not tell: %v", err)
		return
	}
	if d := max(m, k) - min(m, k); d > k/1000 {
		t.Errorf("kernel says %d Hz, measured %d", k, m)
	}
}

// Values near the limits neither overflow nor panic.
func TestExtremes(t *testing.T) {
	for _, hz := range []uint64{1, 1e6, 2_500_000_000, ^uint64(0)} {
		c := &Clock{Hz: hz, TSC: 1 << 40, Time: time.Unix(1_790_000_000, 0)}
		for _, tsc := range []uint64{0, 1, 1 << 40, 1 << 63, ^uint64(0)} {
			c.At(tsc)
		}
		c.Mult()
		c.After(1<<63 - 1)
		c.After(-1)
	}
}
