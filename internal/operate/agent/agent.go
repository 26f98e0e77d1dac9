// Package agent keeps prepatches where a policy says they belong: in processes
// that run, in processes as they start, after restarts and upgrades, until the
// rule or the prepatch ends.
//
// What is in a process is written in that process and nowhere else. So the agent
// may be killed, upgraded and started again at any time: it looks at the
// processes and goes on. It never undoes what it finds beyond its policy, and it
// leaves alone what an operator has switched off.
//
// Processes are found in three ways. Where the kernel allows it, a gate holds a
// new process until it is guarded (package gate). The kernel's process connector
// tells of every other execution, such as that of a program which no rule names by its
// file; where it is not to be had, /proc is read every second. And a pass over all
// processes, once a minute and at every change of the policy, catches the rest. What a
// process may have done before it was guarded is measured, as the time from its
// execution, and shown: the unguarded window.
//
// The agent stops nobody itself: a process of its own makes its changes (changer.go),
// and may be killed by its watchdog without the agent.
//
// All state belongs to the goroutine of Run. Others ask it through requests.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/gate"
	"github.com/patch-integration-engine/pie/internal/operate/policy"
)

// Config is how an agent is started.
type Config struct {
	Policy     string // path of the policy file
	Prepatches string // folder with prepatches beside the catalogue's; may not exist
	Version    string
	Log        *slog.Logger
	// PollOnly leaves new processes unheld and the connector unused, as on a
	// machine that offers neither.
	PollOnly bool
}

// Intervals of what is not told by an event.
const (
	passInterval = time.Minute     // all of /proc, with a source of execs
	pollInterval = time.Second     // all of /proc, without; and libraries that are still to be loaded
	fileInterval = 2 * time.Second // policy and prepatches, by their time of change
	logInterval  = 5 * time.Second // what guards did since
)

// Agent is a running agent.
type Agent struct {
	c       Config
	log     *slog.Logger
	changer changer
	started time.Time

	rules     []*rule
	policyErr error
	stamp     string // of the policy and the prepatches as they were read
	// stampBefore is what it was when they were last looked at.
	stampBefore string
	now         func() time.Time // the clock that days are counted by
	suspended   map[string]bool
	kept        map[key]*Process
	sources     map[string]*prepatch

	gate         *gate.Gate
	gateFor      held
	gateErr      error
	holds        map[[2]uint64]bool // the files it holds, by device and inode
	named        []string           // the paths of those it was told of
	gaveUpOn     map[int]time.Time  // processes that the gate let go of, whose exec was not told of yet
	longestHold  time.Duration
	toldFollowed bool             // why holds take longer here was told
	pending      []execution      // execs of such files that the gate has not told of yet
	toDo         []execution      // those to attend to, the oldest first
	around       map[string]bool  // prepatches whose processes may have forked unguarded
	aroundDue    <-chan time.Time // when they are gone through; nil: not
	aroundTook   time.Duration    // the last time
	starts       Starts
	looked       bool       // all processes were gone through once
	missed       bool       // execs or reports were lost: all processes are to be looked at
	watch        *execWatch // nil: /proc is polled
	watchErr     error
	dirs         *dirWatch
	rejected     map[string]uint64 // by family and guard: what the log has told of

	requests  chan func() // whole turns of Run's
	questions chan func() // answered also while all processes are gone through
	Stats     *Stats
}

// rule is a rule of the policy and what it refers to.
type rule struct {
	policy.Rule
	prepatch *prepatch
	over     string    // why it is no longer kept up; empty while it is
	since    time.Time // when it began to be
}

// New reads the policy and starts what the agent works with. An error says that
// the policy or a prepatch it names cannot be used: an agent does not start with
// half a policy.
func New(c Config) (*Agent, error) {
	a := &Agent{
		c: c, log: c.Log, started: time.Now(), suspended: map[string]bool{}, kept: map[key]*Process{}, gaveUpOn: map[int]time.Time{},
		now: time.Now, around: map[string]bool{}, rejected: map[string]uint64{}, requests: make(chan func()), questions: make(chan func()), Stats: newStats(),
	}
	a.changer.log, a.changer.wait = c.Log, orderTime
	if err := a.load(); err != nil {
		return nil, err
	}
	return a, nil
}

// Rules counts the rules that were read.
func (a *Agent) Rules() int { return len(a.rules) }

// Over names the rules that keep nothing: their last day, or their prepatch's, has
// passed at now. That is no mistake, and what it guarded is taken out.
func (a *Agent) Over(now time.Time) []string {
	var over []string
	for _, r := range a.rules {
		if why := r.overAt(now); why != "" {
			over = append(over, fmt.Sprintf("%s:%d: %s: %s", a.c.Policy, r.Line, r.ID, why))
		}
	}
	return over
}

// overAt says why the rule is no longer kept up at now; empty while it is.
func (r *rule) overAt(now time.Time) string {
	switch {
	case r.Over(now):
		return "the rule's last day is over"
	case r.prepatch.expired(now):
		return "the prepatch has expired"
	}
	return ""
}

