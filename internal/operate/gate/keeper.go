package gate

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

const (
	gateName   = "pie-gate"
	workerName = "pie-hold"
	secondName = "pie-second"
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
	case secondName:
		os.Exit(watchGate())
	case practiceName:
		os.Exit(beGuarded())
	}
}

// keeper is the gate process.
type keeper struct {
	config Config
	files  *executables
	group  *group
	out    *outbox
	duty   *duty // what the second sees

	openings chan reading
	updates  chan update
	pool     *pool
	waiting  []*hold // that no worker has begun with, in the order of their events
	seq      int
	seizing  time.Duration // seizeTime
}

// reading is what one read of the group gave.
type reading struct {
	at  time.Time
	all []opening
}

// hold is one exec from its event to the end.
type hold struct {
	seq     int
	opening opening
	use     []int
	began   time.Time
	limit   time.Duration
	allowed bool
	seized  bool          // by the worker
	given   time.Time     // to a worker; zero before
	letGo   bool          // by the worker, which guards it as it runs
	held    time.Duration // until then
}

// keepGate is the gate process's main function.
func keepGate() int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGTSTP, unix.SIGPIPE)
	lockMemory()
	hurry(-15)
	preempt(gateLevel)
	k := &keeper{out: newOutbox(1), openings: make(chan reading, 1), updates: make(chan update), seizing: seizeTime()}
	if err := k.prepare(); err != nil {
		k.out.send(Report{Kind: Unavailable, Error: err.Error()})
		return 1
	}
	go k.takeOrders()
	go k.listen()
	k.run()
	return 0
}

// update is what the agent sends to a gate that runs.
type update struct{ Files []File }

// takeOrders reads what the agent sends, until it ends, or closes the gate.
func (k *keeper) takeOrders() {
	in := json.NewDecoder(os.NewFile(controlFD, "control"))
	for {
		var u update
		if in.Decode(&u) != nil {
			close(k.updates)
			return
		}
		k.updates <- u
	}
}

// prepare marks the executables last: when the first exec is held, everybody who
// is to answer for it is there.
func (k *keeper) prepare() (err error) {
	if k.config, err = readConfig(); err != nil {
		return err
	}
	if k.group, err = openGroup(); err != nil {
		return err
	}
	var s *second
	if s, k.duty, err = newSecond(k.group); err != nil {
		return err
	}
	if err := s.keep(k.end); err != nil {
		return err
	}
	if k.pool, err = startPool(k.config); err != nil {
		return err
	}
	k.awaitWorker()
	k.files = newExecutables(k.group)
	notes := k.files.set(k.config.Files)
	k.group.ignore("/proc/self/exe") // a worker that is started anew must not wait for its gate
	k.out.send(Report{Kind: Ready, Marked: len(k.files.use), Notes: notes})
	return nil
}

// readyTime is how long the executables stay unmarked for want of a worker.
const readyTime = 5 * time.Second

// awaitWorker returns when there is a worker that is ready.
func (k *keeper) awaitWorker() {
	for end := time.After(readyTime); !k.pool.anyReady(); {
		select {
		case s := <-k.pool.answers:
			k.answer(s)
		case <-end:
			return
		}
	}
}

