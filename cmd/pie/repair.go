package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
)

func (a *app) repairCommand() *cobra.Command {
	var t targetFlags
	c := &cobra.Command{
		Use:   "repair [TARGET]",
		Short: "Finish or undo what a pie that was killed left half-done",
		Long: `Finish or undo what a pie that was killed left half-done. A killed pie leaves the
program running, guarded or as it was; what can be left is memory and records that
nobody uses, and a prepatch that is in at some of its places only. pie status names it.

A prepatch that is in everywhere stays in. One that is in at some places only, or whose
removal had begun, is taken out: insert it again. Repair may itself be killed and typed
again. Without TARGET every process is looked at.`,
		Args: exact(0, "no argument but TARGET flags"),
	}
	t.register(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		sel, err := a.selectInserted(c, &t)
		if err != nil {
			return err
		}
		report, err := pie.Repair(c.Context(), sel)
		if err != nil {
			return err
		}
		if len(report.Processes) == 0 && c.Context().Err() == nil {
			if a.json {
				return a.printJSON(report)
			}
			fmt.Fprintln(a.out, "nothing was left half-done in any of these processes")
			return nil
		}
		w := reportWords{title: "repair", done: "put right", undone: "not put right", want: func(pie.ProcessState) bool { return true }}
		return a.finishReport(c, report, w)
	}
	return c
}
