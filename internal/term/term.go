// Package term writes for people: aligned tables, colours, progress, and
// strings from hostile processes made harmless.
//
// Two rules hold everywhere. A string that a process, file or network peer had a
// hand in goes through Escape before it is printed, because a terminal obeys
// what it is shown. Colours and progress appear only where they help: on a
// terminal, without NO_COLOR (https://no-color.org) and not under TERM=dumb.
package term

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	xterm "golang.org/x/term"
)

// Escape returns s with everything that is not a printable character written
// as Go would in a string literal: \x1b, \n, \u202e. Backslashes are doubled,
// so that the result has one reading.
func Escape(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + hex2(s[i]))
		case r == '\\':
			b.WriteString(`\\`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}

func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			return false
		}
	}
	return true
}

func hex2(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

// IsTerminal reports whether w, a reader or writer, is a terminal.
func IsTerminal(w any) bool {
	if o, ok := w.(*Output); ok {
		w = o.w
	}
	f, ok := w.(*os.File)
	return ok && xterm.IsTerminal(int(f.Fd()))
}

// A Style colours text, or not.
type Style struct{ on bool }

// StyleFor returns the style for output to w under the environment getenv.
func StyleFor(w io.Writer, getenv func(string) string) Style {
	return Style{on: IsTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

// Bold returns s in bold.
func (s Style) Bold(text string) string { return s.wrap("1", text) }

// Good returns s as good news.
func (s Style) Good(text string) string { return s.wrap("32", text) }

// Warn returns s as something to look at.
func (s Style) Warn(text string) string { return s.wrap("33", text) }

// Bad returns s as bad news.
func (s Style) Bad(text string) string { return s.wrap("31", text) }

// Dim returns s as of less weight.
func (s Style) Dim(text string) string { return s.wrap("2", text) }

func (s Style) wrap(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
