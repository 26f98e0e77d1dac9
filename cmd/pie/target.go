package main

import (
	"github.com/spf13/cobra"
)

// targetFlags are the flags that say which processes a command works on.
type targetFlags struct {
	pids       []int
	exe        string
	unit       string
	container  string
	host       bool
	noChildren bool
	yes        bool
}

func (t *targetFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.IntSliceVar(&t.pids, "pid", nil, "process `N` and its descendants (repeatable)")
	f.StringVar(&t.exe, "exe", "", "processes running this executable (`PATH` or name)")
	f.StringVar(&t.unit, "unit", "", "processes of this systemd `UNIT`")
	f.StringVar(&t.container, "container", "", "processes of this container (`ID`)")
	f.BoolVar(&t.host, "host", false, "all processes of this machine")
	f.BoolVar(&t.noChildren, "no-children", false, "leave out descendants that run the same executable")
	f.BoolVar(&t.yes, "yes", false, "do not ask when several unrelated groups of processes match")
}

// given reports whether the command line names any target.
func (t *targetFlags) given() bool {
	return len(t.pids) > 0 || t.exe != "" || t.unit != "" || t.container != "" || t.host
}
