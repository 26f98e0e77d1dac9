package gate

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	gateName   = "pie-gate"
	workerName = "pie-hold"
)

// Descriptors of gate and worker.
const (
	configFD  = 3
	controlFD = 4 // of the gate: ends with the agent
	jobsFD    = 4 // of the worker: ends with the gate
)

func init() {
	if len(os.Args) != 1 {
		return
	}
	switch os.Args[0] {
	case gateName:
		os.Exit(keepGate())
	case workerName:
		os.Exit(work())
	case practiceName:
		os.Exit(beGuarded())
	}
}

// keeper is the gate process.
type keeper struct {
	config Config
	use    map[[2]uint64][]int // by device and inode
	group  *group
	out    *outbox

	openings chan opening
	worker   *worker
	waiting  []*hold // in the order of their events
	seq      int
	seizing  time.Duration    // seizeTime
	restart  <-chan time.Time // when to start a worker again; nil while there is one
}

// hold is one exec from its event to the end.
type hold struct {
	seq     int
	opening opening
	use     []int
	began   time.Time
	allowed bool
	given   time.Time // to the worker; zero before
	letGo   bool      // by the worker, which guards it as it runs
}

// keepGate is the gate process's main function.
func keepGate() int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGTSTP, unix.SIGPIPE)
	const onFault = 4                                               // MCL_ONFAULT: what is in memory stays there
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | onFault) // without the right to, it may wait for a page
	hurry(-15)
	k := &keeper{out: newOutbox(1), openings: make(chan opening, 4096), use: map[[2]uint64][]int{}, seizing: seizeTime()}
	if err := k.prepare(); err != nil {
		k.out.send(Report{Kind: Unavailable, Error: err.Error()})
		return 1
	}
	ended := make(chan struct{})
	go func() {
		var b [1]byte
		for {
			if n, err := unix.Read(controlFD, b[:]); err != unix.EINTR && n <= 0 {
				close(ended)
				return
			}
		}
	}()
	go k.listen()
	k.run(ended)
	return 0
}

// hurry lets the process go before others on a busy machine: its threads within
// their session, and its session before others where sessions are scheduled as
// groups (sched(7), autogroups).
func hurry(nice int) {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice)
		}
	}
	_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
}

func (k *keeper) prepare() (err error) {
	if k.config, err = readConfig(); err != nil {
		return err
	}
	if k.group, err = openGroup(); err != nil {
		return err
	}
	k.startWorker()
	var notes []string
	for _, f := range k.config.Files {
		if err := k.group.mark(f); err != nil {
			notes = append(notes, err.Error())
			continue
		}
		k.use[[2]uint64{f.Dev, f.Inode}] = f.Use
	}
	k.out.send(Report{Kind: Ready, Marked: len(k.use), Notes: notes})
	return nil
}

// readConfig reads what the agent left in memory.
func readConfig() (c Config, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(configFD, &st); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	b := make([]byte, st.Size)
	if _, err := unix.Pread(configFD, b, 0); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if c.Limit <= 0 || c.Limit > MaxLimit {
		c.Limit = MaxLimit
	}
	return c, nil
}

// listen reads events. It does nothing else, so that the time of an event is
// known.
func (k *keeper) listen() {
	buf := make([]byte, 64<<10)
	for {
		all, err := k.group.read(buf)
		if err != nil {
			k.out.send(Report{Kind: Broken, Error: err.Error()})
			os.Exit(1) // the kernel allows all that wait
		}
		for _, o := range all {
			k.openings <- o
		}
	}
}

// run answers until the agent ends.
func (k *keeper) run(ended <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	for {
		timer.Reset(k.nextDeadline())
		select {
		case <-ended:
			if k.worker != nil {
				_ = k.worker.process.Process.Kill()
			}
			return
		case o := <-k.openings:
			k.hold(o)
		case m, ok := <-k.worker.answers():
			if !ok {
				k.workerEnded()
				continue
			}
			k.answer(m)
		case <-k.restart:
			k.restart = nil
			k.startWorker()
		case <-timer.C:
			k.expire()
		}
	}
}

