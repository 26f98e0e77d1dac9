package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/operate/author"
	"github.com/patch-integration-engine/pie/internal/term"
)

// subject is what a guard is written for: BINARY, or a running process.
type subject struct {
	pid     int
	lib, fn string
}

func (s *subject) register(c *cobra.Command) {
	c.Flags().IntVar(&s.pid, "pid", 0, "instead of BINARY: the program of process `N`")
	c.Flags().StringVar(&s.lib, "lib", "", "with --pid: the library of this `SONAME` that the process has mapped")
}

// describe opens what the command line names. It returns the arguments behind
// BINARY.
func (s *subject) describe(c *cobra.Command, args []string) (*pie.Described, []string, error) {
	switch {
	case c.Flags().Changed("pid") && s.pid < 1:
		return nil, nil, usage(c, "--pid %d: a process has a positive number", s.pid)
	case s.pid > 0:
		d, err := pie.DescribeProcess(s.pid, "", s.lib, s.fn)
		return d, args, err
	case s.lib != "":
		return nil, nil, usage(c, "--lib goes with --pid; a library's file is a BINARY")
	case len(args) == 0:
		return nil, nil, usage(c, "%s takes a BINARY, or --pid N", c.CommandPath())
	}
	d, err := pie.DescribeFile(args[0], s.fn)
	return d, args[1:], err
}

// noDebugInfo is the answer where nothing tells what the program is made of.
func noDebugInfo(d *pie.Described, err error) error {
	if !pie.NoDebugInfo(err) {
		return err
	}
	what := d.Lib
	if what == "" {
		what = d.Exe
	}
	instead := "install its debug symbols (a -dbgsym or -debuginfo package), or name the debug file as BINARY"
	if id := d.BuildID(); id != "" {
		instead += "; its build ID is " + id
	}
	return &pie.Refusal{Code: pie.CodeNoDebugInfo, Msg: fmt.Sprintf("%s: %v", what, err), Instead: instead, Err: err}
}

// noType is the answer where mirrors cannot be written.
func noType(info *debuginfo.Info, wanted []string, err error) error {
	r := &pie.Refusal{Code: pie.CodeNoType, Msg: term.Escape(err.Error()), Err: err,
		Instead: "look the name up: gdb -batch -ex 'info types NAME' BINARY"}
	if !errors.Is(err, debuginfo.ErrUnknownType) {
		return r
	}
	if why := info.Lacks(); why != "" {
		r.Instead = why
		return r
	}
	for _, w := range wanted {
		name := author.TypeNamed(w)
		if _, err := info.Layout(name, 0); err == nil {
			continue
		}
		if like := info.Like(name); len(like) > 0 {
			r.Details = append(r.Details, "names like it: "+term.Escape(strings.Join(like, ", ")))
		}
	}
	return r
}

func (a *app) typesCommand() *cobra.Command {
	var s subject
	c := &cobra.Command{
		Use:   "types {BINARY | --pid N} TYPE[:FIELD,FIELD]…",
		Short: "Write structs of a program as Go mirrors, for a guard to read",
		Long: `Write structs of a program as Go mirrors, from its debug information.

TYPE is a struct, a class, a union or a typedef of one; with :FIELD,FIELD only these
fields are named and all else is padding, which of a union is the only way. A pointer to another TYPE of the command line
has its type.`,
		Example: `  pie types --pid 812 ngx_http_request_t:uri,args ngx_str_t
  pie types /usr/lib/debug/.build-id/ab/cdef.debug client`,
		RunE: func(c *cobra.Command, args []string) error {
			d, wanted, err := s.describe(c, args)
			if err != nil {
				return err
			}
			defer d.Close()
			if len(wanted) == 0 {
				return usage(c, "name the TYPEs to write")
			}
			info, err := d.DebugInfo()
			if err != nil {
				return noDebugInfo(d, err)
			}
			text, err := author.Mirrors(info, d.Vaddr, wanted)
			if err != nil {
				return noType(info, wanted, err)
			}
			_, err = a.out.Write(text)
			return err
		},
	}
	s.register(c)
	c.Flags().StringVarP(&s.fn, "func", "f", "", "the `FUNCTION` that sees the types, where several are called so")
	return c
}
