package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
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
		Long: `Show which prepatches are in which processes: mode, until when, calls, rejects, guard
errors, processes of the same program that have no guard, and what a killed pie left
half-done. All of it is read from the processes, none is stopped, but for --check.`,
		Args: exact(0, "no argument but TARGET flags"),
	}
	t.register(c)
	c.Flags().BoolVar(&check, "check", false, "exit 1 when a guard is not in place, does not reject, fails on most calls, or something was left half-done; asks each process, in a stop of one thread, whether PIE's signal handlers still stand")
	c.RunE = func(c *cobra.Command, _ []string) error {
		sel, err := a.selectInserted(c, &t)
		if err != nil {
			return err
		}
		all, err := pie.Status(c.Context(), sel)
		if err == nil && check {
			err = pie.CheckHandlers(c.Context(), all)
		}
		if err != nil {
			return err
		}
		if a.json {
			err = a.printJSON(orEmpty(all))
		} else {
			err = a.printStatus(c.Context(), sel, all)
			a.printUnasked(all, check)
			a.printAgent(c.Context())
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
		if len(problemsOf(s)) > 0 || len(s.Left) > 0 {
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

func (a *app) printStatus(ctx context.Context, sel pie.Select, all []pie.ProcessStatus) error {
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
	open, err := pie.Unguarded(ctx, sel, all)
	if err != nil {
		return err
	}
	var unguarded, problems alikes
	for _, s := range open {
		unguarded.say(s.Pid, s.Exe, "")
	}
	for _, u := range unguarded {
		words := "runs the same program and has no guard"
		if len(u.pids) > 1 {
			words = "run the same program and have no guard"
		}
		fmt.Fprintf(a.out, "%s %s %s\n", style.Warn("note:"), u.who(), words)
	}
	for _, s := range all {
		for _, left := range s.Left {
			fmt.Fprintf(a.out, "%s pid %d (%s): %s\n", style.Warn("half-done:"), s.Pid, term.Escape(baseName(s.Exe)), term.Escape(left))
		}
		if len(s.Left) > 0 {
			fmt.Fprintf(a.out, "  left by a pie that was killed, or by a fork while one was at work, unless one is at work on it now: pie repair --pid %d\n", s.Pid)
		}
		for _, problem := range problemsOf(s) {
			problems.say(s.Pid, s.Exe, problem)
		}
	}
	for _, p := range problems {
		fmt.Fprintf(a.out, "%s %s: %s\n", style.Bad("problem:"), p.who(), term.Escape(p.text))
	}
	return nil
}

// printUnasked names the processes whose signal handlers were not looked at, or, with
// --check, could not be.
func (a *app) printUnasked(all []pie.ProcessStatus, check bool) {
	words := "was not looked at: pie status --check does, in a stop of one thread"
	if check {
		words = "could not be found out"
	}
	var unasked alikes
	for _, s := range all {
		if s.HandlersUnasked {
			unasked.say(s.Pid, s.Exe, "")
		}
	}
	style := term.StyleFor(a.out, a.getenv)
	for _, u := range unasked {
		fmt.Fprintf(a.out, "%s %s: whether PIE's signal handlers, which its guards need, still stand %s\n", style.Warn("note:"), u.who(), words)
	}
}

// problemsOf are what keeps the guards of a process from doing what they are for.
func problemsOf(s pie.ProcessStatus) []string {
	var out []string
	if s.Problem != "" {
		out = append(out, s.Problem)
	}
	for _, p := range s.Prepatches {
		for _, g := range p.Guards {
			if g.Lost {
				out = append(out, fmt.Sprintf("%s is not in front of %s any more: %s was unloaded, or unloaded and loaded again, or somebody wrote its own bytes back; insert it again",
					p.ID, g.Function, g.Image))
			}
			if g.Failing {
				out = append(out, fmt.Sprintf("%s could not judge %d of %d calls of %s: a guard error ended it, or it ran too long; pie events shows them",
					p.ID, g.Errors+g.RanLong, g.Calls, g.Function))
			}
		}
	}
	return out
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

// statusRow is one guard in the processes that share its counts and mode.
type statusRow struct {
	function, remarks string
	g                 pie.GuardStatus
	pids              []int
}

// printPrepatchStatus prints one prepatch: what it is set to, and a row for each
// guard in each family of processes, since a family counts together.
func (a *app) printPrepatchStatus(id string, all []pie.ProcessStatus, style term.Style) error {
	var modes, exes []string
	var rows []*statusRow
	index := map[string]*statusRow{}
	n := 0
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID != id {
				continue
			}
			n++
			mode := modeWords(p.Mode, p.TrialEnd, time.Now())
			modes, exes = appendNew(modes, mode), appendNew(exes, baseName(s.Exe))
			for _, g := range p.Guards {
				key := fmt.Sprint(p.Counters, g.Function, g.Site, mode, remarks(p, g))
				if index[key] == nil {
					index[key] = &statusRow{function: g.Function, remarks: remarks(p, g), g: g}
					rows = append(rows, index[key])
				}
				index[key].pids = append(index[key].pids, s.Pid)
			}
		}
	}
	fmt.Fprintf(a.out, "%s  %s  %s\n", style.Bold(term.Escape(id)), term.Escape(strings.Join(exes, ", ")), strings.Join(modes, "; "))
	fmt.Fprintf(a.out, "  in %s%s\n", plural(n, "process", "processes"), placesOf(id, all))
	if isRecorder(id, all) {
		fmt.Fprintf(a.out, "  takes calls down for pie record and rejects none; idle if no pie record is running: pie remove %s\n", term.Escape(id))
	}
	printCapabilities(a.out, capsIn(id, all), style)
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID == id && (p.Inside > 0 || p.Nested > 0) {
				fmt.Fprintf(a.out, "  pid %d: %d threads are in functions that it called; %d calls made from there passed unseen\n", s.Pid, p.Inside, p.Nested)
			}
		}
	}
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID == id && p.NoEvents {
				fmt.Fprintf(a.out, "  pid %d: counts only, of its own, and keeps no events: in its sandbox nothing can be mapped\n", s.Pid)
			}
		}
	}
	if seen := a.seenIn(id, all); seen != "" {
		fmt.Fprintf(a.out, "  %s %s\n", seenLabel(pie.ModeEnforce), term.Escape(seen))
	}
	return writeStatusRows(a.out, rows)
}

