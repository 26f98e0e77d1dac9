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
	t.Row("PREPATCH", "PID", "EXE", "FIXED IN", "STATE", "")
	for _, f := range fold(results) {
		detail := f.Message
		if f.State == pie.ScanGuardable {
			detail = fmt.Sprintf("pie insert %s --pid %d", f.ID, f.Pid)
		}
		state := string(f.State)
		if f.children > 0 {
			state += fmt.Sprintf(", with %s", plural(f.children, "child", "children"))
		}
		t.Row(f.ID, fmt.Sprint(f.Pid), baseName(f.Exe), f.FixedIn, state, detail)
	}
	return t.Write(a.out, "")
}

// folded is a process and how many of its descendants have the same result:
// they are guarded with it.
type folded struct {
	pie.ScanResult
	children int
}

func fold(results []pie.ScanResult) []*folded {
	type key struct {
		id    string
		state pie.ScanState
		exe   string
		pid   int
	}
	var rows []*folded
	top := map[key]*folded{}
	for _, r := range results { // parents come first
		if f := top[key{r.ID, r.State, r.Exe, r.Parent}]; f != nil {
			f.children++
			top[key{r.ID, r.State, r.Exe, r.Pid}] = f
			continue
		}
		f := &folded{ScanResult: r}
		top[key{r.ID, r.State, r.Exe, r.Pid}] = f
		rows = append(rows, f)
	}
	return rows
}
