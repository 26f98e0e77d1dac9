package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/author"
)

func (a *app) newCommand() *cobra.Command {
	var s subject
	var out, id string
	c := &cobra.Command{
		Use:   "new {BINARY | --pid N} -f FUNCTION [-o FOLDER]",
		Short: "Write a prepatch for a function, and its test, to be finished",
		Long: `Write a prepatch for a function, and its test, from the program's debug information.

The guard has the function's parameters, with mirrors of the structs they point to,
and lets every call through: say in attack() which calls are refused. Then pie check,
pie test, and pie insert --audit.`,
		Example: "  pie new --pid 812 -f stringmatchlen -o cve-2024-31228 --id CVE-2024-31228",
		RunE: func(c *cobra.Command, args []string) error {
			if s.fn == "" {
				return usage(c, "name the function to guard: -f FUNCTION")
			}
			d, rest, err := s.describe(c, args)
			if err != nil {
				return err
			}
			defer d.Close()
			if len(rest) > 0 {
				return usage(c, "one BINARY, or --pid N; got %q besides", rest[0])
			}
			return a.writeNew(d, id, out)
		},
	}
	s.register(c)
	c.Flags().StringVarP(&s.fn, "func", "f", "", "the `FUNCTION` to guard")
	c.Flags().StringVarP(&out, "output", "o", ".", "write guard.go and guard_test.go into this `FOLDER`")
	c.Flags().StringVar(&id, "id", "", "the prepatch's `ID`, such as CVE-2024-31228 (default LOCAL-FUNCTION)")
	return c
}

func (a *app) writeNew(d *pie.Described, id, out string) error {
	info, err := d.DebugInfo()
	if err != nil {
		return noDebugInfo(d, err)
	}
	f := author.Function{Exe: d.Exe, Lib: d.Lib, Func: d.Func, ID: id, Go: d.Go, Vaddr: d.Vaddr}
	if f.Params, err = d.Params(); err != nil {
		return noDebugInfo(d, err)
	}
	results, err := d.Results()
	if err != nil {
		return noDebugInfo(d, err)
	}
	f.Results = results
	guard, test, err := author.New(info, f)
	if err != nil {
		return &pie.Refusal{Code: pie.CodePlace, Msg: err.Error(), Instead: "docs/libpie.md tells what a guard can return", Err: err}
	}
	// What would not compile here is a fault of this command, not of its user.
	if _, err := pie.Load(map[string][]byte{"guard.go": guard}); err != nil {
		return fmt.Errorf("the guard written for %s is not accepted, which is a bug: %w", d.Func, err)
	}
	return a.writeFolder(out, guard, test)
}

// writeFolder writes new files; one that is there already is not touched.
func (a *app) writeFolder(dir string, guard, test []byte) error {
	files := []struct {
		path string
		text []byte
	}{{filepath.Join(dir, "guard.go"), guard}, {filepath.Join(dir, "guard_test.go"), test}}
	for _, f := range files {
		if _, err := os.Lstat(f.path); !errors.Is(err, fs.ErrNotExist) {
			return &pie.Refusal{Code: pie.CodeExists, Msg: fmt.Sprintf("%s is there already", f.path), Instead: "name another folder with -o"}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		f, err := os.OpenFile(file.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(file.text)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if !a.json {
		fmt.Fprintf(a.out, "wrote %s and %s\n  say in attack() which calls are refused, then: pie check %s, pie test %[3]s\n",
			files[0].path, files[1].path, strings.TrimSuffix(dir, "/"))
		return nil
	}
	return a.printJSON(map[string]string{"guard": files[0].path, "test": files[1].path})
}