// update holds other files for the same prepatches.
func (k *keeper) update(u update) {
	known := k.config.Files
	k.config.Files = u.Files
	notes := k.files.set(u.Files)
	if err := k.pool.update(k.config, known); err != nil {
		k.end(err)
	}
	k.out.send(Report{Kind: Ready, Marked: len(k.files.use), Notes: notes})
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

// end ends the gate because it cannot do what it is for: the kernel allows all that
// wait, and the agent starts another gate.
func (k *keeper) end(why error) {
	k.out.send(Report{Kind: Broken, Error: why.Error()})
	os.Exit(1)
}

// listen reads events. It does nothing else, so that the time of an event is
// known.
func (k *keeper) listen() {
	buf := make([]byte, 64<<10)
	for {
		if err := k.group.await(); err != nil {
			k.end(err)
		}
		k.duty.reading(k.config.Limit)
		at := time.Now()
		all, err := k.group.read(buf)
		if err != nil {
			k.end(err)
		}
		k.openings <- reading{at, all}
	}
}

// run answers until the agent ends.
func (k *keeper) run() {
	timer := time.NewTimer(time.Hour)
	for {
		left := k.nextDeadline()
		k.duty.until(k.firstLimit())
		if k.out.mustTell() {
			left = min(left, lostInterval)
		}
		timer.Reset(left)
		select {
		case u, ok := <-k.updates:
			if !ok {
				k.pool.kill()
				return
			}
			k.update(u)
		case r := <-k.openings:
			for _, o := range r.all {
				k.hold(o, r.at)
			}
			k.duty.took()
		case s := <-k.pool.answers:
			k.answer(s)
		case <-timer.C:
			k.expire()
			k.out.tellLost()
		}
	}
}

// hold begins with one exec, which was read of at a time.
func (k *keeper) hold(o opening, at time.Time) {
	use := k.files.opened(&o)
	k.seq++
	h := &hold{seq: k.seq, opening: o, use: use, began: at, limit: k.config.Limit - reserve}
	if len(use) == 0 || o.tid <= 0 {
		k.allow(h)
		return
	}
	if !k.pool.inTime(len(k.waiting), k.left(h)-spare) {
		k.tooLate(h) // at once: to wait would be in vain
		return
	}
	k.waiting = append(k.waiting, h)
	k.give()
}

// give has workers begin with the first execs that wait.
func (k *keeper) give() {
	for len(k.waiting) > 0 {
		h := k.waiting[0]
		switch {
		case k.inVain(h):
			k.tooLate(h)
		case !k.pool.give(h, k.left(h)):
			return
		}
		k.waiting = k.waiting[1:]
	}
	k.pool.teach()
}

// inVain tells whether an exec has waited for so much longer than was foreseen that a hold
// that begins now would take less than half of what is usual.
func (k *keeper) inVain(h *hold) bool {
	left := k.left(h) - spare
	return left < time.Duration(k.pool.pace)/2 && left < (h.limit-spare)/2
}

// tooLate lets go of an exec that nobody came to in time. The agent guards it as
// it runs.
func (k *keeper) tooLate(h *hold) {
	k.allow(h)
	if !h.letGo {
		h.held = time.Since(h.began)
	}
	k.out.send(Report{Kind: Late, Pid: h.opening.tid, Held: h.held})
}

// reserve is how long before the limit the gate answers, so that what it does then, and
// how long it may wait for a processor on a busy machine, still lies within the limit.
const reserve = 7 * time.Millisecond

// left is how long an exec may still wait; one that runs waits for nothing, but
// its worker has to be done some time.
func (k *keeper) left(h *hold) time.Duration {
	limit := h.limit
	if h.letGo {
		limit = k.config.Limit + 2*workTime
	}
	return limit - time.Since(h.began)
}

// nextDeadline says when something is to be done if nothing happens before.
func (k *keeper) nextDeadline() time.Duration {
	next := time.Hour
	for _, h := range append(k.pool.holds(), k.waiting...) {
		next = min(next, k.left(h))
		if !h.given.IsZero() && !h.allowed {
			next = min(next, k.seizing-time.Since(h.given))
		}
	}
	return max(0, next)
}

// firstLimit says when the first of those that are held may be held no more; held
// is false when none is.
func (k *keeper) firstLimit() (left time.Duration, held bool) {
	for _, h := range append(k.pool.holds(), k.waiting...) {
		if own := k.left(h) + reserve; !h.letGo && (!held || own < left) {
			left, held = own, true
		}
	}
	return left, held
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

// answer takes what a worker says.
func (k *keeper) answer(s said) {
	switch {
	case s.free != nil:
		k.tooLate(s.free)
	case s.err != nil:
		k.end(s.err)
	case s.begun != nil:
		s.worker.take(*s.begun, k.pool.answers)
	case s.ended:
		h, err := k.pool.ended(s.worker)
		if h != nil {
			k.tooLate(h) // it was held by the one that ended, and goes on
		}
		if err != nil {
			k.end(err)
		}
	case s.Ready:
		s.worker.ready, s.worker.learning = true, false
	case s.worker.at != nil && s.worker.at.seq == s.Seq:
		k.done(s)
	}
	k.give()
}

// done takes a worker's word on the exec it is at.
func (k *keeper) done(s said) {
	h := s.worker.at
	h.seized = true
	k.allow(h)
	if s.LetGo && !h.letGo {
		k.released(h)
	}
	if !s.Done {
		return
	}
	if !h.letGo {
		h.held = time.Since(h.began)
	}
	for _, r := range s.Reports {
		r.Held = h.held
		k.out.send(r)
	}
	k.pool.done(s.worker)
}

// released notes that the worker has let go of a process, which it guards as it runs.
func (k *keeper) released(h *hold) {
	h.letGo, h.held = true, time.Since(h.began)
	k.pool.pace.tookMoreThan(time.Since(h.given))
}

// hear takes what the workers have said already.
func (k *keeper) hear() {
	for {
		select {
		case s := <-k.pool.answers:
			k.answer(s)
		default:
			return
		}
	}
}

// expire lets go of execs whose time is over. A worker that is at one is killed,
// which lets go of the process it holds; not one that has let go of it and has not come to
// say so yet, for another takes some tenths of a second until it guards.
func (k *keeper) expire() {
	k.hear()
	for _, h := range k.pool.holds() {
		if time.Since(h.given) >= k.seizing {
			k.allow(h)
		}
		if k.left(h) <= 0 && !h.letGo && h.seized && !traced(h.opening.tid) {
			k.released(h)
		}
		if k.left(h) <= 0 {
			k.allow(h)
			k.pool.giveUp(h)
		}
	}
	var still []*hold
	for _, h := range k.waiting {
		if k.left(h) > 0 {
			still = append(still, h)
			continue
		}
		k.tooLate(h)
	}
	k.waiting = still
	k.give()
}
