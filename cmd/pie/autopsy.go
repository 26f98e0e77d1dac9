package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

func (a *app) autopsyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "autopsy CORE|PID",
		Short: "Was it PIE? Look at a core file, or at a process that hangs",
		Long: `Say whether PIE had a part in a crash: where the crashing thread was, which prepatches
were in, and the last calls they rejected. CORE is the file the kernel wrote; with
systemd: coredumpctl dump PID -o core. Of a PID the threads are stopped for as long as
it takes to read their registers.

  ours     the thread was in PIE's code, or in the middle of a jump that PIE wrote
  near     PIE's code is on its stack: look closer
  moved    at an instruction of the program that PIE had moved: it would have crashed
           in place as well
  theirs   nothing of PIE has to do with where it was
  without  nothing of PIE is in the process

A program may also crash because it does not bear a rejected call: the last events tell
how long before that was.`,
		Args: exact(1, "a core file or a pid"),
		RunE: func(c *cobra.Command, args []string) error {
			report, err := autopsyOf(c, args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(report)
			}
			return a.printAutopsy(report)
		},
	}
}

// autopsyOf takes a number that no file has the name of for a pid.
func autopsyOf(c *cobra.Command, what string) (*pie.Autopsy, error) {
	pid, err := strconv.Atoi(what)
	if _, statErr := os.Stat(what); err == nil && os.IsNotExist(statErr) {
		if pid < 1 {
			return nil, usage(c, "%s: a process has a positive number", what)
		}
		return pie.AutopsyProcess(c.Context(), pid)
	}
	return pie.AutopsyCore(what)
}

// verdictWords answer the question, was it PIE.
var verdictWords = map[string]string{
	"ours": "it was PIE", "near": "perhaps PIE", "moved": "not PIE", "theirs": "not PIE", "without": "not PIE",
}

func (a *app) printAutopsy(r *pie.Autopsy) error {
	style := term.StyleFor(a.out, a.getenv)
	kind, answer := "core of", verdictWords[r.Verdict]
	if !r.Core {
		kind = "process"
		if r.Verdict == "ours" {
			answer = "a thread is in PIE's code now, as one is in every guarded call"
		}
	}
	fmt.Fprintf(a.out, "%s\n", style.Bold(term.Escape(fmt.Sprintf("%s pid %d (%s): %s", kind, r.Pid, r.Name, answer))))
	a.printThreads(r)
	if r.Problem != "" {
		fmt.Fprintf(a.out, "  %s %s\n", style.Bad("problem:"), term.Escape(r.Problem))
	}
	for _, p := range r.Prepatches {
		fmt.Fprintf(a.out, "  %s was %s, %s\n", term.Escape(p.ID), p.State, modeWords(p.Mode, p.TrialEnd, time.Now()))
	}
	if len(r.Events) == 0 {
		return nil
	}
	fmt.Fprintln(a.out, "  last events:")
	return a.printEvents(r.Events, 0)
}

// printThreads tells of the thread that crashed, and of every other one that has to
// do with PIE.
func (a *app) printThreads(r *pie.Autopsy) {
	for i, t := range r.Threads {
		crashed := r.Core && i == 0
		switch {
		case t.Where != "":
			id := ""
			if t.ID != "" {
				id = " (" + t.ID + ")"
			}
			fmt.Fprintf(a.out, "  thread %d at %s: %s%s\n", t.Tid, t.PC, term.Escape(t.Where), term.Escape(id))
		case crashed:
			fmt.Fprintf(a.out, "  thread %d at %s: in no code of PIE\n", t.Tid, t.PC)
		}
	}
	if r.Verdict == "ours" && r.Core {
		fmt.Fprintln(a.out, "  take the prepatch out where it is still in: pie remove ID; and report this with the core file")
	}
}
