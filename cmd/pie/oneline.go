package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/guard/oneline"
	"github.com/patch-integration-engine/pie/internal/operate/author"
	"github.com/patch-integration-engine/pie/internal/operate/target"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// oneLine is a guard typed on the command line instead of a PREPATCH:
//
//	--func vuln --when 'len > 256' --reject -22
type oneLine struct{ fn, when, reject, lib string }

func (l *oneLine) register(c *cobra.Command) {
	c.Flags().StringVar(&l.fn, "func", "", "instead of a PREPATCH: guard the function `NAME`")
	c.Flags().StringVar(&l.when, "when", "", "with --func: reject a call when this `EXPR` holds, such as 'len > 256', 'r->n > 16 || name == \"root\"', or 'i32(arg1) > 256' without debug information")
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
	source, err := l.source(c, t)
	if err != nil {
		return nil, err
	}
	return pie.Load(map[string][]byte{"command-line.go": source})
}

// source is the guard as a Go file. Debug information of the TARGET says what
// the parameters are called and which types they have.
func (l *oneLine) source(c *cobra.Command, t *targetFlags) ([]byte, error) {
	if l.fn == "" || l.when == "" || l.reject == "" {
		return nil, usage(c, "a guard on the command line takes all of --func F, --when EXPR and --reject N")
	}
	exe, err := l.executable(c, t)
	if err != nil {
		return nil, err
	}
	spec := oneline.Spec{Exe: exe, Lib: l.lib, Func: l.fn, When: l.when, Reject: l.reject}
	done, missing := l.describe(c.Context(), t, &spec)
	defer done()
	_, source, err := oneline.Source(spec)
	if err != nil && missing != nil {
		return nil, missing
	}
	if err != nil {
		return nil, usage(c, "%v", err)
	}
	return source, nil
}

// describe fills in what debug information says of the function. The error is
// for when the condition needed it. What was filled in is good until done.
func (l *oneLine) describe(ctx context.Context, t *targetFlags, spec *oneline.Spec) (done func(), missing error) {
	pid, ok := t.first(ctx)
	if !ok {
		return func() {}, nil
	}
	d, err := pie.DescribeProcess(pid, spec.Exe, spec.Lib, spec.Func)
	if err != nil {
		return func() {}, err
	}
	spec.Go = d.Go
	params, err := d.Params()
	if pie.NoDebugInfo(err) {
		spec.Unknown = fmt.Sprintf("no debug information for %s", spec.Func)
		return d.Close, nil
	}
	if err != nil {
		spec.Unknown = fmt.Sprintf("its debug information cannot be read: %v", err)
		return d.Close, nil
	}
	structs := &structs{}
	if info, err := d.DebugInfo(); err == nil {
		structs.reading = author.NewReading(info, d.Vaddr)
		spec.Mirrors = structs.reading.Mirrors
	}
	for _, p := range params {
		param := structs.param(p.Name, p.Type)
		if p.Absent {
			param.Type = oneline.Absent
		}
		spec.Params = append(spec.Params, param)
	}
	results, err := d.Results()
	switch {
	case err != nil:
	case len(results) == 0:
		spec.Result = oneline.Void
	case len(results) == 1 && results[0].Kind == debuginfo.Float && results[0].Size == 4:
		spec.Result = oneline.Single
	case len(results) == 1:
		spec.Result = conditionType(results[0])
	default:
		spec.Result = oneline.Several
	}
	return d.Close, nil
}

// first is one process of the TARGET, to look at.
func (t *targetFlags) first(ctx context.Context) (pid int, ok bool) {
	if len(t.spec.Pids) > 0 {
		return t.spec.Pids[0], true
	}
	s, err := target.New(t.spec)
	if err != nil {
		return 0, false
	}
	pids, err := s.Select(ctx)
	if err != nil || len(pids) == 0 {
		return 0, false
	}
	return pids[0], true
}

// conditionType is a type as a condition writes it.
func conditionType(t debuginfo.Type) string {
	integer := func(letter string) string {
		switch t.Size {
		case 1, 2, 4, 8:
			return fmt.Sprintf("%s%d", letter, 8*t.Size)
		}
		return oneline.Struct // __int128 takes two words
	}
	switch t.Kind {
	case debuginfo.Signed:
		return integer("i")
	case debuginfo.Unsigned:
		if t.Bool {
			return "bool"
		}
		return integer("u")
	case debuginfo.Pointer:
		return "addr"
	case debuginfo.Float:
		if t.Size > 8 {
			return oneline.Struct // long double lies on the stack
		}
		return oneline.Float
	}
	switch {
	case t.Struct == "string":
		return oneline.String
	case strings.HasPrefix(t.Struct, "[]"):
		return oneline.Slice
	case t.Struct == "runtime.iface" || t.Struct == "runtime.eface":
		return oneline.Interface
	}
	return oneline.Struct
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
