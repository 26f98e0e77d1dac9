package main

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/debuginfod"
	"github.com/patch-integration-engine/pie/internal/startup"
	"github.com/patch-integration-engine/pie/internal/term"
)

// defaultTrial is how long a guard rejects before somebody has to say keep,
// when a person inserts it.
const defaultTrial = 10 * time.Minute

// insertFlags are what insert and plan share.
type insertFlags struct {
	target      targetFlags
	audit       bool
	trial       time.Duration
	maxReject   string
	partial     bool
	fingerprint string
	acceptMatch bool
	copyReads   bool
	debuginfod  []string
	line        oneLine
}

func (f *insertFlags) register(c *cobra.Command) {
	f.registerPlaces(c)
	c.Flags().BoolVar(&f.audit, "audit", false, "count what would be rejected, reject nothing")
	c.Flags().DurationVar(&f.trial, "trial", -1, "stop rejecting after this `TIME` unless kept; 0 for no trial (default 10m on a terminal)")
	c.Flags().Lookup("trial").DefValue = "0s" // the text above tells, and -1 would not
	c.Flags().StringVar(&f.maxReject, "max-reject", "", "end the trial when more than this `SHARE` of calls is rejected, such as 1%")
}

// registerPlaces registers the flags that say what goes where.
func (f *insertFlags) registerPlaces(c *cobra.Command) {
	f.target.register(c)
	f.line.register(c)
	c.Flags().BoolVar(&f.partial, "partial", false, "guard although some copies of the function stay uncovered")
	c.Flags().StringVar(&f.fingerprint, "fingerprint", "", "find the function by this fingerprint `FILE`, where it has no name")
	c.Flags().StringArrayVar(&f.debuginfod, "debuginfod", nil, "ask this debuginfod server `URL` for the symbols of stripped files; repeatable (default: what DEBUGINFOD_URLS has)")
	c.Flags().BoolVar(&f.copyReads, "copy-reads", false, "have guards read memory by system calls, about 1 µs each, not by way of a signal handler: for functions called on small signal stacks")
	c.Flags().BoolVar(&f.acceptMatch, "accept-match", false, "guard what a fingerprint found without being sure; look at pie plan first")
}

// options are the operator's decisions. A canary watches the share of rejects
// itself, and needs no trial for it.
func (f *insertFlags) options(a *app, c *cobra.Command, canary bool) (pie.Options, error) {
	o := pie.Options{Mode: pie.ModeEnforce, Partial: f.partial, AcceptMatch: f.acceptMatch, CopyReads: f.copyReads, Trial: f.trial, Build: version, Progress: a.progress.Step}
	if f.audit {
		o.Mode = pie.ModeAudit
	}
	if o.Debuginfod = f.debuginfod; len(o.Debuginfod) == 0 {
		o.Debuginfod = debuginfod.Servers(a.getenv("DEBUGINFOD_URLS"))
	}
	if len(o.Debuginfod) > 0 {
		if _, err := debuginfod.New(o.Debuginfod); err != nil {
			return o, usage(c, "--debuginfod: %v", err)
		}
	}
	if f.trial < 0 {
		if c.Flags().Changed("trial") {
			return o, usage(c, "--trial %s: a trial cannot be negative", f.trial)
		}
		o.Trial = 0
		if term.IsTerminal(a.out) {
			o.Trial = defaultTrial
		}
	}
	share, err := parseShare(f.maxReject)
	if err != nil {
		return o, usage(c, "--max-reject %s: %v", f.maxReject, err)
	}
	if o.MaxReject = share; share > 0 && o.Trial == 0 && !canary {
		return o, usage(c, "--max-reject ends a trial, and there is none: add --trial 10m")
	}
	return o, nil
}

// parseShare reads "1%", "0.5%" or "0.01"; empty is 0.
func parseShare(s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	number, percent := strings.CutSuffix(s, "%")
	share, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("not a share; write 1%% or 0.01")
	}
	if percent {
		share /= 100
	}
	if !(share > 0 && share <= 1) {
		return 0, fmt.Errorf("a share is more than 0 and at most 100%%")
	}
	return share, nil
}

