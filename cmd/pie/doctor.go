package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

func (a *app) doctorCommand() *cobra.Command {
	var t targetFlags
	c := &cobra.Command{
		Use:   "doctor [TARGET]",
		Short: "Tell whether processes can be guarded, and what is in the way",
		Long: `Tell whether processes can be guarded, and what is in the way: of this machine and, with
a TARGET, of each process. Nothing is changed.`,
		Args: exact(0, "no argument but TARGET flags"),
	}
	t.register(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		pids := []int{0} // the machine alone
		if t.given() {
			sel, err := a.selectInserted(c, &t)
			if err != nil {
				return err
			}
			if pids, err = sel(c.Context()); err != nil {
				return err
			}
		}
		var all []*pie.Diagnosis
		for _, pid := range pids {
			d, err := pie.Doctor(c.Context(), pid)
			if err != nil {
				return err
			}
			all = append(all, d)
		}
		return a.finishDoctor(all)
	}
	return c
}

// finishDoctor prints the diagnoses; the exit code is 3 when one is blocked.
func (a *app) finishDoctor(all []*pie.Diagnosis) error {
	blocked := false
	for _, d := range all {
		blocked = blocked || !d.CanGuard()
	}
	if a.json {
		if err := a.printJSON(orEmpty(all)); err != nil {
			return err
		}
	} else {
		for _, d := range all {
			if err := a.printDiagnosis(d); err != nil {
				return err
			}
		}
	}
	if blocked {
		return exitWith{exitRefused}
	}
	return nil
}

func (a *app) printDiagnosis(d *pie.Diagnosis) error {
	style := term.StyleFor(a.out, a.getenv)
	who := "this machine"
	if d.Pid != 0 {
		who = fmt.Sprintf("pid %d (%s)", d.Pid, term.Escape(baseName(d.Exe)))
	}
	fmt.Fprintln(a.out, style.Bold(who))
	var t term.Table
	for _, f := range d.Findings {
		t.Row(f.Verdict, f.What, f.Detail)
	}
	if err := t.Write(a.out, "  "); err != nil {
		return err
	}
	for _, f := range d.Findings {
		if f.Verdict == pie.FindingBlocked && f.Instead != "" {
			fmt.Fprintf(a.out, "  %s: %s\n", f.What, term.Escape(f.Instead))
		}
	}
	switch {
	case !d.CanGuard():
		fmt.Fprintln(a.out, style.Bad("  cannot be guarded"))
	case d.Pid != 0:
		fmt.Fprintln(a.out, style.Good("  can be guarded"))
	default:
		fmt.Fprintln(a.out, style.Good("  nothing is in the way"))
	}
	return nil
}
