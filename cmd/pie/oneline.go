package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/guard/oneline"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// oneLine is a guard typed on the command line instead of a PREPATCH:
//
//	--func vuln --when 'i32(arg1) > 256' --reject -22
type oneLine struct{ fn, when, reject, lib string }

func (l *oneLine) register(c *cobra.Command) {
	c.Flags().StringVar(&l.fn, "func", "", "instead of a PREPATCH: guard the function `NAME`")
	c.Flags().StringVar(&l.when, "when", "", "with --func: reject a call when this `EXPR` holds, such as 'i32(arg1) > 256'")
	c.Flags().StringVar(&l.reject, "reject", "", "with --func: the `VALUE` a rejected call returns, or void")
	c.Flags().StringVar(&l.lib, "lib", "", "with --func: the function is in the library of this `SONAME`")
}

func (l *oneLine) given() bool { return l.fn != "" || l.when != "" || l.reject != "" || l.lib != "" }

// String is the guard as it is typed.
func (l *oneLine) String() string {
	s := fmt.Sprintf("--func %s --when '%s' --reject %s", l.fn, l.when, l.reject)
	if l.lib != "" {
		s += " --lib " + l.lib
	}
	return s
}

// load makes the guard a Go file, like any other prepatch, and loads that.
func (l *oneLine) load(c *cobra.Command, t *targetFlags) (*pie.Prepatch, error) {
	if l.fn == "" || l.when == "" || l.reject == "" {
		return nil, usage(c, "a guard on the command line takes all of --func F, --when EXPR and --reject N")
	}
	exe, err := l.executable(c, t)
	if err != nil {
		return nil, err
	}
	_, source, err := oneline.Source(oneline.Spec{Exe: exe, Lib: l.lib, Func: l.fn, When: l.when, Reject: l.reject})
	if err != nil {
		return nil, usage(c, "%v", err)
	}
	return pie.Load(map[string][]byte{"command-line.go": source})
}

// executable is the program the guard is for: that of the TARGET.
func (l *oneLine) executable(c *cobra.Command, t *targetFlags) (string, error) {
	switch {
	case t.spec.Exe != "":
		return t.spec.Exe, nil
	case len(t.spec.Pids) > 0:
		p, err := proc.Open(t.spec.Pids[0])
		if err != nil {
			return "", missingPid(t.spec.Pids, err)
		}
		defer p.Close()
		path, _, err := p.ExePath()
		if err != nil {
			return "", fmt.Errorf("the program of pid %d: %w", p.Pid(), err)
		}
		return filepath.Base(path), nil
	}
	return "", usage(c, "--func needs to know the program: add --pid N or --exe NAME")
}
