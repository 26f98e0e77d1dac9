package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

func (a *app) statusCommand() *cobra.Command {
	var t targetFlags
	var check bool
	c := &cobra.Command{
		Use:   "status [TARGET]",
		Short: "Show which prepatches are in which processes, and what they did",
		Args:  exact(0, "no argument but TARGET flags"),
	}
	t.register(c)
	c.Flags().BoolVar(&check, "check", false, "exit 1 when a guard is not in place or does not reject")
	c.RunE = func(c *cobra.Command, _ []string) error {
		sel, err := a.selectInserted(c, &t)
		if err != nil {
			return err
		}
		all, err := pie.Status(c.Context(), sel)
		if err != nil {
			return err
		}
		if a.json {
			err = a.printJSON(orEmpty(all))
		} else {
			err = a.printStatus(all)
		}
		if err == nil && check && !allWell(all, time.Now()) {
			return exitWith{exitFailed}
		}
		return err
	}
	return c
}

// orEmpty makes JSON say [] and not null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// allWell reports whether every guard is in place and rejects attacks.
func allWell(all []pie.ProcessStatus, now time.Time) bool {
	for _, s := range all {
		if s.Problem != "" {
			return false
		}
		for _, p := range s.Prepatches {
			if !p.Rejecting(now) {
				return false
			}
			for _, g := range p.Guards {
				if !g.Intact {
					return false
				}
			}
		}
	}
	return len(all) > 0
}

func (a *app) printStatus(all []pie.ProcessStatus) error {
	style := term.StyleFor(a.out, a.getenv)
	if len(all) == 0 {
		fmt.Fprintln(a.out, "no prepatch is in any of these processes")
		return nil
	}
	for _, id := range prepatchIDs(all) {
		if err := a.printPrepatchStatus(id, all, style); err != nil {
			return err
		}
	}
	for _, s := range all {
		if s.Problem != "" {
			fmt.Fprintf(a.out, "%s pid %d (%s): %s\n", style.Bad("problem:"), s.Pid, term.Escape(baseName(s.Exe)), term.Escape(s.Problem))
		}
	}
	return nil
}

func prepatchIDs(all []pie.ProcessStatus) []string {
	var ids []string
	for _, s := range all {
		for _, p := range s.Prepatches {
			if !slices.Contains(ids, p.ID) {
				ids = append(ids, p.ID)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// printPrepatchStatus prints one prepatch and a row for each of its guards in
// each process.
func (a *app) printPrepatchStatus(id string, all []pie.ProcessStatus, style term.Style) error {
	fmt.Fprintln(a.out, style.Bold(term.Escape(id)))
	t := (&term.Table{}).Right(0, 4, 5, 6, 7, 8)
	t.Row("PID", "EXE", "FUNCTION", "MODE", "CALLS", "REJECTED", "AUDITED", "ERRORS", "RAN LONG", "")
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID != id {
				continue
			}
			for _, g := range p.Guards {
				t.Row(fmt.Sprint(s.Pid), baseName(s.Exe), g.Function, modeWords(p.Mode, p.TrialEnd, time.Now()),
					fmt.Sprint(g.Calls), fmt.Sprint(g.Rejects), fmt.Sprint(g.Audited), fmt.Sprint(g.Errors), fmt.Sprint(g.RanLong),
					remarks(p, g))
			}
		}
	}
	return t.Write(a.out, "  ")
}

// remarks is what stands out about a guard, empty when nothing does.
func remarks(p pie.PrepatchStatus, g pie.GuardStatus) string {
	var r []string
	if !g.Intact {
		r = append(r, "the site was changed by someone else")
	}
	if p.State != "in" {
		r = append(r, p.State)
	}
	if p.Stopped != "" {
		r = append(r, "turned off: "+p.Stopped)
	}
	if p.Partial {
		r = append(r, "copies not covered")
	}
	return strings.Join(r, ", ")
}
