// Package demo guards a real server while real clients use it, and tells what
// it sees: nats-server v2.0.0, which one line of text crashes (CVE-2019-13126).
//
// Nothing is staged. The servers are built from the Go module proxy and run on
// loopback; the clients compare every message they get back; the insertion is
// the one of pie insert. What the demo starts it ends, on Ctrl-C too.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/catalogue"
	"github.com/patch-integration-engine/pie/internal/term"
)

const (
	prepatchID = "CVE-2019-13126"
	clients    = 8
	attacks    = 100
	// settle is how long clients run before and after each act.
	settle = time.Second
)

// Options is where the demo builds and what it prints to.
type Options struct {
	Dir      string // keeps the built server
	Out      io.Writer
	Style    term.Style
	Progress func(string)
}

// Run tells the whole story once. It is an error when any claim does not hold.
func Run(ctx context.Context, o Options) error {
	t := &teller{o: o}
	entry, ok := catalogue.Lookup(prepatchID)
	if !ok {
		return fmt.Errorf("the catalogue has no %s", prepatchID)
	}
	prepatch, err := pie.Load(entry.Files)
	if err != nil {
		return err
	}
	t.act("A real server with a real hole: nats-server v2.0.0, %s", prepatchID)
	o.Progress("building nats-server from the Go module proxy (a minute the first time)")
	binary, err := Build(ctx, o.Dir)
	o.Progress("")
	if err != nil {
		return err
	}
	t.say("built by go install %s", module)
	if err := t.crashTwin(ctx, binary); err != nil {
		return err
	}
	return t.guard(ctx, binary, prepatch)
}

// teller numbers the acts and prints what happens.
type teller struct {
	o    Options
	acts int
}

func (t *teller) act(format string, args ...any) {
	t.acts++
	fmt.Fprintf(t.o.Out, "%s\n", t.o.Style.Bold(fmt.Sprintf("%d. %s", t.acts, term.Escape(fmt.Sprintf(format, args...)))))
}

func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.o.Out, "   %s\n", term.Escape(fmt.Sprintf(format, args...)))
}

func (t *teller) good(format string, args ...any) {
	fmt.Fprintf(t.o.Out, "   %s\n", t.o.Style.Good(term.Escape(fmt.Sprintf(format, args...))))
}

// crashTwin shows what the attack does to a server without a guard.
func (t *teller) crashTwin(ctx context.Context, binary string) error {
	t.act("Its unguarded twin")
	s, err := Start(ctx, binary)
	if err != nil {
		return err
	}
	defer s.Stop()
	load, err := StartLoad(ctx, s.Addr, clients)
	if err != nil {
		return err
	}
	defer load.Stop()
	if err := wait(ctx, settle); err != nil {
		return err
	}
	t.say("pid %d on %s, %d clients publish and check what comes back: %d messages, %d failures",
		s.Pid, s.Addr, clients, load.Stats().Checked, len(load.Stats().Failed))
	t.say("one attacker sends: %s", strings.TrimSpace(attackLine))
	if err := Attack(ctx, s.Addr); err != nil {
		return err
	}
	words, err := s.Crash(ctx)
	if err != nil {
		return fmt.Errorf("the unguarded server should have crashed: %w", err)
	}
	if err := wait(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	fmt.Fprintf(t.o.Out, "   %s\n", t.o.Style.Bad(term.Escape(fmt.Sprintf("dead: %s; %d of %d clients lost their connection",
		words, len(load.Stop().Failed), clients))))
	return nil
}

// guard puts the prepatch in under load, attacks, and takes it out.
func (t *teller) guard(ctx context.Context, binary string, p *pie.Prepatch) (err error) {
	t.act("The server to be guarded, already running")
	s, err := Start(ctx, binary)
	if err != nil {
		return err
	}
	defer s.Stop()
	load, err := StartLoad(ctx, s.Addr, clients)
	if err != nil {
		return err
	}
	defer load.Stop()
	if err := wait(ctx, settle); err != nil {
		return err
	}
	t.say("pid %d on %s, %d clients: %d messages checked", s.Pid, s.Addr, clients, load.Stats().Checked)
	for _, step := range []func(context.Context, *Server, *Load, *pie.Prepatch) error{t.insert, t.attack, t.remove} {
		if err := step(ctx, s, load, p); err != nil {
			return err
		}
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	end := load.Stop()
	if len(end.Failed) > 0 {
		return fmt.Errorf("%d of %d clients failed: %w", len(end.Failed), clients, end.Failed[0])
	}
	t.good("the whole time: %d messages published, received and compared, 0 lost, 0 wrong, 0 clients dropped; longest wait %s",
		end.Checked, end.Longest.Round(100*time.Microsecond))
	return nil
}

func (t *teller) insert(ctx context.Context, s *Server, load *Load, p *pie.Prepatch) error {
	t.act("pie insert %s --pid %d", p.ID, s.Pid)
	begun := time.Now()
	r, err := pie.Insert(ctx, p, pie.Pids(s.Pid), pie.Options{Mode: pie.ModeEnforce, Progress: t.o.Progress})
	t.o.Progress("")
	if err != nil {
		return err
	}
	if r.Guarded() != 1 {
		return fmt.Errorf("inserting %s: %s", p.ID, r.Processes[0].Error)
	}
	t.good("guarded in %s, threads were stopped for %s, proven by reading back; the same process, nothing restarted",
		time.Since(begun).Round(time.Millisecond), r.Pause().Round(10*time.Microsecond))
	return nil
}

func (t *teller) attack(ctx context.Context, s *Server, load *Load, p *pie.Prepatch) error {
	t.act("The same attack, %d times", attacks)
	before := load.Stats().Checked
	for i := range attacks {
		if err := Attack(ctx, s.Addr); err != nil {
			return fmt.Errorf("attack %d: %w", i+1, err)
		}
		if !s.Alive() {
			return errors.New("the guarded server crashed")
		}
	}
	all, err := pie.Status(ctx, pie.Pids(s.Pid))
	if err != nil {
		return err
	}
	var rejects uint64
	for _, ps := range all {
		for _, pp := range ps.Prepatches {
			for _, g := range pp.Guards {
				rejects += g.Rejects
			}
		}
	}
	if rejects != attacks {
		return fmt.Errorf("the guard counted %d rejections, %d attacks were sent", rejects, attacks)
	}
	st := load.Stats()
	t.good("alive, still pid %d: %d attacks rejected, each attacker disconnected; meanwhile %d messages checked, %d failures",
		s.Pid, rejects, st.Checked-before, len(st.Failed))
	return nil
}

func (t *teller) remove(ctx context.Context, s *Server, _ *Load, p *pie.Prepatch) error {
	t.act("pie remove %s --pid %d", p.ID, s.Pid)
	r, err := pie.Remove(ctx, p.ID, pie.Pids(s.Pid))
	if err != nil {
		return err
	}
	if r.Guarded() != 0 {
		return fmt.Errorf("removing %s: %s", p.ID, r.Processes[0].Error)
	}
	n, err := pie.CompareText(ctx, s.Pid)
	if err != nil {
		return err
	}
	t.good("out; all %d KiB of the process's code equal the file's again, byte for byte", n>>10)
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
