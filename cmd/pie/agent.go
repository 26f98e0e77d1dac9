package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/agent"
	"github.com/patch-integration-engine/pie/internal/term"
)

const agentHelp = `Keep prepatches where a policy says they belong: in processes that run, in
processes as they start, after restarts and upgrades.

The policy is a text file, one rule a line:

  # ID            where                        how       until
  CVE-2024-31228  exe=redis-server             enforce
  CVE-2024-7347   exe=/usr/sbin/nginx          audit     until=2026-12-31
  CVE-2024-53580  host                         enforce

Where is exe=PATH|NAME, unit=U, container=ID, or host. The prepatches are those of
the catalogue, and those in a folder. A changed file is taken within seconds; one
with a mistake is not taken, and the old one stays in force.

A new process of an executable that a rule names is held, for at most 50 ms, until
it is guarded. What you take out or switch off with pie is left alone until the
policy is read again.`

// agentFlags are those of pie agent.
type agentFlags struct {
	config  agent.Config
	socket  string
	group   string
	metrics string
	log     string
	check   bool
}

func (a *app) agentCommand() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "agent",
		Short: "Keep prepatches in running and in new processes, as a policy says",
		Long:  agentHelp,
		Args:  exact(0, "no argument"),
	}
	c.Flags().StringVar(&f.config.Policy, "policy", "/etc/pie/policy", "the policy `FILE`")
	c.Flags().StringVar(&f.config.Prepatches, "prepatches", ownPrepatches, "folder with prepatches of your own: ID.go, or ID/guard.go")
	c.Flags().StringVar(&f.socket, "socket", agent.DefaultSocket, "where the agent answers pie")
	c.Flags().StringVar(&f.group, "group", "", "a `GROUP` whose members may ask the agent, besides root")
	c.Flags().StringVar(&f.metrics, "metrics", "", "answer GET /metrics at this `ADDRESS`, such as 127.0.0.1:9464")
	c.Flags().StringVar(&f.log, "log", "json", "json or text, on standard error")
	c.Flags().BoolVar(&f.config.PollOnly, "poll", false, "hold no process and read /proc every second, as on a machine that offers nothing better")
	c.Flags().BoolVar(&f.check, "check", false, "read the policy and its prepatches, say what is wrong, and end")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.runAgent(c, f) }
	return c
}

func (a *app) runAgent(c *cobra.Command, f agentFlags) error {
	f.config.Version = version
	handler := slog.Handler(slog.NewJSONHandler(a.err, nil))
	switch f.log {
	case "json":
	case "text":
		handler = slog.NewTextHandler(a.err, nil)
	default:
		return usage(c, "--log %s: choose json or text", f.log)
	}
	f.config.Log = slog.New(handler)
	ag, err := agent.New(f.config)
	if err != nil {
		mistakes := strings.Split(err.Error(), "\n")
		return &pie.Refusal{Code: pie.CodePolicy, Msg: mistakes[0], Details: mistakes[1:], Err: err,
			Instead: "correct it; pie agent --check tells what is left, pie agent --help explains the file"}
	}
	if f.check {
		name := term.Escape(f.config.Policy)
		if ag.Rules() == 0 {
			fmt.Fprintf(a.out, "%s: no rule, so nothing would be kept\n", name)
			return nil
		}
		fmt.Fprintf(a.out, "%s: %s, every one and its prepatch good\n", name, plural(ag.Rules(), "rule", "rules"))
		for _, over := range ag.Over(time.Now()) {
			fmt.Fprintf(a.out, "%s %s: nothing is kept by it\n", term.StyleFor(a.out, a.getenv).Warn("note:"), term.Escape(over))
		}
		return nil
	}
	if os.Geteuid() != 0 {
		return &pie.Refusal{Code: pie.CodePermission, Msg: "the agent needs the rights of root", Instead: "run it as root, or from the unit in packaging/"}
	}
	return serveAgent(c.Context(), ag, f)
}

