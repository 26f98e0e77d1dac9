package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

// followEvery is how often events -f looks at the processes.
const followEvery = 250 * time.Millisecond

func (a *app) eventsCommand() *cobra.Command {
	var t targetFlags
	var follow bool
	c := &cobra.Command{
		Use:   "events [TARGET]",
		Short: "Show the calls that guards rejected or noted",
		Long: `Show the calls that guards rejected or noted, with argument words, as far as they still
stand in the processes: the oldest are overwritten first. -f goes on as they come.`,
		Args: exact(0, "no argument but TARGET flags"),
	}
	t.register(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on and show events as they happen")
	c.RunE = func(c *cobra.Command, _ []string) error {
		sel, err := a.selectInserted(c, &t)
		if err != nil {
			return err
		}
		f := pie.NewFollower(sel)
		if follow {
			return a.follow(c, f)
		}
		events, err := f.Next(c.Context())
		if err != nil {
			return err
		}
		a.sayWhoIsSilent(f.Silent)
		if a.json {
			return a.printJSON(orEmpty(events))
		}
		return a.printEvents(events, f.Lost)
	}
	return c
}

// follow prints events until it is interrupted; with --json one a line.
func (a *app) follow(c *cobra.Command, f *pie.Follower) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	lost, silent := uint64(0), 0
	for {
		events, err := f.Next(c.Context())
		if c.Context().Err() != nil {
			return exitWith{exitInterrupted}
		}
		if err != nil {
			return err
		}
		a.sayWhoIsSilent(f.Silent[silent:])
		if err := a.printFollowed(events, f.Lost-lost); err != nil {
			return err
		}
		lost, silent = f.Lost, len(f.Silent)
		select {
		case <-tick.C:
		case <-c.Context().Done():
			return exitWith{exitInterrupted}
		}
	}
}

// sayWhoIsSilent names processes of which no event is to be expected.
func (a *app) sayWhoIsSilent(pids []int) {
	for _, pid := range pids {
		fmt.Fprintf(a.err, "pid %d keeps no events: its sandbox leaves no memory for them; pie status --pid %d has the counts\n", pid, pid)
	}
}

func (a *app) printFollowed(events []pie.Event, lost uint64) error {
	if !a.json {
		return a.printEvents(events, lost)
	}
	for _, e := range events {
		if err := a.printJSONLine(e); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printEvents(events []pie.Event, lost uint64) error {
	var t term.Table
	for _, e := range events {
		t.Row(eventTime(e.Time, time.Now()), e.ID, kindWords(e.Kind), fmt.Sprintf("%s[%d]", baseName(e.Exe), e.Pid), e.Function+argWords(e))
	}
	if err := t.Write(a.out, ""); err != nil {
		return err
	}
	if lost > 0 {
		fmt.Fprintf(a.err, "%s overwritten before they were read\n", plural(int(lost), "event was", "events were"))
	}
	return nil
}

// eventTime is to the millisecond, with the date when it is not today.
func eventTime(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05.000")
	}
	return t.Format("2006-01-02 15:04:05.000")
}

// kindWords is what operators call the kinds of event.
func kindWords(kind string) string {
	switch kind {
	case "reject":
		return "rejected"
	case "audit":
		return "would reject"
	case "error":
		return "guard error"
	case "ran_long":
		return "guard ran too long"
	case "rewrite":
		return "rewritten"
	case "log":
		return "noted"
	}
	return kind
}

func argWords(e pie.Event) string {
	args := make([]string, len(e.Args))
	for i, v := range e.Args {
		args[i] = fmt.Sprintf("%#x", v)
	}
	s := "(" + strings.Join(args, ", ") + ")"
	if e.Code != 0 {
		s += fmt.Sprintf(" code %d", e.Code)
	}
	return s
}