// chosen is what a command line for insert or plan means.
type chosen struct {
	prepatch *pie.Prepatch
	ref      string // what the prepatch was called
	seen     string // what a rejected client sees; empty when nobody wrote it down
	sel      pie.Select
}

// resolve loads the prepatch, from args or typed as one line, and selects the
// processes.
func (f *insertFlags) resolve(a *app, c *cobra.Command, args []string) (chosen, error) {
	p, ref, err := f.load(a, c, args)
	if err != nil {
		return chosen{}, err
	}
	if err := f.useFingerprints(p, ref); err != nil {
		return chosen{}, err
	}
	sel, err := a.selectForInsert(c, &f.target, p, ref)
	return chosen{prepatch: p, ref: ref, seen: f.seen(a, args), sel: sel}, err
}

// seen says what a rejected client sees.
func (f *insertFlags) seen(a *app, args []string) string {
	if len(args) == 0 {
		return fmt.Sprintf("what the program makes of %s returning %s", f.line.fn, f.line.reject)
	}
	return a.seenOf(args[0])
}

// load returns the prepatch and what it was called on the command line.
func (f *insertFlags) load(a *app, c *cobra.Command, args []string) (*pie.Prepatch, string, error) {
	switch {
	case f.line.given() && len(args) > 0:
		return nil, "", usage(c, "give a PREPATCH or --func, not both")
	case f.line.given():
		p, err := f.line.load(c, &f.target)
		return p, f.line.String(), err
	case len(args) == 0:
		return nil, "", usage(c, "%s takes one PREPATCH, or --func F --when EXPR --reject N", c.CommandPath())
	}
	p, err := a.loadPrepatch(args[0])
	return p, args[0], err
}

func (a *app) insertCommand() *cobra.Command {
	var f insertFlags
	c := &cobra.Command{
		Use:   "insert PREPATCH TARGET",
		Short: "Guard running processes with a prepatch",
		Long: `Guard running processes with a prepatch: an id of the catalogue, a .go file, a folder, or
an object file of clang -target bpf (.o).

On a terminal the guard is on trial for 10 minutes: it stops rejecting by itself
unless pie keep ends the trial, even when pie and your login are gone by then.`,
		Args:              atMost(1, "one PREPATCH"),
		ValidArgsFunction: a.completePrepatch,
	}
	f.register(c)
	var steps canaryFlags
	steps.register(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		o, err := f.options(a, c, steps.steps != "")
		if err != nil {
			return err
		}
		if steps.steps == "" {
			yielding()
			pie.KeepOff(f.target.spec.Pids...)
		} else { // a canary runs the operator's health command
			startup.Over()
			runtime.SetDefaultGOMAXPROCS() // it was one, as the process's CPUs were
		}
		x, err := f.resolve(a, c, args)
		if err != nil {
			return err
		}
		report, err := a.insert(c.Context(), c, x, o, &steps)
		a.progress.Step("")
		if err != nil {
			return err
		}
		return a.finishReport(c, report, insertWords(x.seen))
	}
	return c
}

// reportWords are what a verb calls its outcome.
type reportWords struct {
	title  string                        // instead of the prepatch's id; may be empty
	done   string                        // "3 of 3 processes guarded"
	undone string                        // "not guarded: pid 7 …"
	want   func(s pie.ProcessState) bool // the state the verb brings about
	seen   string                        // what a rejected client sees; may be empty
	next   func(r *pie.Report) string
}

func insertWords(seen string) reportWords {
	return reportWords{
		done: "guarded", undone: "not guarded", seen: seen,
		want: func(s pie.ProcessState) bool { return s == pie.StateGuarded },
		next: nextAfterInsert,
	}
}

func nextAfterInsert(r *pie.Report) string {
	line := fmt.Sprintf("stop now: pie off %s", r.ID)
	if r.TrialEnd != nil {
		line = fmt.Sprintf("keep: pie keep %s   %s", r.ID, line)
	}
	return line
}