// hold begins with one exec.
func (k *keeper) hold(o opening) {
	o.identify()
	use := k.use[[2]uint64{o.dev, o.inode}]
	k.seq++
	h := &hold{seq: k.seq, opening: o, use: use, began: time.Now()}
	if len(use) == 0 || o.tid <= 0 {
		k.allow(h)
		return
	}
	k.waiting = append(k.waiting, h)
	k.give()
}

// give has the worker begin with the first exec that waits.
func (k *keeper) give() {
	if k.worker == nil || !k.worker.ready || len(k.waiting) == 0 || k.waiting[0].isGiven() {
		return
	}
	h := k.waiting[0]
	if k.worker.send(job{Seq: h.seq, Tid: h.opening.tid, Use: h.use, Within: k.left(h)}) == nil {
		h.given = time.Now()
	}
}

func (h *hold) isGiven() bool { return !h.given.IsZero() }

// reserve is how long before the limit the gate answers, so that what it does
// then still lies within the limit.
const reserve = 3 * time.Millisecond

// left is how long an exec may still wait; one that runs waits for nothing, but
// its worker has to be done some time.
func (k *keeper) left(h *hold) time.Duration {
	limit := k.config.Limit - reserve
	if h.letGo {
		limit = k.config.Limit + 2*workTime
	}
	return limit - time.Since(h.began)
}

func (k *keeper) nextDeadline() time.Duration {
	next := time.Hour
	for _, h := range k.waiting {
		next = min(next, k.left(h))
		if h.isGiven() && !h.allowed {
			next = min(next, k.seizing-time.Since(h.given))
		}
	}
	return max(0, next)
}

// seizeTime is how long the worker may take to seize a thread before the exec is
// allowed anyway. Before Linux 6.8 the kernel opens the file with the lock taken
// that PTRACE_SEIZE waits for, and so it does for the interpreter of a script:
// there the seize succeeds once the exec goes on, mostly before it is over.
func seizeTime() time.Duration {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) == nil {
		_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	}
	if major < 6 || major == 6 && minor < 8 {
		return 2 * time.Millisecond
	}
	return 15 * time.Millisecond
}

func (k *keeper) allow(h *hold) {
	if !h.allowed {
		h.allowed = true
		k.group.allow(h.opening)
	}
}

// answer takes what the worker says.
func (k *keeper) answer(m answer) {
	if m.Ready {
		k.worker.ready = true
		k.give()
		return
	}
	if len(k.waiting) == 0 || k.waiting[0].seq != m.Seq {
		return
	}
	h := k.waiting[0]
	k.allow(h)
	h.letGo = h.letGo || m.LetGo
	if !m.Done {
		return
	}
	for _, r := range m.Reports {
		r.Held = time.Since(h.began)
		k.out.send(r)
	}
	k.waiting = k.waiting[1:]
	k.give()
}

// expire lets go of execs whose time is over. A worker that is at one is killed,
// which lets go of the process it holds.
func (k *keeper) expire() {
	var still []*hold
	for _, h := range k.waiting {
		if h.isGiven() && time.Since(h.given) >= k.seizing {
			k.allow(h)
		}
		if k.left(h) > 0 {
			still = append(still, h)
			continue
		}
		k.allow(h)
		if h.isGiven() {
			_ = k.worker.process.Process.Kill()
			k.worker.ready = false
		}
		k.out.send(Report{Kind: Late, Pid: h.opening.tid, Held: time.Since(h.began)})
	}
	k.waiting = still
	k.give()
}

// restartPause is how long the gate waits before it replaces a worker that did
// not live for as long.
const restartPause = 500 * time.Millisecond

// workerEnded starts another worker. The process that it held goes on.
func (k *keeper) workerEnded() {
	if len(k.waiting) > 0 && k.waiting[0].isGiven() {
		h := k.waiting[0]
		k.waiting = k.waiting[1:]
		k.allow(h)
		k.out.send(Report{Kind: Late, Pid: h.opening.tid, Held: time.Since(h.began)})
	}
	lived := time.Since(k.worker.began)
	k.worker = nil
	if lived < restartPause {
		k.restart = time.After(restartPause)
		return
	}
	k.startWorker()
}

// startWorker starts the worker. A gate that cannot ends: the agent starts
// another.
func (k *keeper) startWorker() {
	var err error
	if k.worker, err = startWorker(); err != nil {
		k.out.send(Report{Kind: Broken, Error: err.Error()})
		os.Exit(1)
	}
}