// serveAgent runs the agent and its listeners until one of them ends.
func serveAgent(ctx context.Context, ag *agent.Agent, f agentFlags) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := agent.Listen(f.socket, f.group)
	if err != nil {
		return err
	}
	defer l.Close()
	ends := make(chan error, 3)
	go func() { ends <- ag.Serve(ctx, l) }()
	n := 2
	if f.metrics != "" {
		m, err := net.Listen("tcp", f.metrics)
		if err != nil {
			return fmt.Errorf("listening for --metrics: %w", err)
		}
		n++
		go func() { ends <- ag.ServeMetrics(ctx, m) }()
	}
	go func() { ends <- ag.Run(ctx) }()
	defer reloadOnHangup(ctx, ag)()
	var errs []error
	for range n {
		errs = append(errs, <-ends)
		cancel()
	}
	return errors.Join(errs...)
}

// reloadOnHangup has SIGHUP, which ends other commands, read the policy.
func reloadOnHangup(ctx context.Context, ag *agent.Agent) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Reset(syscall.SIGHUP)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hangups:
				_ = ag.Reload(ctx) // what is wrong is logged
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { signal.Stop(hangups) }
}

// socketVariable names another socket than the usual one, for tests and for more
// than one agent.
const socketVariable = "PIE_AGENT_SOCKET"

func (a *app) agent() *agent.Client {
	socket := a.getenv(socketVariable)
	if socket == "" {
		socket = agent.DefaultSocket
	}
	return agent.Dial(socket)
}

// How long an agent is waited for, which may be stopped: whoever switches a guard off
// does not wait for an answer that does not come.
const (
	takeOverTime = time.Second
	lookTime     = 3 * time.Second
)

// takeOver has a running agent leave a prepatch alone, before it is changed by
// hand. It returns what is to be told of that.
func (a *app) takeOver(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, takeOverTime)
	defer cancel()
	err := a.agent().Suspend(ctx, id)
	switch {
	case errors.Is(err, agent.ErrSilent):
		return fmt.Sprintf("an agent runs here and does not answer: it may yet do with %s as its policy says; change the policy, too", displayID(id))
	case err != nil:
		return ""
	}
	return fmt.Sprintf("the agent leaves %s alone until its policy is read again: change the policy, too", displayID(id))
}

// printAgent tells of a running agent, below pie status.
func (a *app) printAgent(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	s, err := a.agent().Status(ctx)
	if errors.Is(err, agent.ErrSilent) {
		fmt.Fprintln(a.out, "agent: one runs here and does not answer")
	}
	if err != nil {
		return
	}
	style := term.StyleFor(a.out, a.getenv)
	line := fmt.Sprintf("agent: pid %d since %s, %s", s.Pid, clock(s.Started, time.Now()), plural(len(s.Rules), "rule", "rules"))
	if s.Holding.On {
		line += fmt.Sprintf(", holds new processes of %s until they are guarded", plural(s.Holding.Executables, "executable", "executables"))
		if s.Holding.Longest > 0 {
			line += fmt.Sprintf(" (for %s at most so far)", milliseconds(s.Holding.Longest))
		}
	} else {
		line += ", does not hold new processes: " + s.Holding.Why
	}
	fmt.Fprintln(a.out, term.Escape(line))
	for _, p := range s.Healthy() {
		fmt.Fprintf(a.out, "  %s %s\n", style.Bad("problem:"), term.Escape(p))
	}
	for _, p := range s.Processes {
		if p.State == agent.Guarded && p.Window > 0 {
			fmt.Fprintf(a.out, "  %s in pid %d ran unguarded for %s\n", term.Escape(p.ID), p.Pid, milliseconds(p.Window))
		}
	}
	for _, r := range s.Rules {
		if r.Suspended || r.Over != "" {
			why := r.Over
			if r.Suspended {
				why = "left alone, an operator has taken it over"
			}
			fmt.Fprintf(a.out, "  rule %s: %s\n", term.Escape(r.ID), term.Escape(strings.TrimSpace(why)))
		}
	}
}
