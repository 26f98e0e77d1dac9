package gate

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowd is a keeper without a kernel: its one worker is a socket, execs come from the
// test, and nobody waits for an answer.
type crowd struct {
	*keeper
	worker  *worker
	file    string
	reports *bufio.Scanner
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]); read.Close(); write.Close() })
	c := &crowd{file: filepath.Join(t.TempDir(), "program"), worker: &worker{socket: pair[0], ready: true}, reports: bufio.NewScanner(read)}
	if err := os.WriteFile(c.file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(c.file, &st); err != nil {
		t.Fatal(err)
	}
	nobody := &group{fd: -1}
	files := newExecutables(nobody)
	files.use[fileID{st.Dev, st.Ino}] = []int{0}
	c.keeper = &keeper{
		config: Config{Limit: MaxLimit}, files: files, group: nobody, out: newOutbox(int(write.Fd())),
		pool: &pool{workers: []*worker{c.worker}, usual: firstUsual}, seizing: MaxLimit,
	}
	return c
}

// exec is one start of the program.
func (c *crowd) exec(t *testing.T) {
	t.Helper()
	fd, err := unix.Open(c.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.hold(opening{fd: fd, tid: 1}, time.Now())
}

// told is the next report.
func (c *crowd) told(t *testing.T) (r Report) {
	t.Helper()
	if !c.reports.Scan() || json.Unmarshal(c.reports.Bytes(), &r) != nil {
		t.Fatal("no report")
	}
	return r
}

// In a crowd half of the workers hold, and after a hold that was in vain none does for a
// while, which grows until one comes to its end in time. Who comes alone has its try.
func TestCrowdRests(t *testing.T) {
	c := newCrowd(t)
	idle := &worker{socket: c.worker.socket, ready: true}
	c.pool.workers, c.pool.usual = append(c.pool.workers, idle), firstUsual/4
	c.crowded = time.Now()
	c.exec(t)
	c.exec(t)
	if c.worker.at == nil || idle.at != nil || len(c.waiting) != 1 {
		t.Fatalf("of two workers, %d wait: %+v, %+v", len(c.waiting), c.worker.at, idle.at)
	}
	c.waiting = nil
	done := said{answer: answer{Seq: c.worker.at.seq, Done: true}, worker: c.worker}
	for _, want := range []time.Duration{firstPause, 2 * firstPause, 4 * firstPause} {
		done.Seq, done.LetGo = c.worker.at.seq, true
		if c.answer(done); c.pool.pause != want {
			t.Fatalf("holds rest for %v, not %v", c.pool.pause, want)
		}
		c.exec(t)
		if r := c.told(t); r.Kind != Late || c.worker.at != nil {
			t.Fatalf("while holds rest: %+v, %+v", r, c.worker.at)
		}
		c.pool.rested = time.Now()
		c.exec(t)
		if c.worker.at == nil {
			t.Fatal("the rest does not end")
		}
	}
	c.pool.inVain()
	c.crowded = time.Now().Add(-crowdTime)
	c.exec(t)
	if idle.at == nil {
		t.Error("who comes alone, soon after a hold in vain, is not held")
	}
	done.Seq, done.LetGo = c.worker.at.seq, false
	if c.answer(done); c.pool.pause != 0 {
		t.Errorf("after one in time, holds rest for %v", c.pool.pause)
	}
}

// While more start than can be guarded in time, those beyond are let go of at once and
// told, and those that are held are held for half the limit; a second after the last
// was let go of, for the whole again.
func TestCrowd(t *testing.T) {
	c := newCrowd(t)
	c.exec(t)
	first := c.worker.at
	if first == nil || first.limit != MaxLimit-reserve {
		t.Fatalf("alone, an exec may be held for %+v", first)
	}
	c.pool.usual = MaxLimit // two turns are more than an exec may wait
	c.exec(t)
	if r := c.told(t); r.Kind != Late || r.Held > time.Second || len(c.waiting) != 0 {
		t.Errorf("one too many: %+v, %d wait", r, len(c.waiting))
	}
	c.pool.usual = firstUsual / 2
	c.exec(t)
	if len(c.waiting) != 1 || c.waiting[0].limit != MaxLimit/2 {
		t.Fatalf("in a crowd: %+v", c.waiting)
	}
	if next := c.nextDeadline(); next > MaxLimit/2 {
		t.Errorf("the next look is %v away", next)
	}
	c.waiting[0].began = time.Now().Add(-MaxLimit / 2)
	c.expire()
	if r := c.told(t); r.Kind != Late || len(c.waiting) != 0 || c.worker.at != first {
		t.Errorf("after half the limit: %+v, %d wait", r, len(c.waiting))
	}
	c.crowded = c.crowded.Add(-crowdTime)
	c.exec(t)
	if len(c.waiting) != 1 || c.waiting[0].limit != MaxLimit-reserve {
		t.Errorf("after the crowd: %+v", c.waiting)
	}
}