// placesOf is " · 2 of 2 guards in place", in the process that has the fewest. How
// many copies of a function there are that no guard is in front of is not recorded
// in a process; pie plan tells.
func placesOf(id string, all []pie.ProcessStatus) string {
	inPlace, of := 0, 0
	partial := ""
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID != id {
				continue
			}
			n := 0
			for _, g := range p.Guards {
				if g.Intact {
					n++
				}
			}
			if of == 0 || n < inPlace {
				inPlace, of = n, len(p.Guards)
			}
			if p.Partial {
				partial = " · not all copies: inserted with --partial"
			}
		}
	}
	return fmt.Sprintf(" · %d of %s in place%s", inPlace, plural(of, "guard", "guards"), partial)
}

// isRecorder tells whether id is what pie record puts into processes.
func isRecorder(id string, all []pie.ProcessStatus) bool {
	return slices.ContainsFunc(all, func(s pie.ProcessStatus) bool {
		return slices.ContainsFunc(s.Prepatches, func(p pie.PrepatchStatus) bool { return p.ID == id && pie.IsRecorder(p) })
	})
}

// capsIn are the capabilities that prepatch id has in any of the processes.
func capsIn(id string, all []pie.ProcessStatus) []string {
	var caps []string
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID == id {
				for _, c := range p.Caps {
					caps = appendNew(caps, c)
				}
			}
		}
	}
	return caps
}

// seenIn is what a client sees that prepatch id rejects: as the catalogue says
// of it, if what is in these processes is what the catalogue has.
func (a *app) seenIn(id string, all []pie.ProcessStatus) string {
	e, ok := a.lookup(id)
	if !ok {
		return ""
	}
	hash := pie.HashOf(e.Files)
	for _, s := range all {
		for _, p := range s.Prepatches {
			if p.ID == id && p.Hash != hex.EncodeToString(hash[:]) {
				return ""
			}
		}
	}
	return e.Seen
}

func writeStatusRows(w io.Writer, rows []*statusRow) error {
	t := (&term.Table{}).Right(1, 2, 3, 4, 5)
	t.Row("FUNCTION", "CALLS", "REJECTED", "AUDITED", "ERRORS", "RAN LONG", "PIDS", "")
	for _, r := range rows {
		t.Row(r.function, fmt.Sprint(r.g.Calls), fmt.Sprint(r.g.Rejects), fmt.Sprint(r.g.Audited),
			fmt.Sprint(r.g.Errors), fmt.Sprint(r.g.RanLong), pidList(r.pids), r.remarks)
	}
	return t.Write(w, "  ")
}

// pidList names the first few pids and counts the others.
func pidList(pids []int) string {
	const shown = 4
	var b strings.Builder
	for i, pid := range pids {
		if i == shown {
			fmt.Fprintf(&b, " and %d more", len(pids)-shown)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, pid)
	}
	return b.String()
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// remarks is what stands out about a guard, empty when nothing does.
func remarks(p pie.PrepatchStatus, g pie.GuardStatus) string {
	var r []string
	switch {
	case g.Lost:
		r = append(r, "gone with its library")
	case !g.Intact && p.State == "altered":
		r = append(r, "the site was changed by someone else")
	case !g.Intact:
		r = append(r, "not in place")
	}
	if p.State != "in" && p.State != "lost" {
		r = append(r, p.State)
	}
	if p.Stopped != "" {
		r = append(r, "turned off: "+p.Stopped)
	}
	if g.Refused > 0 {
		r = append(r, fmt.Sprintf("the program's sandbox refused %s of the guard's: it does not see what it should", plural(int(min(g.Refused, 1<<31)), "read", "reads")))
	}
	if p.Partial {
		r = append(r, "copies not covered")
	}
	return strings.Join(r, ", ")
}
