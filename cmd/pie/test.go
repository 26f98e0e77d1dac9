package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/author"
)

func (a *app) testCommand() *cobra.Command {
	var run, recorded string
	c := &cobra.Command{
		Use:   "test PREPATCH",
		Short: "Check a prepatch and run its tests, or what was recorded, through it",
		Long: `Check a prepatch and run its tests with go test; with --replay, run its guards over the
calls that pie record took down, and say which of them would be rejected.

PREPATCH is a folder, a .go file with a _test.go file beside it, or an id of the
catalogue. libpie and libpietest are those of this pie; nothing is fetched. A Go
toolchain is needed, here and nowhere else. The tests run as you, like any other
program of yours.

A replay needs no toolchain and no test. PREPATCH may be another version than the
one recorded with. A call for which the guard asks what was not recorded is unknown,
and counted apart. Exit codes of a replay: 0 no recorded call would be rejected;
1 some would be; 4 none would be, but some are unknown.`,
		Args: exact(1, "one PREPATCH"),
		RunE: func(c *cobra.Command, args []string) error {
			if recorded != "" {
				return a.replay(c, args[0], recorded)
			}
			guard, tests, err := a.testFiles(args[0])
			if err != nil {
				return err
			}
			if _, err := pie.Load(guard); err != nil {
				return err
			}
			for name, text := range guard {
				tests[name] = text
			}
			return a.goTest(c.Context(), tests, run)
		},
	}
	c.Flags().StringVar(&recorded, "replay", "", "run the guards over the calls in this `FILE` of pie record")
	c.Flags().StringVar(&run, "run", "", "only tests whose names match this `REGEXP`")
	return c
}

// testFiles reads a prepatch and its tests.
func (a *app) testFiles(arg string) (guard, tests map[string][]byte, err error) {
	if guard, err = a.prepatchFiles(arg); err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(arg); errors.Is(err, fs.ErrNotExist) {
		e, _ := a.lookup(arg) // prepatchFiles has found it
		return guard, maps.Clone(e.Tests), nil
	}
	pattern := filepath.Join(arg, "*_test.go")
	if base, ok := strings.CutSuffix(arg, ".go"); ok {
		pattern = base + "_test.go"
	}
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, nil, err
	}
	if len(names) == 0 {
		return nil, nil, &pie.Refusal{Code: pie.CodeNoTest, Msg: fmt.Sprintf("%s has no test: no %s", arg, pattern),
			Instead: "write one as docs/libpie.md shows; pie new writes a first one"}
	}
	tests, err = readFiles(names...)
	return guard, tests, err
}

// goTest runs go test on the files, in a module of their own.
func (a *app) goTest(ctx context.Context, files map[string][]byte, run string) error {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return &pie.Refusal{Code: pie.CodeNoGo, Msg: "there is no Go toolchain in PATH",
			Instead: "pie check compiles and verifies without one; install Go " + author.Go + " or newer to run tests", Err: err}
	}
	dir, err := os.MkdirTemp("", "pie-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := author.LayOut(dir, files); err != nil {
		return err
	}
	args := []string{"test"}
	if run != "" {
		args = append(args, "-run", run)
	}
	cmd := exec.CommandContext(ctx, goTool, append(args, "./"+author.Package)...)
	cmd.WaitDelay = time.Second // after an interruption the test itself may go on for minutes
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local", "GOPROXY=off", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	text := strings.ReplaceAll(string(out), modulePackage, "prepatch")
	if a.json {
		if jsonErr := a.printJSON(map[string]any{"passed": err == nil, "output": text}); jsonErr != nil {
			return jsonErr
		}
	} else {
		fmt.Fprint(a.out, text)
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) && ctx.Err() == nil {
		return exitWith{exitFailed}
	}
	return err
}

// modulePackage is what go test calls the laid out prepatch.
const modulePackage = "github.com/patch-integration-engine/pie/" + author.Package
