package main

import (
	"context"
	"errors"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/top"
	"github.com/patch-integration-engine/pie/internal/term"
)

func (a *app) topCommand() *cobra.Command {
	var t targetFlags
	c := &cobra.Command{
		Use:   "top [TARGET]",
		Short: "Watch prepatches at work: calls, rejections, events; keys to act",
		Long: `Watch prepatches at work. Every second it shows each prepatch, the processes it is
in, calls and rejections, and the last events.

Keys: up and down choose, enter inspects, e enforces, a audits, o switches off,
r takes out (it asks), q ends. Processes that forked from one another count together.`,
		Args: exact(0, "no argument but TARGET flags"),
	}
	t.register(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if a.json || !term.IsTerminal(a.out) || !term.IsTerminal(a.in) {
			return usage(c, "it needs a terminal; pie status and pie events -f --json are for programs")
		}
		sel, err := a.selectInserted(c, &t)
		if err != nil {
			return err
		}
		err = top.Run(c.Context(), a.topActions(c.Context(), sel), tea.WithInput(a.in), tea.WithOutput(term.Unwrap(a.out)))
		if errors.Is(err, tea.ErrProgramKilled) && c.Context().Err() != nil {
			return nil
		}
		return err
	}
	return c
}

// topActions read and change what top shows.
func (a *app) topActions(ctx context.Context, sel pie.Select) top.Actions {
	var events *pie.Follower
	var guarded []int
	return top.Actions{
		Read: func() top.Picture {
			p := top.Picture{At: time.Now()}
			p.Statuses, p.Err = pie.Status(ctx, sel)
			guarded = guarded[:0]
			for _, s := range p.Statuses {
				guarded = append(guarded, s.Pid)
			}
			if pie.ReasonOf(p.Err) == pie.CodeNoProcess {
				p.Err = nil
			}
			if len(guarded) == 0 {
				return p
			}
			if events == nil {
				events = pie.NewFollower(func(context.Context) ([]int, error) { return guarded, nil })
			}
			var err error
			if p.Events, err = events.Next(ctx); p.Err == nil && pie.ReasonOf(err) != pie.CodeNoProcess {
				p.Err = err
			}
			return p
		},
		Mode: func(id string, m pie.Mode, pids []int) error {
			a.takeOver(ctx, id)
			_, err := pie.SetMode(ctx, id, m, pie.Pids(pids...))
			return err
		},
		Remove: func(id string, pids []int) error {
			a.takeOver(ctx, id)
			_, err := pie.Remove(ctx, id, pie.Pids(pids...))
			return err
		},
	}
}
