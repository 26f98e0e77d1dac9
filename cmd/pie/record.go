package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

// recordFlags are the flags of pie record beside those that say what goes where.
type recordFlags struct {
	insert   insertFlags
	out      string
	evidence string
	length   time.Duration
	every    uint64
	rate     int
	maxCalls uint64
	maxSize  string
	perCall  int
}

func (f *recordFlags) register(c *cobra.Command) {
	f.insert.registerPlaces(c)
	fl := c.Flags()
	fl.StringVarP(&f.out, "output", "o", "", "write to this `FILE`, which must not exist (default the prepatch's id with .rec)")
	fl.StringVar(&f.evidence, "evidence", "", "record only `WHAT`: args, or memory; never more than //pie:evidence allows (default what it allows)")
	fl.DurationVar(&f.length, "for", time.Minute, "record for this `TIME`; 0 until Ctrl-C")
	fl.Uint64Var(&f.every, "one-in", 1, "record one in `N` calls")
	fl.IntVar(&f.rate, "rate", pie.DefaultRate, "record at most `N` calls a second of each process")
	fl.Uint64Var(&f.maxCalls, "max-calls", 0, "end after `N` calls; 0 for no limit")
	fl.StringVar(&f.maxSize, "max-size", "256M", "end when the file has this `SIZE`, such as 64M")
	fl.IntVar(&f.perCall, "per-call", 0, "keep at most `N` bytes of one call, 256 to 8192 (default 1024, or 256 without memory)")
}

// options are the operator's decisions.
func (f *recordFlags) options(a *app, c *cobra.Command) (pie.RecordOptions, error) {
	insert, err := f.insert.options(a, c, false)
	if err != nil {
		return pie.RecordOptions{}, err
	}
	o := pie.RecordOptions{
		Evidence: pie.Evidence(f.evidence), For: f.length, Every: f.every, Rate: f.rate, MaxCalls: f.maxCalls, PerCall: f.perCall, Insert: insert,
	}
	switch {
	case f.evidence != "" && o.Evidence != pie.EvidenceArgs && o.Evidence != pie.EvidenceMemory:
		return o, usage(c, "--evidence %s: it is args or memory", f.evidence)
	case f.length < 0:
		return o, usage(c, "--for %s: a recording takes time", f.length)
	case f.every < 1:
		return o, usage(c, "--one-in 0: it is 1 or more")
	case f.rate < 1:
		return o, usage(c, "--rate %d: it is 1 or more", f.rate)
	case f.perCall != 0 && (f.perCall < 256 || f.perCall > 8192):
		return o, usage(c, "--per-call %d: it is 256 to 8192 bytes", f.perCall)
	}
	if o.MaxSize, err = parseSize(f.maxSize); err != nil {
		return o, usage(c, "--max-size %s: %v", f.maxSize, err)
	}
	o.Tell = func(r pie.RecordReport) {
		a.progress.Step(fmt.Sprintf("%s calls recorded, %s", grouped(r.Recorded), sizeWords(r.Size)))
	}
	return o, nil
}

