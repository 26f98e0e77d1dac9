package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/target"
	"github.com/patch-integration-engine/pie/internal/proc"
	"github.com/patch-integration-engine/pie/internal/term"
)

// targetFlags are the flags that say which processes a command works on.
type targetFlags struct {
	spec target.Spec
	yes  bool
}

func (t *targetFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.IntSliceVar(&t.spec.Pids, "pid", nil, "process `N` and its descendants (repeatable)")
	f.StringVar(&t.spec.Exe, "exe", "", "processes running this executable (`PATH` or name)")
	f.StringVar(&t.spec.Unit, "unit", "", "processes of this systemd `UNIT`")
	f.StringVar(&t.spec.Container, "container", "", "processes of this container (`ID`)")
	f.BoolVar(&t.spec.Host, "host", false, "all processes of this machine")
	f.BoolVar(&t.spec.NoChildren, "no-children", false, "leave out descendants that run the same executable")
	f.BoolVar(&t.yes, "yes", false, "do not ask when several unrelated groups of processes match")
}

func (t *targetFlags) given() bool { return t.spec.Given() }

// selector resolves the flags; a pid that does not exist is a Refusal.
func (t *targetFlags) selector(c *cobra.Command) (*target.Selector, error) {
	for _, pid := range t.spec.Pids {
		if pid < 1 {
			return nil, usage(c, "--pid %d: a process has a positive number", pid)
		}
	}
	s, err := target.New(t.spec)
	switch {
	case errors.Is(err, proc.ErrGone):
		return nil, missingPid(t.spec.Pids, err)
	case err != nil:
		return nil, usage(c, "%v", err)
	}
	return s, nil
}

// missingPid names the first pid that no process has.
func missingPid(pids []int, err error) error {
	for _, pid := range pids {
		p, gone := proc.Open(pid)
		if gone != nil {
			return &pie.Refusal{Code: pie.CodeNoProcess, Msg: fmt.Sprintf("pid %d: no such process", pid),
				Instead: "see what runs with pie scan, or name it with --exe", Err: err}
		}
		p.Close()
	}
	return err
}

// selectInserted returns the processes that a command about prepatches already
// in works on: those of the TARGET, or all of this machine.
func (a *app) selectInserted(c *cobra.Command, t *targetFlags) (pie.Select, error) {
	if !t.given() {
		t.spec.Host = true
	}
	if t.spec.Host && os.Geteuid() != 0 && !a.json {
		fmt.Fprintln(a.err, "note: processes of other users are not looked at; root sees them all")
	}
	s, err := t.selector(c)
	if err != nil {
		return nil, err
	}
	return t.with(s, nil), nil
}

// with returns what s selects and, besides, each pid of the command line that
// it does not: what cannot be guarded is to be refused, not passed over. These
// are looked for once, while the numbers still mean what they did when typed.
// known, if not nil, is what s selected just now.
func (t *targetFlags) with(s *target.Selector, known []target.Group) pie.Select {
	var besides []int
	asked := false
	return func(ctx context.Context) ([]int, error) {
		groups, err := known, error(nil)
		if asked || known == nil {
			groups, err = s.Groups(ctx)
		}
		if err != nil && !errors.Is(err, target.ErrNone) {
			return nil, err
		}
		pids := flatten(groups)
		for _, pid := range t.spec.Pids {
			if !asked && !slices.Contains(pids, pid) {
				besides = append(besides, pid)
			}
		}
		asked = true
		return append(pids, besides...), nil
	}
}

func flatten(groups []target.Group) []int {
	var pids []int
	for _, g := range groups {
		for _, p := range g {
			pids = append(pids, p.Pid)
		}
	}
	return pids
}

// selectForInsert returns the processes that insert and plan work on. Without
// TARGET it shows what a scan finds; several unrelated groups are asked about.
func (a *app) selectForInsert(c *cobra.Command, t *targetFlags, p *pie.Prepatch, ref string) (pie.Select, error) {
	if !t.given() {
		return nil, a.suggestTargets(c, p, ref)
	}
	if len(t.spec.Pids) == 0 {
		t.spec.Runs = executables(p)
	}
	s, err := t.selector(c)
	if err != nil {
		return nil, err
	}
	groups, err := s.Groups(c.Context())
	if errors.Is(err, target.ErrNone) && len(t.spec.Pids) == 0 {
		return nil, noMatch(err)
	}
	if err != nil && !errors.Is(err, target.ErrNone) {
		return nil, err
	}
	if len(groups) > max(1, len(t.spec.Pids)) && !t.yes && c.Name() != "plan" {
		if err := a.askGroups(c, groups, p); err != nil {
			return nil, err
		}
	}
	return t.with(s, groups), nil
}

