// Command pie puts prepatches into running processes, watches them and takes
// them out. It parses flags, prints and chooses exit codes; everything else is
// in package pie.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/manual"
	"github.com/patch-integration-engine/pie/internal/operate/catalogue"
	"github.com/patch-integration-engine/pie/internal/startup"
	"github.com/patch-integration-engine/pie/internal/term"
)

// version is set by the linker: -ldflags "-X main.version=…".
var version = "devel"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C kills, which harms no target
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	return a.execute(ctx, os.Args[1:])
}

// preparation is how long a command prepares in the background. It takes less than
// a tenth of a second where a CPU is free.
const preparation = 250 * time.Millisecond

// yielding is for the commands that work beside a program that serves: what they
// prepare must not keep its threads off their CPUs for longer than the stop does.
// A command that starts programs of the operator's must not use it: they would
// be in the background as well.
func yielding() {
	debug.SetGCPercent(800) // no collection below 32 MiB, which few commands come to
	if pie.InBackground(preparation) {
		runtime.GOMAXPROCS(2) // one to work, one to watch the time
		startup.Over()        // not before: threads at the ordinary policy would come onto the program's CPUs
		return
	}
	runtime.GOMAXPROCS(1)
	time.AfterFunc(preparation, startup.Over)
}

// app is one run of the command.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string

	json       bool
	prepatches string               // folder with prepatches beside the catalogue's
	read       *catalogue.Catalogue // once it was
	progress   *term.Progress
}

func (a *app) execute(ctx context.Context, args []string) int {
	a.progress = term.NewProgress(a.err)
	out := term.NewOutput(a.out)
	a.out = out
	root := a.command()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	a.progress.Done()
	if out.Err() != nil && errors.Is(err, out.Err()) {
		err = nil // it is told below
	}
	return a.finishOutput(c, out, a.finish(ctx, err))
}

// ownPrepatches is where an operator's own prepatches lie.
const ownPrepatches = "/etc/pie/prepatches"

const longHelp = `pie puts a small guard, a prepatch, in front of a vulnerable function of a running
process. The guard lets good calls through and turns the attack into an ordinary
failed call. Nothing restarts, no connection drops, and it comes out again.

  pie scan                                which running processes could be guarded
  pie plan CVE-2024-31228 --pid 812       what would be done; nothing is changed
  pie insert CVE-2024-31228 --pid 812     guard it, for a trial of 10 minutes
  pie keep CVE-2024-31228                 end the trial, stay
  pie status                              what is in, and what it did
  pie remove CVE-2024-31228               take it out, byte for byte
  pie repair                              put right what a killed pie left half-done

Exit codes: 0 done or already so · 1 failed, nothing changed · 2 usage · 3 refused
4 partly done · 5 no matching process · 130 interrupted`

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "pie",
		Short:         "Guard vulnerable functions of running processes",
		Long:          longHelp,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },

		PersistentPreRun: func(c *cobra.Command, _ []string) {
			if !startup.Beside(c.Name()) { // those say so themselves, when they give way
				startup.Over()
			}
		},

		SuggestionsMinimumDistance: 2, // letters between what was typed and a command
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("pie {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON for programs")
	root.PersistentFlags().StringVar(&a.prepatches, "prepatches", ownPrepatches, "take prepatches of your own from the folder `DIR`: ID.go, ID/guard.go, or PRODUCT/CVE/guard.go")
	root.AddCommand(
		a.checkCommand(), a.planCommand(), a.insertCommand(), a.statusCommand(), a.eventsCommand(),
		a.modeCommand(), a.keepCommand(), a.offCommand(), a.removeCommand(), a.repairCommand(), a.autopsyCommand(),
		a.scanCommand(), a.doctorCommand(), a.agentCommand(), a.topCommand(), a.showCommand(), a.demoCommand(), manual.Command(exact(1, "a folder")),
		a.typesCommand(), a.newCommand(), a.testCommand(), a.recordCommand(),
	)
	return root
}

// flagError answers a flag that cannot be understood. Behind a word that is no
// command the word is what is wrong, not the flag.
func flagError(c *cobra.Command, err error) error {
	if words := c.Flags().Args(); !c.HasParent() && len(words) > 0 {
		return noCommand(c, words)
	}
	msg := err.Error()
	if at := strings.Index(msg, ": strconv."); at > 0 { // of Go, not of the operator
		msg = msg[:at] + ": not a number"
	}
	return &usageError{c, msg}
}

// noCommand answers a word that is no command.
func noCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	msg := fmt.Sprintf("no command %q", args[0])
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		msg += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return &usageError{c, msg}
}

// usageError is a command line that cannot be understood.
type usageError struct {
	command *cobra.Command
	msg     string
}

func (e *usageError) Error() string { return e.msg }

// usage is for commands that look at their arguments themselves.
func usage(c *cobra.Command, format string, args ...any) error {
	return &usageError{c, fmt.Sprintf(format, args...)}
}

// exact requires n arguments, described by what.
func exact(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(c, "it takes %s, and was given %s", what, plural(len(args), "argument", "arguments"))
		}
		return nil
	}
}

// atMost allows up to n arguments, described by what.
func atMost(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usage(c, "it takes %s, and was given %s", what, plural(len(args), "argument", "arguments"))
		}
		return nil
	}
}