// finishReport prints a report and turns it into the exit code.
func (a *app) finishReport(c *cobra.Command, r *pie.Report, w reportWords) error {
	done, total := countDone(r, w)
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		a.printReport(r, w, done, total)
	}
	done = countAsked(r, done)
	interrupted := c.Context().Err() != nil
	if interrupted && !a.json {
		fmt.Fprintf(a.err, "interrupted: finished in %d of %d processes, the others are as they were\n", done, total)
	}
	switch {
	case interrupted:
		return exitWith{exitInterrupted}
	case total == 0:
		return exitWith{exitNoProcess}
	case done == total:
		return nil
	case done == 0 && !r.Changed:
		return exitWith{exitRefused}
	}
	return exitWith{exitPartly}
}

// countDone counts the processes that still exist and those in the state wanted.
func countDone(r *pie.Report, w reportWords) (done, total int) {
	for _, p := range r.Processes {
		if p.State == pie.StateGone {
			continue
		}
		total++
		if p.Error == "" && w.want(p.State) {
			done++
		}
	}
	return done, total
}

// countAsked leaves out of those that are done the ones which had the prepatch already, in
// another mode than was asked for.
func countAsked(r *pie.Report, done int) int {
	for _, p := range r.Processes {
		if p.Mode != "" {
			done--
		}
	}
	return done
}

func (a *app) printReport(r *pie.Report, w reportWords, done, total int) {
	style := term.StyleFor(a.out, a.getenv)
	title := w.title
	if title == "" {
		title = displayID(r.ID)
	}
	head := term.Escape(title) + "  " + term.Escape(exeNames(r.Processes))
	if r.Mode != "" {
		head += "  " + modeWords(r.Mode, r.TrialEnd, time.Now())
	}
	fmt.Fprintln(a.out, style.Bold(head))
	count := fmt.Sprintf("%d of %d processes %s", done, total, w.done)
	if done == total {
		count = style.Good(count)
	} else {
		count = style.Warn(count)
	}
	if copies := r.Copies(); copies.All > 0 {
		count += " · " + copiesWords(copies)
	}
	if !r.Changed && countAsked(r, done) < done {
		count += " · nothing was changed"
	} else if !r.Changed {
		count += " · already so"
	} else if pause := r.Pause(); pause > 0 {
		count += " · longest pause " + milliseconds(pause)
	}
	fmt.Fprintf(a.out, "  %s\n", count)
	printCapabilities(a.out, r.Caps, style)
	if w.seen != "" && done > 0 {
		fmt.Fprintf(a.out, "  %s %s\n", seenLabel(r.Mode), term.Escape(w.seen))
	}
	var gone, notes alikes
	for _, p := range r.Processes {
		switch {
		case p.State == pie.StateGone:
			gone.say(p.Pid, p.Exe, "")
		default:
			a.printUndone(p, w, style)
			for _, n := range p.Notes {
				notes.say(p.Pid, p.Exe, n)
			}
		}
	}
	for _, g := range gone {
		fmt.Fprintf(a.out, "  %s ended meanwhile, or runs another program now\n", g.who())
	}
	for _, n := range notes {
		fmt.Fprintf(a.out, "  %s: %s\n", pidWords(n.pids), term.Escape(n.text))
	}
	if w.next != nil && done > 0 {
		fmt.Fprintln(a.out, w.next(r))
	}
}

// printUndone says what stands in the way in a process that is not as was asked.
func (a *app) printUndone(p pie.ProcessReport, w reportWords, style term.Style) {
	if p.Error == "" {
		return
	}
	text, who := p.Error, fmt.Sprintf("pid %d (%s)", p.Pid, baseName(p.Exe))
	if !strings.HasPrefix(text, who) {
		text = who + ": " + text
	}
	fmt.Fprintf(a.out, "  %s %s [%s]\n", style.Bad(w.undone+":"), term.Escape(text), p.Reason)
	for _, line := range append(slices.Clone(p.Details), p.Instead) {
		fmt.Fprintf(a.out, "    %s\n", term.Escape(line))
	}
}
