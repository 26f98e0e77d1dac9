package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

// Exit codes of every command.
const (
	exitDone        = 0
	exitFailed      = 1 // nothing was changed
	exitUsage       = 2
	exitRefused     = 3
	exitPartly      = 4
	exitNoProcess   = 5
	exitInterrupted = 130
)

// exitWith ends a command that has printed all there is to say.
type exitWith struct{ code int }

func (e exitWith) Error() string { return fmt.Sprintf("exit %d", e.code) }

// finish prints what is still to be said about err and returns the exit code.
func (a *app) finish(ctx context.Context, err error) int {
	var (
		exit    exitWith
		use     *usageError
		refusal *pie.Refusal
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &use):
		return a.finishUsage(use)
	case errors.As(err, &refusal):
		a.printRefusal(refusal)
		return refusalExit(refusal.Code)
	case ctx.Err() != nil:
		a.printFailure("interrupted", fmt.Errorf("rolled back, %w", errNothingChanged))
		return exitInterrupted
	}
	a.printFailure("error", err)
	return exitFailed
}

// changing are the commands after which a result that could not be written does not
// mean that nothing was changed.
var changing = []string{"insert", "mode", "keep", "off", "remove", "repair"}

// finishOutput ends a command whose output could not be written: code is what it would
// have ended with.
func (a *app) finishOutput(c *cobra.Command, out *term.Output, code int) int {
	if out.Err() == nil {
		return code
	}
	style := term.StyleFor(a.err, a.getenv)
	fmt.Fprintf(a.err, "%s the output could not be written: %v\n", style.Bad("error:"), out.Err())
	switch {
	case code != exitDone:
		return code
	case slices.Contains(changing, c.Name()):
		fmt.Fprintln(a.err, "  the command itself was carried out: pie status tells what is in")
		return exitPartly
	}
	return exitFailed
}

var errNothingChanged = errors.New("nothing was changed")

func refusalExit(code pie.Code) int {
	if code == pie.CodeNoProcess {
		return exitNoProcess
	}
	return exitRefused
}

func (a *app) finishUsage(e *usageError) int {
	if a.json {
		a.printJSON(errorJSON{Error: errorBody{Code: "usage", Message: e.msg}})
		return exitUsage
	}
	fmt.Fprintf(a.err, "%s: %s\nusage: %s\nmore:  %s --help\n", e.command.CommandPath(), term.Escape(e.msg),
		e.command.UseLine(), e.command.CommandPath())
	return exitUsage
}

// errorJSON is what --json prints instead of a result.
type errorJSON struct {
	Changed bool      `json:"changed"`
	Error   errorBody `json:"error"`
}

type errorBody struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Details []string `json:"details,omitempty"`
	Instead string   `json:"instead,omitempty"`
}

// printRefusal prints the three lines every refusal has.
func (a *app) printRefusal(r *pie.Refusal) {
	if a.json {
		a.printJSON(errorJSON{Error: errorBody{string(r.Code), r.Msg, r.Details, r.Instead}})
		return
	}
	style := term.StyleFor(a.err, a.getenv)
	fmt.Fprintf(a.err, "%s %s [%s]\n", style.Bad("refused:"), term.Escape(r.Msg), r.Code)
	for _, line := range r.Details {
		fmt.Fprintf(a.err, "    %s\n", term.Escape(line))
	}
	fmt.Fprintf(a.err, "  nothing was changed\n  %s\n", term.Escape(r.Instead))
}

func (a *app) printFailure(word string, err error) {
	if a.json {
		a.printJSON(errorJSON{Error: errorBody{Code: word, Message: err.Error()}})
		return
	}
	style := term.StyleFor(a.err, a.getenv)
	fmt.Fprintf(a.err, "%s %s\n", style.Bad(word+":"), term.Escape(err.Error()))
}

// printJSON writes one JSON value, indented, and a newline.
func (a *app) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	return writeJSON(a.out, b, err)
}

// printJSONLine writes one JSON value on one line.
func (a *app) printJSONLine(v any) error {
	b, err := json.Marshal(v)
	return writeJSON(a.out, b, err)
}

// writeJSON writes encoded JSON. encoding/json escapes what ASCII has of control
// characters; here the rest of what a terminal may act on becomes \uXXXX too,
// which only strings can contain.
func writeJSON(w io.Writer, encoded []byte, err error) error {
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range string(encoded) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, "\\u%04x\\u%04x", high, low)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	b.WriteByte('\n')
	_, err = io.WriteString(w, b.String())
	return err
}