// some makes sure that the TARGET names a process, before it is asked what the
// program is made of.
func (t *targetFlags) some(c *cobra.Command) error {
	s, err := t.selector(c)
	if err != nil || len(t.spec.Pids) > 0 {
		return err
	}
	if _, err = s.Groups(c.Context()); errors.Is(err, target.ErrNone) {
		return noMatch(err)
	}
	return err
}

func noMatch(err error) error {
	return &pie.Refusal{Code: pie.CodeNoProcess, Msg: "no running process matches", Instead: "pie scan lists what a catalogue prepatch is about", Err: err}
}

// executables are those the guards of a prepatch name; none when one guard
// names a library alone, which any program may map.
func executables(p *pie.Prepatch) []string {
	var exes []string
	for _, g := range p.Guards {
		if g.Exe == "" {
			return nil
		}
		if !slices.Contains(exes, g.Exe) {
			exes = append(exes, g.Exe)
		}
	}
	return exes
}

// suggestTargets tells what could be typed instead of nothing.
func (a *app) suggestTargets(c *cobra.Command, p *pie.Prepatch, ref string) error {
	s, err := target.New(target.Spec{Host: true, Runs: executables(p)})
	if err != nil {
		return err
	}
	results, err := pie.Scan(c.Context(), []*pie.Prepatch{p}, s.Select)
	if err != nil && pie.ReasonOf(err) != pie.CodeNoProcess && !errors.Is(err, target.ErrNone) {
		return err
	}
	var lines []string
	for _, r := range fold(results) {
		if r.State != pie.ScanGuardable {
			continue
		}
		line := fmt.Sprintf("pie %s %s --pid %d    # %s", c.Name(), ref, r.Pid, term.Escape(r.Exe))
		if r.children > 0 {
			line += ", with " + plural(r.children, "child", "children")
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return usage(c, "name a TARGET, such as --pid N; no running process is one that %s is about", p.ID)
	}
	if a.json {
		return usage(c, "name a TARGET; a scan found: %s", strings.Join(lines, "; "))
	}
	fmt.Fprintf(a.err, "name a TARGET; a scan found what %s is about:\n", term.Escape(p.ID))
	for _, l := range lines {
		fmt.Fprintf(a.err, "  %s\n", l)
	}
	return exitWith{exitUsage}
}

// askGroups lists unrelated groups of processes and asks whether all are meant.
func (a *app) askGroups(c *cobra.Command, groups []target.Group, p *pie.Prepatch) error {
	what := fmt.Sprintf("the TARGET names %d unrelated groups of processes", len(groups))
	if a.json || !term.IsTerminal(a.in) || !term.IsTerminal(a.err) {
		return &pie.Refusal{Code: pie.CodeGroups, Msg: what + ":", Details: groupLines(groups),
			Instead: "add --yes to mean them all, or choose with --pid"}
	}
	fmt.Fprintf(a.err, "%s:\n", what)
	for _, l := range groupLines(groups) {
		fmt.Fprintf(a.err, "  %s\n", term.Escape(l))
	}
	fmt.Fprintf(a.err, "%s %s in all of them? [y/N] ", c.Name(), term.Escape(p.ID))
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if s := strings.ToLower(strings.TrimSpace(answer)); s == "y" || s == "yes" {
		return nil
	}
	return &pie.Refusal{Code: pie.CodeGroups, Msg: "not confirmed", Instead: "choose with --pid, or answer y"}
}

func groupLines(groups []target.Group) []string {
	lines := make([]string, len(groups))
	for i, g := range groups {
		lines[i] = fmt.Sprintf("pid %d (%s)", g[0].Pid, g[0].Exe)
		if len(g) > 1 {
			lines[i] += fmt.Sprintf(" and %s", plural(len(g)-1, "descendant", "descendants"))
		}
	}
	return lines
}