// Run keeps the policy until ctx ends. Guarded processes stay guarded.
func (a *Agent) Run(ctx context.Context) error {
	defer a.changer.close()
	defer a.closeGate()
	a.watchExecs()
	defer a.watch.close()
	a.watchDirs()
	defer a.dirs.close()
	a.log.Info("agent started", "version", a.c.Version, "policy", a.c.Policy, "rules", len(a.rules))
	names, lost, _ := missingRights()
	for i := range names {
		a.log.Warn("a capability is missing", "capability", names[i], "consequence", lost[i])
	}
	a.rehold()
	a.pass(ctx)
	a.looked = true
	passes, polls := time.NewTicker(a.passEvery()), time.NewTicker(pollInterval)
	files, logs := time.NewTicker(fileInterval), time.NewTicker(logInterval)
	for _, t := range []*time.Ticker{passes, polls, files, logs} {
		defer t.Stop()
	}
	for {
		a.hear(ctx)
		select {
		case <-ctx.Done():
			a.log.Info("agent ends; guarded processes stay guarded")
			return nil
		case f := <-a.requests:
			f()
		case f := <-a.questions:
			f()
		case e := <-a.watch.execs():
			a.execSeen(e)
		case r, ok := <-a.reports():
			a.gateSays(r, ok)
		case <-a.work():
			a.attend(ctx)
		case <-a.aroundDue:
			a.lookAround(ctx)
		case <-a.dirs.changes():
			a.rehold()
		case <-passes.C:
			a.rehold()
			a.pass(ctx)
		case <-polls.C:
			a.catchUp(ctx)
			a.lookAgain()
			a.awaitLibraries(ctx)
			a.settleYoung(ctx)
		case <-files.C:
			a.filesTurn(ctx)
		case <-logs.C:
			a.logCounts(ctx)
		}
	}
}

// catchUp looks at all processes when more happened than could be told.
func (a *Agent) catchUp(ctx context.Context) {
	if a.watch.lost() {
		a.missed = true
	}
	if a.missed {
		a.missed = false
		a.log.Warn("more programs started than could be followed; all processes are looked at")
		a.pass(ctx)
	}
}

func (a *Agent) passEvery() time.Duration {
	if a.watch == nil {
		return pollInterval
	}
	return passInterval
}

// reload takes a changed policy, or says why it stays with the one it has.
func (a *Agent) reload(ctx context.Context) error {
	stamp := a.stampNow()
	if err := a.load(); err != nil {
		if a.policyErr == nil || a.policyErr.Error() != err.Error() {
			a.log.Error("the policy is not taken; the one in force stays", "policy", a.c.Policy, "error", err)
		}
		a.policyErr, a.stamp = err, stamp
		return err
	}
	a.log.Info("policy taken", "policy", a.c.Policy, "rules", len(a.rules))
	clear(a.suspended)
	for k, p := range a.kept {
		if p.State != Guarded {
			delete(a.kept, k) // tried again
		}
	}
	a.rehold()
	a.pass(ctx)
	return nil
}

// Reload reads the policy now.
func (a *Agent) Reload(ctx context.Context) error {
	var err error
	if e := a.request(ctx, func() { err = a.reload(ctx) }); e != nil {
		return e
	}
	return err
}

// request runs f in Run's goroutine and waits for it. f may be anything.
func (a *Agent) request(ctx context.Context, f func()) error { return a.send(ctx, a.requests, f) }

// ask is request for what takes no time and must be answered also while the agent
// goes through hundreds of processes: f looks, or leaves a mark. Only the first time
// round it waits: before that the agent has nothing to say.
func (a *Agent) ask(ctx context.Context, f func()) error { return a.send(ctx, a.questions, f) }

func (a *Agent) send(ctx context.Context, to chan<- func(), f func()) error {
	done := make(chan struct{})
	select {
	case to <- func() { defer close(done); f() }:
	case <-ctx.Done():
		return fmt.Errorf("the agent is busy: %w", ctx.Err())
	}
	<-done
	return nil
}

// answerUntil answers questions until something is done.
func (a *Agent) answerUntil(done <-chan struct{}) {
	questions := a.questions
	if !a.looked {
		questions = nil
	}
	for {
		select {
		case f := <-questions:
			f()
		case <-done:
			return
		}
	}
}

// maxHeard bounds what is heard at once.
const maxHeard = 4096

// hear answers the questions that wait and takes down what was told, which takes no
// time: between any two changes of a process.
func (a *Agent) hear(ctx context.Context) {
	questions := a.questions
	if !a.looked {
		questions = nil
	}
	for n := 0; n < maxHeard && ctx.Err() == nil; n++ {
		select {
		case f := <-questions:
			f()
		case e := <-a.watch.execs():
			a.execSeen(e)
		case r, ok := <-a.reports():
			a.gateSays(r, ok)
		default:
			return
		}
	}
}

// active are the rules that are kept up now.
func (a *Agent) active() []*rule {
	var out []*rule
	for _, r := range a.rules {
		if r.over == "" && !a.suspended[r.ID] {
			out = append(out, r)
		}
	}
	return out
}

var errNoRule = errors.New("no rule of the policy is about it")

// suspend leaves a prepatch alone until the policy is read again: an operator
// has taken it over. Every one, with an empty id.
func (a *Agent) suspend(id string) error {
	found := false
	for _, r := range a.rules {
		if id == pie.AnyID || r.ID == id {
			a.suspended[r.ID], found = true, true
		}
	}
	if !found {
		return fmt.Errorf("%s: %w", id, errNoRule)
	}
	a.log.Info("left alone until the policy is read again", "prepatch", id)
	a.rehold()
	return nil
}
