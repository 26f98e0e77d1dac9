package main

import (
	"context"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
)

// selectForInsert returns the processes that insert and plan work on.
func (a *app) selectForInsert(c *cobra.Command, t *targetFlags, p *pie.Prepatch, ref string) (pie.Select, error) {
	if !t.given() {
		return nil, usage(c, "name a TARGET")
	}
	return a.selectInserted(c, t)
}

// selectInserted returns the processes that a command about prepatches already
// in works on: those of the TARGET, or all.
func (a *app) selectInserted(c *cobra.Command, t *targetFlags) (pie.Select, error) {
	if len(t.pids) > 0 {
		return pie.Pids(t.pids...), nil
	}
	return allPids, nil
}

func allPids(context.Context) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
