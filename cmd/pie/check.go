package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
	"github.com/patch-integration-engine/pie/libpie"
)

func (a *app) checkCommand() *cobra.Command {
	var line oneLine
	var t targetFlags
	c := &cobra.Command{
		Use:   "check PREPATCH",
		Short: "Compile and verify a prepatch; show its cost and where it fails open",
		Long: `Compile and verify a prepatch; show its cost and where it fails open.

With --func, --when and --reject instead of a PREPATCH the Go file that they become
is printed, too, or written to a FILE with -o; --pid or --exe name the program.`,
		Args:              atMost(1, "one PREPATCH"),
		ValidArgsFunction: a.completePrepatch,
		RunE: func(c *cobra.Command, args []string) error {
			p, err := a.checked(c, args, &line, &t)
			if err != nil {
				return err
			}
			p.Measure()
			if a.json {
				return a.printJSON(p)
			}
			a.printPrepatch(p)
			return nil
		},
	}
	line.register(c)
	c.Flags().StringVarP(&line.output, "output", "o", "", "with --func: write the Go file to this `FILE`, which must not exist, instead of printing it")
	c.Flags().IntSliceVar(&t.spec.Pids, "pid", nil, "with --func: the program of process `N`")
	c.Flags().StringVar(&t.spec.Exe, "exe", "", "with --func: the program, an executable's `PATH` or name")
	return c
}

// checked loads what check is to look at.
func (a *app) checked(c *cobra.Command, args []string, line *oneLine, t *targetFlags) (*pie.Prepatch, error) {
	switch {
	case line.given() && len(args) > 0:
		return nil, usage(c, "give a PREPATCH or --func, not both")
	case !line.given() && line.output != "":
		return nil, usage(c, "-o writes what --func, --when and --reject become; a PREPATCH is a file already")
	case len(args) == 1:
		return a.loadPrepatch(args[0])
	case !line.given():
		return nil, usage(c, "%s takes one PREPATCH, or --func F --when EXPR --reject N", c.CommandPath())
	}
	source, err := line.source(c, t)
	if err != nil {
		return nil, err
	}
	switch {
	case line.output != "":
		if err := writeNew(line.output, source); err != nil {
			return nil, err
		}
	case !a.json:
		fmt.Fprintf(a.out, "%s\n", source)
	}
	return pie.Load(map[string][]byte{"command-line.go": source})
}

// writeNew writes a file that must not exist.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return &pie.Refusal{Code: pie.CodeExists, Msg: path + " exists already", Instead: "name another file with -o", Err: err}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

func (a *app) printPrepatch(p *pie.Prepatch) {
	style := term.StyleFor(a.out, a.getenv)
	fmt.Fprintf(a.out, "%s  %s", style.Bold(term.Escape(p.ID)), style.Good("verified"))
	if p.Fixed != "" {
		fmt.Fprintf(a.out, ", fixed in %s", term.Escape(p.Fixed))
	}
	if !p.Expires.IsZero() {
		fmt.Fprintf(a.out, ", expires %s", p.Expires.Format(time.DateOnly))
	}
	fmt.Fprintln(a.out)
	if len(p.Caps) > 0 {
		fmt.Fprintf(a.out, "  %s\n", style.Warn("asks for: "+term.Escape(strings.Join(p.Caps, ", "))))
		printCapabilities(a.out, p.Caps, style)
	}
	if p.State > 0 {
		fmt.Fprintf(a.out, "  keeps up to %.1f KiB of state in each process\n", float64(p.State)/1024)
	}
	fmt.Fprintf(a.out, "  %s\n", evidenceWords(p.Evidence()))
	for _, g := range p.Guards {
		fmt.Fprintf(a.out, "  %s guards %s\n", term.Escape(g.Name), term.Escape(g.Where))
		a.printCost(g)
		for _, l := range g.Limits {
			fmt.Fprintf(a.out, "    %s\n", term.Escape(l.String()))
		}
		for _, s := range g.FailsOpen {
			fmt.Fprintf(a.out, "    %s\n", style.Warn(term.Escape(s)))
		}
		if len(g.FailsOpen) == 0 {
			fmt.Fprintf(a.out, "    never fails open\n")
		}
	}
}