// parseSize reads a number of bytes: 4096, 64K, 256M, 2G.
func parseSize(s string) (int64, error) {
	shift := 0
	for k, suffix := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(strings.TrimSuffix(s, "iB"), suffix); ok {
			s, shift = rest, 10*(k+1)
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<40>>shift {
		return 0, errors.New("not a size; write 64M or 2G, at most 1024G")
	}
	return n << shift, nil
}

func (a *app) recordCommand() *cobra.Command {
	var f recordFlags
	c := &cobra.Command{
		Use:   "record PREPATCH TARGET",
		Short: "Take down real calls of the functions a prepatch guards, for pie test --replay",
		Long: `Take down real calls of the functions that a prepatch guards. No call is rejected,
changed or held up. What is recorded is what the guard would look at: the argument
words and, where the prepatch says //pie:evidence memory, every byte that it reads.

The file may hold data of the program's users and is readable by you alone. Recording
ends by itself: after --for, at --max-size, or when pie is killed. Then pie test
PREPATCH --replay FILE says what a prepatch would have done to these calls.`,
		Args:              atMost(1, "one PREPATCH"),
		ValidArgsFunction: a.completePrepatch,
	}
	f.register(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		o, err := f.options(a, c)
		if err != nil {
			return err
		}
		x, err := f.insert.resolve(a, c, args)
		if err != nil {
			return err
		}
		if f.out == "" {
			f.out = x.prepatch.ID + ".rec"
		}
		return a.record(c, x, o, f.out)
	}
	return c
}

// record records to the file path.
func (a *app) record(c *cobra.Command, x chosen, o pie.RecordOptions, path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &pie.Refusal{Code: pie.CodeExists, Msg: path + " exists already", Instead: "name another file with -o", Err: err}
	}
	if err != nil {
		return err
	}
	defer file.Close()
	yielding()
	report, err := pie.Record(c.Context(), x.prepatch, x.sel, o, file)
	a.progress.Step("")
	if report == nil {
		_ = os.Remove(path)
		return err
	}
	if err == nil {
		err = file.Close()
	}
	if a.json {
		if jsonErr := a.printJSON(struct {
			*pie.RecordReport
			File string `json:"file"`
		}{report, path}); jsonErr != nil {
			return jsonErr
		}
	} else {
		a.printRecord(report, x, o, path)
	}
	switch {
	case err != nil:
		return err
	case len(report.Left) > 0:
		return exitWith{exitPartly}
	}
	return nil
}

// wereNot is "1 was", "2,291 were".
func wereNot(n uint64) string {
	if n == 1 {
		return "1 was"
	}
	return grouped(n) + " were"
}

func (a *app) printRecord(r *pie.RecordReport, x chosen, o pie.RecordOptions, path string) {
	style := term.StyleFor(a.out, a.getenv)
	fmt.Fprintln(a.out, style.Bold(term.Escape(r.ID)+"  recording ended: "+r.Why))
	count := fmt.Sprintf("%s of %s calls recorded", grouped(r.Recorded), grouped(max(r.Calls, r.Recorded)))
	what := "argument words"
	if r.Evidence == pie.EvidenceMemory {
		what = "argument words and memory"
	}
	fmt.Fprintf(a.out, "  %s in %s · %s · %s · longest pause %s\n", count, r.Took.Round(time.Second/10), what,
		plural(len(r.Processes), "process", "processes"), milliseconds(r.Pause))
	if r.Cut > 0 {
		fmt.Fprintf(a.out, "  %s of them are not whole: the guard read more than fits (--per-call, at most 8192)\n", grouped(r.Cut))
	}
	if unseen := r.Calls - min(r.Calls, r.Recorded+r.Lost); unseen > 0 && o.Every <= 1 && r.Why != "calls" && r.Why != "size" {
		fmt.Fprintf(a.out, "  %s not: made faster than --rate allows, or in processes that lived for less than 0.1 s\n", wereNot(unseen))
	}
	if r.Lost > 0 {
		fmt.Fprintf(a.out, "  %s were taken down and could not be read\n", grouped(r.Lost))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(a.out, "  %s\n", term.Escape(n))
	}
	for _, l := range r.Left {
		fmt.Fprintf(a.out, "  %s %s\n", style.Bad("not taken out:"), term.Escape(l))
	}
	if len(r.Left) > 0 {
		fmt.Fprintf(a.out, "  take it out: pie remove %s\n", term.Escape(pie.RecordID(r.ID)))
	}
	holds := "it holds argument words of the program"
	if r.Evidence == pie.EvidenceMemory {
		holds = "it holds memory of the program, which may be its users' data"
	}
	fmt.Fprintf(a.out, "  %s, %s, readable by you alone: %s\n", term.Escape(path), sizeWords(r.Size), holds)
	if strings.HasPrefix(x.ref, "-") { // typed as one line
		program := "--exe NAME"
		if len(r.Processes) > 0 {
			program = fmt.Sprintf("--pid %d", r.Processes[0])
		}
		fmt.Fprintf(a.out, "replay: pie check %s %s -o guard.go, then pie test guard.go --replay %s\n", term.Escape(x.ref), program, term.Escape(shellWord(path)))
		return
	}
	fmt.Fprintf(a.out, "replay: pie test %s --replay %s\n", term.Escape(x.ref), term.Escape(path))
}
