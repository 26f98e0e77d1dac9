package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/canary"
	"github.com/patch-integration-engine/pie/internal/term"
)

// canaryFlags are those of an insertion step by step.
type canaryFlags struct {
	steps  string
	wait   time.Duration
	health canary.Health
	limits canary.Limits
}

func (f *canaryFlags) register(c *cobra.Command) {
	d := canary.DefaultLimits
	fs := c.Flags()
	fs.StringVar(&f.steps, "canary", "", "guard in `STEPS`: so many processes, then such a share, then all, as in 1,10%,all")
	fs.DurationVar(&f.wait, "canary-wait", 30*time.Second, "with --canary: watch each step for this `TIME`")
	fs.StringVar(&f.health.Command, "health-command", "", "with --canary: a shell `COMMAND` that ends with 0 while the service is well")
	fs.StringVar(&f.health.URL, "health-url", "", "with --canary: a `URL` that answers with a status below 400 while the service is well")
	fs.DurationVar(&f.health.Every, "health-every", 5*time.Second, "with --canary: ask about health once in this `TIME`")
	fs.IntVar(&f.limits.Exits, "max-exits", d.Exits, "with --canary: give up when more than `N` processes end")
	fs.IntVar(&f.limits.Restarts, "max-restarts", d.Restarts, "with --canary: give up when more than `N` processes are replaced by new ones")
	fs.IntVar(&f.limits.Errors, "max-errors", d.Errors, "with --canary: give up after more than `N` guard errors")
	fs.IntVar(&f.limits.RanLong, "max-ran-long", d.RanLong, "with --canary: give up when the guard ran too long on more than `N` calls")
	fs.Float64Var(&f.limits.CPU, "max-cpu", d.CPU, "with --canary: give up when a process uses more than `X` times the processor time it used before")
	fs.Float64Var(&f.limits.CPUMargin, "cpu-margin", d.CPUMargin, "with --canary: and more than this `SHARE` of a processor beyond that")
}

// plan checks the flags. maxReject is that of --max-reject, 0 when not given.
func (f *canaryFlags) plan(a *app, c *cobra.Command, maxReject float64) (canary.Plan, error) {
	p := canary.Plan{Wait: f.wait, Health: f.health, Limits: f.limits, Tell: func(line string) {
		a.progress.Step("")
		if !a.json {
			fmt.Fprintln(a.err, term.Escape(line))
		}
	}}
	var err error
	if p.Steps, err = canary.ParseSteps(f.steps); err != nil {
		return p, usage(c, "--canary %s: %v", f.steps, err)
	}
	if f.wait <= 0 || f.wait > 24*time.Hour {
		return p, usage(c, "--canary-wait %v: choose more than nothing and at most a day", f.wait)
	}
	if f.limits.CPU <= 1 || f.limits.Exits < 0 || f.limits.Restarts < 0 || f.limits.Errors < 0 || f.limits.RanLong < 0 || !(f.limits.CPUMargin >= 0) {
		return p, usage(c, "limits are 0 or more, and --max-cpu more than 1")
	}
	if u, err := url.Parse(f.health.URL); f.health.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return p, usage(c, "--health-url %s: write http://HOST/PATH", f.health.URL)
	}
	if p.Limits.Rejects = maxReject; maxReject == 0 {
		p.Limits.Rejects = canary.DefaultLimits.Rejects
	}
	return p, nil
}

// given tells whether a flag was used that means nothing without --canary.
func (f *canaryFlags) given(c *cobra.Command) (flag string) {
	for _, name := range []string{"canary-wait", "health-command", "health-url", "health-every", "max-exits", "max-restarts", "max-errors", "max-ran-long", "max-cpu", "cpu-margin"} {
		if c.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

// insert inserts at once, or step by step.
func (a *app) insert(ctx context.Context, c *cobra.Command, x chosen, o pie.Options, f *canaryFlags) (*pie.Report, error) {
	if f.steps == "" {
		if flag := f.given(c); flag != "" {
			return nil, usage(c, "--%s is about --canary: add --canary 1,10%%,all", flag)
		}
		return pie.Insert(ctx, x.prepatch, x.sel, o)
	}
	p, err := f.plan(a, c, o.MaxReject)
	if err != nil {
		return nil, err
	}
	report, err := canary.Run(ctx, x.prepatch, x.sel, o, p)
	var failed *canary.Failed
	if errors.As(err, &failed) {
		return nil, a.canaryFailed(x.prepatch.ID, failed)
	}
	return report, err
}

// canaryFailed says why, and what is left.
func (a *app) canaryFailed(id string, f *canary.Failed) error {
	r := &pie.Refusal{Code: pie.CodeCanary, Msg: f.Error(), Instead: "what it did is undone; see pie events and the program's own log, then try with --audit", Err: f}
	if len(f.Left) == 0 {
		r.Details = []string{fmt.Sprintf("taken out again of %s", plural(f.Out, "process", "processes"))}
		return r
	}
	if a.json {
		return fmt.Errorf("%w; still in pids %v: %w", f, f.Left, f.Remove)
	}
	fmt.Fprintf(a.err, "canary: %s\n  still in: pids %s: %s\n  stop it now: pie off %s\n", term.Escape(f.Error()), pidList(f.Left), term.Escape(f.Remove.Error()), id)
	return exitWith{exitPartly}
}
