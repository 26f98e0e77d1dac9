// Command pfp finds functions in programs: it lists those that a program's own
// tables know, makes fingerprints of them, and finds them again in other, stripped
// builds, or abstains.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/manual"
	"github.com/patch-integration-engine/pie/internal/term"
)

// Exit codes, as pie has them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3 // a file that pfp does not read, such as a 32-bit one
	// Of pfp find, when nothing went wrong:
	exitHint      = 5 // something like it, not to be acted on
	exitAbstained = 6 // nothing that can be answered for
	exitFixed     = 7 // found, with the vendor's fix
)

// version is set by the linker: -ldflags "-X main.version=…".
var version = "devel"

func main() {
	// A collection takes CPU, and mostly there are but some ten megabytes to collect; where
	// there is more, as in a diff, memory counts.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(memory)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// memory is the size, in bytes, from which on what is free is collected early.
const memory = 192 << 20

// run is a whole run of the command. A result that could not be written is none.
func run(args []string, stdout, stderr io.Writer) int {
	out := term.NewOutput(stdout)
	code := execute(args, out, stderr)
	if out.Err() != nil {
		fmt.Fprintf(stderr, "pfp: the output could not be written: %v\n", out.Err())
		code = exitFailed
	}
	return code
}

func execute(args []string, stdout *term.Output, stderr io.Writer) int {
	root := command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	var usage *usageError
	var kind *binfile.UnsupportedError
	var said *outcome
	switch {
	case err == nil, stdout.Err() != nil && errors.Is(err, stdout.Err()): // which run tells
		return exitDone
	case errors.As(err, &said):
		return said.code
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "pfp: %s\nmore: pfp --help\n", term.Escape(usage.msg))
		return exitUsage
	case errors.As(err, &kind), errors.Is(err, binfile.ErrNotELF):
		fmt.Fprintf(stderr, "pfp: %s\n", term.Escape(err.Error()))
		return exitRefused
	}
	fmt.Fprintf(stderr, "pfp: %s\n", term.Escape(err.Error()))
	return exitFailed
}

type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

const longHelp = `pfp makes fingerprints of functions, and finds the same function in other, stripped
builds of a program, or abstains. It changes nothing and runs nothing: what it reads
is files, and of a process the files that it maps.

  pfp list BINARY                       the functions that a file's own tables know
  pfp create BINARY -f FUNC -o X.pf     make a fingerprint
  pfp find X.pf STRIPPED                find the function again
  pfp find X.pf --host                  in everything that runs here

Exit codes: 0 done · 1 failed: a file is damaged or cannot be read · 2 usage
3 a file that pfp does not read, such as a 32-bit one
of find, too: 5 a hint only · 6 abstained · 7 found, with the vendor's fix`

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "pfp",
		Short:         "Find functions in programs, by name or by fingerprint",
		Long:          longHelp,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Sprintf("no command %q", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetVersionTemplate("pfp {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	root.AddCommand(listCommand(), createCommand(), findCommand(), indexCommand(), showCommand(), diffCommand(), manual.Command(oneFolder))
	return root
}

func oneFolder(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{fmt.Sprintf("pfp man takes one FOLDER, got %d arguments", len(args))}
	}
	return nil
}

const listHelp = `Lists every function that the symbol tables, Go's function table or the unwind
table of an ELF file know: address as the linker gave it, size in bytes, the
table, and the names. A stripped function, which only the unwind table knows,
has no name ("-"). An indirect function (IFUNC) is marked with (ifunc).`

func listCommand() *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "list BINARY",
		Short: "List the functions of a program or library",
		Long:  listHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Sprintf("pfp list takes one BINARY, got %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			l, err := list(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return l.printJSON(c.OutOrStdout())
			}
			return l.print(c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return c
}

// listing is what pfp list prints.
type listing struct {
	BuildID   string     `json:"build_id,omitempty"`
	SOName    string     `json:"soname,omitempty"`
	Go        string     `json:"go,omitempty"`
	Functions []function `json:"functions"`
}

type function struct {
	Address string   `json:"address"` // hexadecimal, link time
	Size    uint64   `json:"size"`
	From    string   `json:"from"`
	Names   []string `json:"names"`
	IFunc   bool     `json:"ifunc,omitempty"`
}

func list(path string) (*listing, error) {
	f, err := openELF(path)
	if err != nil {
		return nil, err
	}
	defer f.close()
	all, err := f.Functions()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &listing{BuildID: f.BuildIDString(), SOName: f.SOName(), Functions: []function{}}
	if g, err := f.GoBuild(); err == nil {
		l.Go = g.Version
	}
	for _, fn := range all {
		l.Functions = append(l.Functions, function{fn.Start.String(), fn.Size, fn.From, append([]string{}, fn.Names...), fn.Indirect})
	}
	return l, nil
}

func (l *listing) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(l)
}

func (l *listing) print(w io.Writer) error {
	t := (&term.Table{}).Right(1)
	t.Row("ADDRESS", "SIZE", "FROM", "NAME")
	for _, fn := range l.Functions {
		name := strings.Join(fn.Names, " ")
		if name == "" {
			name = "-"
		}
		if fn.IFunc {
			name += " (ifunc)"
		}
		t.Row(fn.Address, fmt.Sprint(fn.Size), fn.From, name)
	}
	return t.Write(w, "")
}