// evidenceWords says what may leave a process in a recording.
func evidenceWords(e pie.Evidence) string {
	switch e {
	case pie.EvidenceNone:
		return "its calls may not be recorded"
	case pie.EvidenceMemory:
		return "a recording of its calls may hold argument words and the memory it reads"
	}
	return "a recording of its calls may hold argument words"
}

// printCapabilities says what a prepatch may do beyond looking, rejecting and noting.
func printCapabilities(w io.Writer, caps []string, style term.Style) {
	for _, name := range caps {
		fmt.Fprintf(w, "  %s\n", style.Warn("it "+term.Escape(pie.CapabilityWords(name))))
	}
}

// printCost says what a call of the guard costs at worst.
func (a *app) printCost(g pie.GuardInfo) {
	fmt.Fprintf(a.out, "    at most %s a call: %s", worstTime(g.Worst), plural(g.Insns, "instruction", "instructions"))
	if g.Code > 0 {
		fmt.Fprintf(a.out, ", %s of code, %s saved", plural(g.Code, "byte", "bytes"), plural(g.Saved, "register", "registers"))
	}
	fmt.Fprintf(a.out, ", %s of stack\n", plural(g.Stack, "byte", "bytes"))
	var reads []string
	for _, l := range []struct {
		n    int
		what string
	}{{g.Loads.Call, "of the call"}, {g.Loads.Memory, "of the program's memory"}, {g.Loads.Constants, "of constants"}, {g.Loads.Stack, "of its own stack"}} {
		if l.n > 0 {
			reads = append(reads, fmt.Sprintf("%d %s", l.n, l.what))
		}
	}
	if len(reads) == 0 {
		reads = []string{"none"}
	}
	fmt.Fprintf(a.out, "    reads: %s", strings.Join(reads, ", "))
	if len(g.Helpers) > 0 {
		fmt.Fprintf(a.out, "; calls %s", strings.Join(g.Helpers, ", "))
	}
	fmt.Fprintf(a.out, "; %d may meet unreadable memory\n", g.Reads)
	if len(g.Calls) > 0 {
		fmt.Fprintf(a.out, "    calls %s of the program, and what that takes is not bounded and not in the time above\n", term.Escape(strings.Join(g.Calls, ", ")))
	}
	if g.Writes > 0 {
		fmt.Fprintf(a.out, "    writes the program's memory in %s\n", plural(g.Writes, "place", "places"))
	}
	if len(g.Caps) > 0 {
		fmt.Fprintf(a.out, "    capabilities: %s\n", term.Escape(strings.Join(g.Caps, ", ")))
	}
}

// worstTime is "12 ns", "3.4 µs".
func worstTime(d time.Duration) string {
	if d < time.Nanosecond {
		return "less than 1 ns"
	}
	if d < time.Microsecond {
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	}
	return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1000)
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show [ID | libpie.h]",
		Short:             "List the catalogue, or print the source of one of its prepatches, or libpie.h for guards in C",
		Args:              atMost(1, "at most one ID"),
		ValidArgsFunction: a.completePrepatch,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "libpie.h" {
				_, err := a.out.Write(libpie.Header)
				return err
			}
			if len(args) == 1 {
				return a.showSource(args[0])
			}
			return a.showCatalogue()
		},
	}
}

func (a *app) showSource(id string) error {
	e, ok := a.lookup(id)
	if !ok {
		return a.unknownPrepatch(id)
	}
	if a.json {
		return a.printJSON(e)
	}
	fmt.Fprintf(a.out, "%s", e.Source())
	return nil
}

func (a *app) showCatalogue() error {
	c := a.catalogue()
	var err error
	if a.json {
		err = a.printJSON(c.Entries)
	} else {
		var t term.Table
		for _, e := range c.Entries {
			t.Row(e.ID, e.Product, e.Summary)
		}
		err = t.Write(a.out, "")
	}
	if err != nil {
		return err
	}
	return a.tellBroken(c.Broken)
}
