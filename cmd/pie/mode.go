package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

// idFlags are what mode, keep, off and remove share: one prepatch or every one.
type idFlags struct {
	target targetFlags
	every  bool
	// idless is set for off: without an ID it stops everything, because who needs
	// it is in a hurry.
	idless bool
}

func (f *idFlags) register(c *cobra.Command) {
	f.target.register(c)
	c.Flags().BoolVar(&f.every, "every-prepatch", false, "every prepatch in the TARGET, instead of one ID")
}

// id is the prepatch meant: args holds it, or is empty under --every-prepatch.
func (f *idFlags) id(c *cobra.Command, args []string) (string, error) {
	switch {
	case f.every && len(args) > 0:
		return "", usage(c, "give an ID or --every-prepatch, not both")
	case f.every && !f.target.given():
		return "", usage(c, "--every-prepatch needs a TARGET, such as --pid N or --host")
	case f.every:
		return pie.AnyID, nil
	case len(args) == 0 && f.idless:
		return pie.AnyID, nil
	case len(args) == 0:
		return "", usage(c, "give the ID of a prepatch, or --every-prepatch and a TARGET; pie status lists what is in")
	}
	return args[0], nil
}

// changeCommand is a command that does one thing to prepatches that are in.
func (a *app) changeCommand(c *cobra.Command, w reportWords, args func(*cobra.Command, []string) ([]string, error),
	do func(ctx context.Context, id string, rest []string, sel pie.Select) (*pie.Report, error)) *cobra.Command {
	f := idFlags{idless: c.Name() == "off"}
	f.register(c)
	c.RunE = func(c *cobra.Command, words []string) error {
		rest, err := args(c, words)
		if err != nil {
			return err
		}
		id, err := f.id(c, words[:len(words)-len(rest)])
		if err != nil {
			return err
		}
		sel, err := a.selectInserted(c, &f.target)
		if err != nil {
			return err
		}
		note := ""
		if c.Name() != "keep" {
			note = a.takeOver(c.Context(), id)
		}
		report, err := do(c.Context(), id, rest, sel)
		if note != "" && !a.json {
			fmt.Fprintln(a.err, term.Escape(note))
		}
		if err != nil {
			return err
		}
		return a.finishReport(c, report, w)
	}
	return c
}

// noRest is for commands whose only argument is the ID.
func noRest(*cobra.Command, []string) ([]string, error) { return nil, nil }

var stillIn = func(s pie.ProcessState) bool { return s == pie.StateGuarded }

func (a *app) modeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "mode ID enforce|audit|off [TARGET]",
		Short: "Change what a guard does with calls it rejects",
		Long: `Change what a guard does with calls it rejects: enforce lets them fail, audit counts
them and lets them go on, off lets every call go on. One word is written in each process
and no thread is stopped. Without TARGET every process that has the prepatch is meant.`,
		Args: atMost(2, "an ID and a mode"),
	}
	last := func(c *cobra.Command, words []string) ([]string, error) {
		if len(words) == 0 {
			return nil, usage(c, "give a mode: enforce, audit or off")
		}
		m := words[len(words)-1]
		switch pie.Mode(m) {
		case pie.ModeEnforce, pie.ModeAudit, pie.ModeOff:
			return []string{m}, nil
		}
		if every, err := c.Flags().GetBool("every-prepatch"); err == nil && !every && len(words) == 1 && c.Flags().NArg() == 1 {
			return nil, usage(c, "give a mode behind %s: enforce, audit or off", m)
		}
		return nil, usage(c, "%q is no mode; use enforce, audit or off", m)
	}
	w := reportWords{done: "changed", undone: "not changed", want: stillIn}
	return a.changeCommand(c, w, last, func(ctx context.Context, id string, rest []string, sel pie.Select) (*pie.Report, error) {
		return pie.SetMode(ctx, id, pie.Mode(rest[0]), sel)
	})
}

func (a *app) keepCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keep ID [TARGET]",
		Short: "End the trial of a prepatch: it stays until it is removed",
		Long: `End the trial of a prepatch, so that it goes on rejecting until it is removed, switched
off or its process ends. Without TARGET every process that has it is meant.`,
		Args: atMost(1, "an ID"),
	}
	w := reportWords{done: "kept", undone: "not kept", want: stillIn}
	return a.changeCommand(c, w, noRest, func(ctx context.Context, id string, _ []string, sel pie.Select) (*pie.Report, error) {
		return pie.Keep(ctx, id, sel)
	})
}

func (a *app) offCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "off [ID] [TARGET]",
		Short: "Stop rejecting now: one word in each process, no thread is stopped",
		Long: `Stop rejecting now. One word is written in each process and no thread is stopped.
Without ID every prepatch is meant, without TARGET every process.`,
		Args: atMost(1, "an ID"),
	}
	w := reportWords{done: "off", undone: "not off", want: stillIn,
		next: func(r *pie.Report) string {
			if r.ID == pie.AnyID {
				return "pie status lists them; again: pie mode ID enforce   take out: pie remove ID"
			}
			return fmt.Sprintf("again: pie mode %s enforce   take out: pie remove %s", r.ID, r.ID)
		}}
	return a.changeCommand(c, w, noRest, func(ctx context.Context, id string, _ []string, sel pie.Select) (*pie.Report, error) {
		return pie.SetMode(ctx, id, pie.ModeOff, sel)
	})
}

func (a *app) removeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "remove ID [TARGET]",
		Short: "Take a prepatch out and restore the bytes it replaced",
		Long: `Take a prepatch out and restore the bytes it replaced. The process need not have been
guarded by this build of pie. Memory that the guard was in stays mapped, for a thread
may still be in it. Without TARGET every process that has the prepatch is meant.`,
		Args: atMost(1, "an ID"),
	}
	w := reportWords{done: "as they were", undone: "not removed",
		want: func(s pie.ProcessState) bool { return s == pie.StateUnguarded }}
	return a.changeCommand(c, w, noRest, func(ctx context.Context, id string, _ []string, sel pie.Select) (*pie.Report, error) {
		yielding()
		return pie.Remove(ctx, id, sel)
	})
}
