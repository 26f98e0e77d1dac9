package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

func (a *app) planCommand() *cobra.Command {
	var f insertFlags
	var verbose bool
	c := &cobra.Command{
		Use:   "plan PREPATCH TARGET",
		Short: "Show what insert would do; change nothing",
		Long: `Show what insert would do: which function, how it was found, which bytes become
what. Nothing is changed and no thread is stopped. With -v every instruction is
listed that stays, moves or is written, and the registers the guard uses.`,
		Args:              atMost(1, "one PREPATCH"),
		ValidArgsFunction: a.completePrepatch,
	}
	f.register(c)
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "list the instructions that stay, move or are written")
	c.RunE = func(c *cobra.Command, args []string) error {
		o, err := f.options(a, c, false)
		if err != nil {
			return err
		}
		yielding()
		x, err := f.resolve(a, c, args)
		if err != nil {
			return err
		}
		plans, err := pie.Plan(c.Context(), x.prepatch, x.sel, o)
		if err != nil {
			return err
		}
		if a.json {
			err = a.printJSON(plans)
		} else {
			a.printPlans(x, plans, verbose)
		}
		if err != nil {
			return err
		}
		return planExit(plans)
	}
	return c
}

// planExit is the exit code insert would have.
func planExit(plans []pie.ProcessPlan) error {
	refused := 0
	for _, p := range plans {
		if p.Refused != nil {
			refused++
		}
	}
	switch {
	case len(plans) == 0:
		return exitWith{exitNoProcess}
	case refused == len(plans):
		return exitWith{exitRefused}
	case refused > 0:
		return exitWith{exitPartly}
	}
	return nil
}

func (a *app) printPlans(x chosen, plans []pie.ProcessPlan, verbose bool) {
	style := term.StyleFor(a.out, a.getenv)
	var same alikes
	for _, pp := range plans {
		same.say(pp.Pid, pp.Exe, planText(pp, x.prepatch.Caps, style, verbose))
	}
	for _, s := range same {
		fmt.Fprintf(a.out, "%s  %s\n%s", style.Bold(term.Escape(x.prepatch.ID)), s.who(), s.text)
	}
	if x.seen != "" {
		fmt.Fprintf(a.out, "%s %s\n", seenLabel(pie.ModeAudit), term.Escape(x.seen))
	}
	fmt.Fprintln(a.out, style.Dim("nothing was changed"))
}

// planText is the plan for one process, without its pid: workers that forked from one
// another have the same.
func planText(pp pie.ProcessPlan, caps []string, style term.Style, verbose bool) string {
	var b strings.Builder
	switch {
	case pp.Refused != nil:
		fmt.Fprintf(&b, "  %s %s [%s]\n", style.Bad("would be refused:"), term.Escape(pp.Refused.Msg), pp.Refused.Code)
		for _, line := range append(slices.Clone(pp.Refused.Details), pp.Refused.Instead) {
			fmt.Fprintf(&b, "    %s\n", term.Escape(line))
		}
	case pp.Already:
		fmt.Fprintf(&b, "  %s\n", style.Good("guarded already; insert would change nothing"))
	}
	printCapabilities(&b, caps, style)
	for _, g := range pp.Guards {
		printGuardPlan(&b, g, style, verbose)
	}
	if pp.Copies.All > 0 {
		fmt.Fprintf(&b, "  would guard %s\n", copiesWords(pp.Copies))
	}
	return b.String()
}

func printGuardPlan(w io.Writer, g pie.GuardPlan, style term.Style, verbose bool) {
	fmt.Fprintf(w, "  %s in %s\n", term.Escape(g.Function), term.Escape(g.Image))
	var t term.Table
	t.Row("found by", g.How)
	t.Row("entry", g.Entry)
	t.Row("site", g.Site+"  "+g.Before+"  becomes  "+g.After)
	t.Row("guard", fmt.Sprintf("%s, %s of code", g.Guard, plural(g.Code, "byte", "bytes")))
	if g.Faults != "" {
		t.Row("reads", g.Faults)
	}
	t.Write(w, "    ")
	for _, c := range g.Copies {
		fmt.Fprintf(w, "    %s %s\n", style.Warn("not covered:"), term.Escape(c))
	}
	for _, n := range g.Notes {
		fmt.Fprintf(w, "    %s %s\n", style.Warn("note:"), term.Escape(n))
	}
	if verbose {
		for line := range strings.Lines(g.Listing) {
			fmt.Fprintf(w, "    %s\n", term.Escape(strings.TrimSuffix(line, "\n")))
		}
	}
}
