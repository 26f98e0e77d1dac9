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
		pool: &pool{workers: []*worker{c.worker}, pace: firstPace}, seizing: MaxLimit,
	}
	return c
}

// exec is one start of the program.
func (c *crowd) exec(t *testing.T) {
	t.Helper()
	c.execBy(t, 1)
}

// execBy is one start of the program by a thread.
func (c *crowd) execBy(t *testing.T, tid int) {
	t.Helper()
	fd, err := unix.Open(c.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.hold(opening{fd: fd, tid: tid}, time.Now())
}

// told is the next report.
func (c *crowd) told(t *testing.T) (r Report) {
	t.Helper()
	if !c.reports.Scan() || json.Unmarshal(c.reports.Bytes(), &r) != nil {
		t.Fatal("no report")
	}
	return r
}

// While more start than can be guarded, as many are held as can be guarded within the
// limit, all workers work, and those beyond are let go of at once and told.
func TestCrowd(t *testing.T) {
	c := newCrowd(t)
	c.pool.workers = append(c.pool.workers, &worker{socket: c.worker.socket, ready: true})
	room := MaxLimit - reserve - spare
	const execs, turns = 20, 2
	c.pool.pace = pace(room / turns)
	held := 0
	for range execs {
		c.exec(t)
		if n := len(c.waiting) + len(c.pool.holds()); n > held {
			held = n
			continue
		}
		if r := c.told(t); r.Kind != Late || r.Held > time.Second {
			t.Fatalf("one too many: %+v", r)
		}
	}
	if held != 2*turns || len(c.pool.holds()) != 2 {
		t.Errorf("%d are held, %d by workers; within %v each worker comes to %d", held, len(c.pool.holds()), room, turns)
	}
	if next := c.nextDeadline(); next > MaxLimit-reserve {
		t.Errorf("the next look is %v away", next)
	}
	for _, h := range c.waiting {
		h.began = h.began.Add(-MaxLimit)
	}
	for _, h := range c.pool.holds() {
		h.began = time.Now() // however slow the machine that tests
	}
	waited := len(c.waiting)
	c.expire()
	for range waited {
		if r := c.told(t); r.Kind != Late || r.Held < MaxLimit {
			t.Errorf("after the limit: %+v", r)
		}
	}
	if len(c.waiting) != 0 || len(c.pool.holds()) != 2 {
		t.Errorf("after the limit %d wait, %d are held", len(c.waiting), len(c.pool.holds()))
	}
}

// The slower holds have become, the fewer wait. Who need not wait has its try all the
// same: were it not so, nobody would notice when holds become faster again.
func TestSlowHolds(t *testing.T) {
	c := newCrowd(t)
	c.pool.pace = pace(2 * MaxLimit)
	c.exec(t)
	h := c.worker.at
	if h == nil || h.limit != MaxLimit-reserve {
		t.Fatalf("alone, an exec may be held for %+v", h)
	}
	c.exec(t)
	if r := c.told(t); r.Kind != Late || len(c.waiting) != 0 {
		t.Errorf("behind a slow one: %+v, %d wait", r, len(c.waiting))
	}
	before := c.pool.pace
	c.answer(said{answer: answer{Seq: h.seq, LetGo: true}, worker: c.worker})
	if c.pool.pace < before {
		t.Error("a hold in vain is taken for a fast one")
	}
	c.answer(said{answer: answer{Seq: h.seq, Done: true}, worker: c.worker})
	for range 100 {
		c.exec(t)
		c.answer(said{answer: answer{Seq: c.worker.at.seq, Done: true}, worker: c.worker})
	}
	c.exec(t)
	if c.exec(t); len(c.waiting) != 1 {
		t.Errorf("after a hundred that were fast, %d wait (a hold takes %v)", len(c.waiting), time.Duration(c.pool.pace))
	}
}

// An exec that has waited so long that a hold would hardly come to its end is let go of
// when its turn comes, not held in vain.
func TestTurnInVain(t *testing.T) {
	c := newCrowd(t)
	c.exec(t)
	c.exec(t)
	c.exec(t)
	if len(c.waiting) != 2 {
		t.Fatalf("%d wait", len(c.waiting))
	}
	c.waiting[0].began = time.Now().Add(-MaxLimit + reserve + spare + time.Millisecond)
	next := c.waiting[1]
	c.answer(said{answer: answer{Seq: c.worker.at.seq, Done: true}, worker: c.worker})
	if r := c.told(t); r.Kind != Late || c.worker.at != next || len(c.waiting) != 0 {
		t.Errorf("%+v; the worker is at %+v, %d wait", r, c.worker.at, len(c.waiting))
	}
}

// A worker that has let go of a process, and has not said so yet, is not killed for it.
func TestLetGoUnsaid(t *testing.T) {
	c := newCrowd(t)
	c.execBy(t, os.Getpid()) // whom nobody traces
	h := c.worker.at
	h.seized = true
	h.began = time.Now().Add(-MaxLimit)
	if c.expire(); c.worker.at != h || !c.worker.ready || !h.letGo || h.held < MaxLimit {
		t.Errorf("the worker is at %+v, ready %v; %+v", c.worker.at, c.worker.ready, h)
	}
}

// A worker that is not done long after it has let go of a process is given up, and the
// process was held until it was let go of, not until then.
func TestLetGoLongAgo(t *testing.T) {
	c := newCrowd(t)
	c.pool.answers = make(chan said, 1)
	c.execBy(t, os.Getpid()) // whom nobody traces
	h := c.worker.at
	h.seized, h.letGo, h.held = true, true, 3*time.Millisecond
	h.began = time.Now().Add(-MaxLimit - 2*workTime)
	if c.expire(); c.worker.at != nil {
		t.Fatalf("the worker is at %+v", c.worker.at)
	}
	c.answer(<-c.pool.answers)
	if r := c.told(t); r.Kind != Late || r.Held != 3*time.Millisecond {
		t.Errorf("%+v", r)
	}
}

func TestForecast(t *testing.T) {
	p := pace(10)
	for _, tt := range []struct {
		free  []time.Duration
		ahead int
		want  time.Duration
	}{
		{[]time.Duration{0}, 0, 10},
		{[]time.Duration{7}, 0, 17},
		{[]time.Duration{7}, 2, 37},
		{[]time.Duration{7, 0}, 0, 10},
		{[]time.Duration{7, 0}, 1, 17},
		{[]time.Duration{7, 0}, 2, 20},
		{[]time.Duration{7, 0}, 3, 27},
	} {
		if got := p.forecast(tt.free, tt.ahead); got != tt.want {
			t.Errorf("%v, %d ahead: %d, not %d", tt.free, tt.ahead, got, tt.want)
		}
	}
}
