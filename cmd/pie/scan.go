package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/catalogue"
	"github.com/patch-integration-engine/pie/internal/term"
)

func (a *app) scanCommand() *cobra.Command {
	var t targetFlags
	var exitCode int
	c := &cobra.Command{
		Use:   "scan [TARGET]",
		Short: "List running processes that a catalogue prepatch is about",
		Args:  exact(0, "no argument but TARGET flags"),
	}
	t.register(c)
	c.Flags().IntVar(&exitCode, "exit-code", 0, "exit with `N` when a process could be guarded and is not")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if exitCode < 0 || exitCode > 125 {
			return usage(c, "--exit-code %d: choose 0 to 125", exitCode)
		}
		sel, err := a.selectInserted(c, &t)
		if err != nil {
			return err
		}
		results, err := a.scan(c, sel)
		if err != nil {
			return err
		}
		if a.json {
			err = a.printJSON(orEmpty(results))
		} else {
			err = a.printScan(results)
		}
		if err == nil && exitCode != 0 && anyOpen(results) {
			return exitWith{exitCode}
		}
		return err
	}
	return c
}

// scan compares the selected processes with the whole catalogue.
func (a *app) scan(c *cobra.Command, sel pie.Select) ([]pie.ScanResult, error) {
	a.progress.Step("comparing processes with the catalogue")
	defer a.progress.Step("")
	var prepatches []*pie.Prepatch
	for _, e := range catalogue.All() {
		p, err := pie.Load(e.Files)
		if err != nil {
			return nil, fmt.Errorf("catalogue prepatch %s: %w", e.ID, err)
		}
		prepatches = append(prepatches, p)
	}
	return pie.Scan(c.Context(), prepatches, sel)
}

// anyOpen reports whether a vulnerable process is unguarded.
func anyOpen(results []pie.ScanResult) bool {
	for _, r := range results {
		if r.State == pie.ScanGuardable || r.State == pie.ScanRefused {
			return true
		}
	}
	return false
}

func (a *app) printScan(results []pie.ScanResult) error {
	if len(results) == 0 {
		fmt.Fprintln(a.out, "no running process is one a catalogue prepatch is about")
		return nil
	}
	t := (&term.Table{}).Right(1)
	t.Row("PREPATCH", "PID", "EXE", "STATE", "")
	for _, r := range results {
		detail := r.Message
		if r.State == pie.ScanGuardable {
			detail = fmt.Sprintf("pie insert %s --pid %d", r.ID, r.Pid)
			if r.FixedIn != "" {
				detail += "   # unless it is " + r.FixedIn + " or newer"
			}
		}
		t.Row(r.ID, fmt.Sprint(r.Pid), baseName(r.Exe), string(r.State), detail)
	}
	return t.Write(a.out, "")
}
