package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/index"
	"github.com/patch-integration-engine/pie/internal/operate/catalogue"
	"github.com/patch-integration-engine/pie/internal/term"
)

func (a *app) scanCommand() *cobra.Command {
	var t targetFlags
	var exitCode int
	var fresh bool
	c := &cobra.Command{
		Use:   "scan [TARGET]",
		Short: "List running processes that a catalogue prepatch is about",
		Long: `List running processes that a prepatch of the catalogue, or of your own, is about: would
guard, guarded, fixed, or why it cannot be guarded. Nothing is changed. What is found
about files is kept, so that the next scan looks at what is new; --fresh does not use it.`,
		Args: exact(0, "no argument but TARGET flags"),
	}
	t.register(c)
	c.Flags().IntVar(&exitCode, "exit-code", 0, "exit with `N` when a process could be guarded and is not")
	c.Flags().BoolVar(&fresh, "fresh", false, "look at every process anew, and forget what is kept of scans before")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if exitCode < 0 || exitCode > 125 {
			return usage(c, "--exit-code %d: choose 0 to 125", exitCode)
		}
		sel, err := a.selectInserted(c, &t)
		if err != nil {
			return err
		}
		results, broken, err := a.scan(c, sel, fresh)
		if err != nil {
			return err
		}
		if a.json {
			err = a.printJSON(orEmpty(results))
		} else {
			err = a.printScan(results)
		}
		if err == nil && exitCode != 0 && anyOpen(results) {
			_ = a.tellBroken(broken)
			return exitWith{exitCode}
		}
		if err != nil {
			return err
		}
		return a.tellBroken(broken)
	}
	return c
}

// scan compares the selected processes with the whole catalogue, but for what of it
// cannot be used. What no entry is about is kept in the store of this machine, so that
// it is compared once.
func (a *app) scan(c *cobra.Command, sel pie.Select, fresh bool) ([]pie.ScanResult, []catalogue.Broken, error) {
	a.progress.Step("comparing processes with the catalogue")
	defer a.progress.Step("")
	all := a.catalogue()
	load := func() ([]*pie.Prepatch, error) { return loadAll(&all), nil }
	store, err := openStore()
	if err != nil {
		if errors.Is(err, index.ErrShared) {
			fmt.Fprintf(a.err, "pie: note: %s; nothing is kept\n", term.Escape(err.Error()))
		}
		results, err := pie.Scan(c.Context(), loadAll(&all), sel)
		return results, all.Broken, err
	}
	defer store.Close()
	kept := pie.Kept{Store: store, Revision: index.Program() + all.Revision(), Exes: all.Executables(), Load: load, Forget: fresh}
	results, err := pie.ScanKept(c.Context(), kept, sel)
	return results, all.Broken, err
}

func openStore() (*index.Store, error) {
	folder, err := index.Folder()
	if err != nil {
		return nil, err
	}
	return index.Open(folder)
}

// loadAll compiles the entries; those that are not sound become broken.
func loadAll(all *catalogue.Catalogue) []*pie.Prepatch {
	var prepatches []*pie.Prepatch
	for _, e := range all.Entries {
		p, err := pie.Load(e.Files)
		if err != nil {
			all.Broken = append(all.Broken, catalogue.Broken{Path: e.ID, Err: err})
			continue
		}
		prepatches = append(prepatches, p)
	}
	return prepatches
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
	next := ""
	for _, f := range fold(results) {
		detail := f.Message
		if f.State == pie.ScanGuardable && next == "" {
			next = fmt.Sprintf("guard one: pie insert %s --pid %d   what it is: pie show %s", f.ID, f.Pid, f.ID)
		}
		state := string(f.State)
		if f.children > 0 {
			state += fmt.Sprintf(", with %s", plural(f.children, "child", "children"))
		}
		t.Row(f.ID, fmt.Sprint(f.Pid), baseName(f.Exe), f.FixedIn, state, detail)
	}
	if err := t.Write(a.out, ""); err != nil || next == "" {
		return err
	}
	_, err := fmt.Fprintln(a.out, next)
	return err
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
