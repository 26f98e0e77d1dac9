package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/guard/oneline"
	"github.com/patch-integration-engine/pie/internal/operate/author"
	"github.com/patch-integration-engine/pie/internal/operate/target"
)

// oneLine is a guard typed on the command line instead of a PREPATCH:
//
//	--func vuln --when 'len > 256' --reject -22
type oneLine struct {
	fn, when, reject, lib string
	output                string // file for what it becomes; of pie check
}

func (l *oneLine) register(c *cobra.Command) {
	c.Flags().StringVar(&l.fn, "func", "", "instead of a PREPATCH: guard the function `NAME`")
	c.Flags().StringVar(&l.when, "when", "", "with --func: reject a call when this `EXPR` holds, such as 'len > 256', 'r->n > 16 || name == \"root\"', or 'i32(arg1) > 256' without debug information")
	c.Flags().StringVar(&l.reject, "reject", "", "with --func: the `VALUE` a rejected call returns, or void")
	c.Flags().StringVar(&l.lib, "lib", "", "with --func: the function is in the library of this `SONAME`")
}

func (l *oneLine) given() bool { return l.fn != "" || l.when != "" || l.reject != "" || l.lib != "" }

// String is the guard as it is typed to a shell.
func (l *oneLine) String() string {
	s := fmt.Sprintf("--func %s --when %s --reject %s", shellWord(l.fn), quotedWord(l.when), shellWord(l.reject))
	if l.lib != "" {
		s += " --lib " + shellWord(l.lib)
	}
	return s
}

// shellWord is s as a shell takes it for one word, quoted where it must be.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@+,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return quotedWord(s)
}

func quotedWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// load makes the guard a Go file, like any other prepatch, and loads that.
func (l *oneLine) load(c *cobra.Command, t *targetFlags) (*pie.Prepatch, error) {
	if t.given() {
		if err := t.some(c); err != nil {
			return nil, err
		}
	}
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
	if !t.given() {
		return func() {}, nil
	}
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
		return pie.ExeName(t.spec.Pids[0])
	case t.spec.Unit != "" || t.spec.Container != "":
		return t.onlyExe(c)
	case l.lib != "" && !t.given(): // in any program
		return "", nil
	}
	return "", usage(c, "--func needs to know the program: add --pid N or --exe NAME")
}

// onlyExe is the program that all processes of the TARGET run.
func (t *targetFlags) onlyExe(c *cobra.Command) (string, error) {
	s, err := t.selector(c)
	if err != nil {
		return "", err
	}
	pids, err := s.Select(c.Context())
	if err != nil {
		return "", err
	}
	var names []string
	for _, pid := range pids {
		name, err := pie.ExeName(pid)
		if err != nil && pie.ReasonOf(err) != pie.CodeNoProcess {
			return "", err
		}
		if err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return "", noMatch(target.ErrNone)
	case 1:
		return names[0], nil
	}
	return "", usage(c, "the TARGET runs %s: say with --exe which one has the function", strings.Join(names, ", "))
}
