// Package manual writes the manual pages of pie and pfp, one of man(7) for each
// command, from what --help says: there is one text, and the pages cannot lag behind.
package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is "man FOLDER", which writes the pages of the command it is added to.
// Whoever installs runs it; it is not for operators, and not shown to them.
func Command(args cobra.PositionalArgs) *cobra.Command {
	return &cobra.Command{
		Use:    "man FOLDER",
		Short:  "Write the manual pages into a folder",
		Hidden: true,
		Args:   args,
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writePages(c.Root(), args[0])
		},
	}
}

func writePages(c *cobra.Command, dir string) error {
	if !shown(c) {
		return nil
	}
	name := pageName(c)
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(page(c, name)), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if err := writePages(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// page is the manual page of one command.
func page(c *cobra.Command, name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), name, roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	if c.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(c.Long))
	}
	if c.HasAvailableFlags() {
		b.WriteString(".SH OPTIONS\n")
		c.Flags().VisitAll(func(f *pflag.Flag) { b.WriteString(option(f)) })
		c.InheritedFlags().VisitAll(func(f *pflag.Flag) { b.WriteString(option(f)) })
	}
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if shown(sub) {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", sub.Name(), roff(sub.Short))
			}
		}
	}
	b.WriteString(seeAlso(c))
	return b.String()
}

// seeAlso names the command above, and of a command with others below it those.
func seeAlso(c *cobra.Command) string {
	var others []*cobra.Command
	if c.HasParent() {
		others = append(others, c.Parent())
	}
	for _, sub := range c.Commands() {
		if shown(sub) {
			others = append(others, sub)
		}
	}
	var b strings.Builder
	for i, other := range others {
		if i == 0 {
			b.WriteString(".SH SEE ALSO\n")
		}
		comma := ","
		if i == len(others)-1 {
			comma = ""
		}
		fmt.Fprintf(&b, ".BR %s (1)%s\n", roff(pageName(other)), comma)
	}
	return b.String()
}

// shown: --help lists the command, and it has a page.
func shown(c *cobra.Command) bool { return !c.Hidden && c.Name() != "help" }

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func option(f *pflag.Flag) string {
	if f.Hidden {
		return ""
	}
	value, text := pflag.UnquoteUsage(f)
	names := "--" + f.Name
	if f.Shorthand != "" {
		names = "-" + f.Shorthand + ", " + names
	}
	if value != "" {
		names += " " + value
	}
	switch f.DefValue {
	case "", "0", "0s", "false", "[]":
	default:
		text += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	return fmt.Sprintf(".TP\n.B %s\n%s\n", roff(names), roff(text))
}

// roff escapes text for man(7): backslashes, hyphens that must stay ASCII, and
// lines that would be requests.
func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
