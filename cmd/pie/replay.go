package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

// replay runs the guards of a prepatch over a recording and turns the outcome into
// the exit code.
func (a *app) replay(c *cobra.Command, arg, path string) error {
	p, err := a.loadPrepatch(arg)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return &pie.Refusal{Code: pie.CodeRecording, Msg: fmt.Sprintf("reading the recording: %v", err), Instead: "name a file that pie record wrote", Err: err}
	}
	defer file.Close()
	r, err := pie.Replay(c.Context(), p, file)
	if err != nil {
		return err
	}
	switch {
	case !a.json:
		a.printReplay(r)
	case r.Calls > 0:
		if err := a.printJSON(r); err != nil {
			return err
		}
	}
	switch {
	case r.Rejected > 0:
		return exitWith{exitFailed}
	case r.Unknown > 0:
		return exitWith{exitPartly}
	case r.Calls == 0:
		return &pie.Refusal{Code: pie.CodeNoCalls, Msg: fmt.Sprintf("%s has no call of a function that %s guards", path, p.ID), Instead: recordBetter(r)}
	}
	return nil
}

// recordBetter says what to do about a recording without calls.
func recordBetter(r *pie.ReplayReport) string {
	switch {
	case r.Other > 0:
		return "record with this prepatch"
	case r.Recorded.Calls > 0:
		return fmt.Sprintf("of the %s made while it was recorded none was taken down: processes that end within 0.1 s of their birth are not recorded",
			plural(int(r.Recorded.Calls), "call", "calls"))
	}
	return "nothing was called while it was recorded: record for longer (--for), or under load"
}

func (a *app) printReplay(r *pie.ReplayReport) {
	style := term.StyleFor(a.out, a.getenv)
	line := fmt.Sprintf("%s of %s recorded calls would be rejected", grouped(r.Rejected), grouped(r.Calls))
	if r.Rejected == 0 && r.Unknown == 0 && r.Calls > 0 {
		line = style.Good(line)
	} else {
		line = style.Warn(line)
	}
	fmt.Fprintf(a.out, "%s  %s\n", style.Bold(term.Escape(r.ID)), line)
	for _, x := range []struct {
		n    uint64
		what string
	}{
		{r.Unknown, "unknown: the guard asks for what was not recorded"},
		{r.Rewrites, "would go on with other arguments"},
		{r.Logged, "would be noted"},
		{r.Errors, "guard errors: memory that could not be read, or a Go panic"},
		{r.RanLong, "on which the guard ran too long"},
		{r.Other, "recorded calls of functions that it does not guard"},
	} {
		if x.n > 0 {
			fmt.Fprintf(a.out, "  %s %s\n", grouped(x.n), x.what)
		}
	}
	a.printCalls("would be rejected:", r.Examples, r.Rejected)
	a.printCalls("unknown:", r.Unknowns, r.Unknown)
	fmt.Fprintf(a.out, "  %s\n", recordedWords(r))
	for _, n := range r.Notes {
		fmt.Fprintf(a.out, "  %s\n", term.Escape(n))
	}
}

func (a *app) printCalls(title string, calls []pie.ReplayedCall, all uint64) {
	for _, c := range calls {
		fmt.Fprintf(a.out, "  %s %s(%s)\n", title, term.Escape(c.Function), term.Escape(strings.Join(c.Args, ", ")))
		fmt.Fprintf(a.out, "    pid %d at %s, call %s: %s\n", c.Pid, c.Time.Local().Format("2006-01-02 15:04:05.000"), grouped(c.Number), term.Escape(c.Why))
	}
	if more := all - uint64(len(calls)); more > 0 {
		fmt.Fprintf(a.out, "    and %s more\n", grouped(more))
	}
}

// recordedWords says what the recording is.
func recordedWords(r *pie.ReplayReport) string {
	x := r.Recorded
	s := "recorded " + x.Begin.Local().Format("2006-01-02 15:04") + " with "
	switch {
	case x.Same:
		s += "this prepatch"
	case x.ID == r.ID:
		s += "another version of it"
	default:
		s += term.Escape(x.ID)
	}
	if x.Every > 1 {
		s += fmt.Sprintf(", one in %s calls", grouped(x.Every))
	}
	return s
}
