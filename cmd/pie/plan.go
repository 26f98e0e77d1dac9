package main

import (
	"fmt"
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
	for _, pp := range plans {
		fmt.Fprintf(a.out, "%s  pid %d (%s)\n", style.Bold(term.Escape(x.prepatch.ID)), pp.Pid, term.Escape(baseName(pp.Exe)))
		switch {
		case pp.Refused != nil:
			fmt.Fprintf(a.out, "  %s %s [%s]\n", style.Bad("would be refused:"), term.Escape(pp.Refused.Msg), pp.Refused.Code)
			for _, line := range append(slices.Clone(pp.Refused.Details), pp.Refused.Instead) {
				fmt.Fprintf(a.out, "    %s\n", term.Escape(line))
			}
		case pp.Already:
			fmt.Fprintf(a.out, "  %s\n", style.Good("guarded already; insert would change nothing"))
		}
		a.printCapabilities(x.prepatch.Caps, style)
		for _, g := range pp.Guards {
			a.printGuardPlan(g, style, verbose)
		}
		if pp.Copies.All > 0 {
			fmt.Fprintf(a.out, "  would guard %s\n", copiesWords(pp.Copies))
		}
	}
	if x.seen != "" {
		fmt.Fprintf(a.out, "%s %s\n", seenLabel(pie.ModeAudit), term.Escape(x.seen))
	}
	fmt.Fprintln(a.out, style.Dim("nothing was changed"))
}

func (a *app) printGuardPlan(g pie.GuardPlan, style term.Style, verbose bool) {
	fmt.Fprintf(a.out, "  %s in %s\n", term.Escape(g.Function), term.Escape(g.Image))
	var t term.Table
	t.Row("found by", g.How)
	t.Row("entry", g.Entry)
	t.Row("site", g.Site+"  "+g.Before+"  becomes  "+g.After)
	t.Row("guard", fmt.Sprintf("%s, %s of code", g.Guard, plural(g.Code, "byte", "bytes")))
	if g.Faults != "" {
		t.Row("reads", g.Faults)
	}
	t.Write(a.out, "    ")
	for _, c := range g.Copies {
		fmt.Fprintf(a.out, "    %s %s\n", style.Warn("not covered:"), term.Escape(c))
	}
	for _, n := range g.Notes {
		fmt.Fprintf(a.out, "    %s %s\n", style.Warn("note:"), term.Escape(n))
	}
	if verbose {
		for line := range strings.Lines(g.Listing) {
			fmt.Fprintf(a.out, "    %s\n", term.Escape(strings.TrimSuffix(line, "\n")))
		}
	}
}
