package gate

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// pool is the workers of a gate. A worker guards one process at a time.
type pool struct {
	workers []*worker
	answers chan said
	config  *os.File // what a worker inherits
	pace    pace     // of holds
}

// said is an answer and whose it is.
type said struct {
	answer
	worker *worker
	ended  bool   // the process has ended
	begun  *begun // another one, which has been started
	err    error  // why none could be
	free   *hold  // let go of by the death of the worker
}

// maxWorkers bounds a pool: each has its own copy of what was read of the files.
const maxWorkers = 4

// restartPause is how long the gate waits before it replaces a process of its own
// that did not live for as long.
const restartPause = 500 * time.Millisecond

func startPool(c Config) (*pool, error) {
	p := &pool{answers: make(chan said, 16), pace: firstPace, config: os.NewFile(configFD, "config")}
	for range c.workers() {
		b, err := begin(p.config)
		if err != nil {
			p.kill()
			return nil, err
		}
		w := &worker{}
		w.take(b, p.answers)
		p.workers = append(p.workers, w)
	}
	return p, nil
}

// maxLearn bounds the files that a worker is told of at once; it finds out about
// others when it guards them.
const maxLearn = 64

// update has the workers learn of files that are not among the known ones. Workers
// that are started from now on know them all.
func (p *pool) update(c Config, known []File) error {
	config, err := configFile(c)
	if err != nil {
		return err
	}
	p.config.Close()
	p.config = config
	var learn []File
	for _, f := range c.Files {
		if !slices.ContainsFunc(known, func(k File) bool { return k.Dev == f.Dev && k.Inode == f.Inode }) {
			learn = append(learn, f)
		}
	}
	for _, w := range p.workers {
		w.learn = learn[:min(len(learn), maxLearn)]
	}
	p.teach()
	return nil
}

// teach has one worker at a time read the files that are new, while another one is
// there to guard.
func (p *pool) teach() {
	for _, w := range p.workers {
		if w.learning {
			return
		}
	}
	for _, w := range p.workers {
		if w.ready && w.at == nil && len(w.learn) > 0 && p.ready() > 1 && w.send(job{Learn: w.learn}) == nil {
			w.ready, w.learning, w.learn = false, true, nil
			return
		}
	}
}

// ready counts the workers that guard, or can.
func (p *pool) ready() (n int) {
	for _, w := range p.workers {
		if w.ready {
			n++
		}
	}
	return n
}

func (p *pool) anyReady() bool { return p.ready() > 0 }

// kill ends all workers, which lets go of what they hold.
func (p *pool) kill() {
	for _, w := range p.workers {
		w.kill(nobody)
	}
}

// holds are the execs that workers are at.
func (p *pool) holds() []*hold {
	var out []*hold
	for _, w := range p.workers {
		if w.at != nil {
			out = append(out, w.at)
		}
	}
	return out
}

// inTime tells whether an exec with so many ahead of it is likely to be guarded
// within so long. One that need not wait always gets its try: pace learns from it.
func (p *pool) inTime(ahead int, within time.Duration) bool {
	var free []time.Duration
	idle := 0
	for _, w := range p.workers {
		switch {
		case !w.ready:
		case w.at == nil:
			idle++
			free = append(free, 0)
		default:
			free = append(free, max(0, time.Duration(p.pace)-time.Since(w.at.given)))
		}
	}
	return idle > ahead || len(free) > 0 && p.pace.forecast(free, ahead) <= within
}

// give has a free worker begin with an exec; false when there is none.
func (p *pool) give(h *hold, within time.Duration) bool {
	for _, w := range p.workers {
		if w.ready && w.at == nil && w.send(job{Seq: h.seq, Tid: h.opening.tid, Use: h.use, Within: within}) == nil {
			h.given, w.at = time.Now(), h
			return true
		}
	}
	return false
}

// done takes a worker from what it was at.
func (p *pool) done(w *worker) {
	if !w.at.letGo {
		p.pace.took(time.Since(w.at.given))
	}
	w.at = nil
}

// giveUp kills the worker that is at h, which lets go of the process. When that has come to
// pass, or the worker has ended, an answer says so.
func (p *pool) giveUp(h *hold) {
	p.pace.tookMoreThan(time.Since(h.given))
	for _, w := range p.workers {
		if w.at == h {
			w.at = nil
			tracer := w.kill(h.opening.tid)
			go func() {
				awaitFree(h.opening.tid, tracer)
				p.answers <- said{worker: w, free: h}
			}()
		}
	}
}

// ended returns what the worker was at, and sees to another one, which comes as an
// answer.
func (p *pool) ended(w *worker) (*hold, error) {
	w.close()
	h := w.at
	w.at, w.ready, w.learning, w.learn = nil, false, false, nil
	pause := time.Duration(0)
	if time.Since(w.began) < restartPause {
		pause = restartPause
	}
	config, err := sameFile(p.config) // the pool may take another one meanwhile
	if err != nil {
		return h, fmt.Errorf("starting the worker: %w", err)
	}
	time.AfterFunc(pause, func() {
		defer config.Close()
		b, err := begin(config)
		p.answers <- said{worker: w, begun: &b, err: err}
	})
	return h, nil
}

// sameFile is another descriptor of a file.
func sameFile(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
