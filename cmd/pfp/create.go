package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/term"
)

const createHelp = `Makes a fingerprint of one function from builds that have it under a name or at
a known address. Several builds (other compilers, other levels of optimization)
make it find the function in more programs. Builds that have the vendor's fix are
given with --fixed: then the fixed function is recognized as such. A build that has
no name for the function, as what distributions ship stripped, is given with its
address: BINARY@0x41a0. One that calls it otherwise, as a fix may do, with its name
there: BINARY@NAME.

With --whole the fingerprint carries also which function calls which in the builds,
some 15 bytes a function. pfp find then tells the function by where all others of
the program have gone: it finds more, is surer, and takes longer.

With --behaviour it carries what the function does when it is executed by an
interpreter in made-up worlds, some 10 to 30 KB a build: pfp find then executes the
functions that could be it, and finds many that another compiler made. For x86-64.`

type createFlags struct {
	function, out string
	fixed         []string
	whole         bool
	behaviour     bool
}

func createCommand() *cobra.Command {
	var f createFlags
	c := &cobra.Command{
		Use:   "create BINARY... -f FUNC",
		Short: "Make a fingerprint of a function",
		Long:  createHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{"pfp create takes one BINARY or more"}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if f.function == "" {
				return &usageError{"pfp create needs -f FUNC: the function's name, or its address as 0x…"}
			}
			return f.run(c, args)
		},
	}
	c.Flags().StringVarP(&f.function, "func", "f", "", "the `FUNC`tion: a name as people write it, or 0x and its link-time address")
	c.Flags().StringVarP(&f.out, "output", "o", "", "write to this `FILE` (default FUNC.pf)")
	c.Flags().StringArrayVar(&f.fixed, "fixed", nil, "a `BINARY` in which the function has the vendor's fix; repeatable")
	c.Flags().BoolVar(&f.whole, "whole", false, "carry which function calls which in the builds: larger, finds more")
	c.Flags().BoolVar(&f.behaviour, "behaviour", false, "carry what the function does when it is executed: larger, finds more by other compilers")
	return c
}

func (f *createFlags) run(c *cobra.Command, args []string) error {
	var builds []fingerprint.Build
	for i, path := range append(args, f.fixed...) {
		b, file, err := buildOf(path, f.function)
		if err != nil {
			return err
		}
		defer file.close()
		b.Fixed, b.Whole, b.Behaviour = i >= len(args), f.whole, f.behaviour
		builds = append(builds, b)
	}
	fp, err := fingerprint.Create(f.function, builds)
	if err != nil {
		return err
	}
	out := f.out
	if out == "" {
		out = fileName(f.function) + ".pf"
	}
	data := fp.Encode()
	if err := os.WriteFile(out, data, 0o644); err != nil {
		return err
	}
	for _, r := range fp.References {
		if r.Twins > 1 {
			fmt.Fprintf(c.ErrOrStderr(), "pfp: note: %s has %d functions with exactly this code, which cannot be told apart\n", term.Escape(r.Label), r.Twins)
		}
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %s from %s, %d bytes\n", term.Escape(out), term.Escape(f.function), counted(len(builds), "build"), len(data))
	return nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "s") {
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// fileName makes a file name of a function's name.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == 0 || r == ' ' {
			return '_'
		}
		return r
	}, s)
}

// buildOf opens BINARY, or BINARY@FUNC where the function is called otherwise, or is
// an address, in that build. The file must stay open while the build is used.
func buildOf(path, function string) (fingerprint.Build, *elfFile, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if i := strings.LastIndexByte(path, '@'); i > 0 && i+1 < len(path) {
			path, function = path[:i], path[i+1:]
		}
	}
	b := fingerprint.Build{Label: filepath.Base(path)}
	f, err := openELF(path)
	if err != nil {
		return b, nil, err
	}
	if b.At, err = locate.InFile(f.File, path, function); err != nil {
		f.close()
		return b, nil, err
	}
	if b.Module, err = fingerprint.Analyze(f.File); err != nil {
		f.close()
		return b, nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, f, nil
}
