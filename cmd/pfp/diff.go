package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/term"
)

const diffHelp = `Compares the functions of two builds of a program, which may be stripped: which
have the same code, which were changed, added or removed. This is for reading
what a vendor's update changed. With -v it tells of each function which texts and
imports came (+) and went (-). A function that cannot be told from others is counted
as unclear.`

func diffCommand() *cobra.Command {
	asJSON, verbose := false, false
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Compare the functions of two builds",
		Long:  diffHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return &usageError{"pfp diff takes two programs, OLD and NEW"}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			var modules [2]*fingerprint.Module
			for i, path := range args {
				f, err := openELF(path)
				if err != nil {
					return err
				}
				defer f.close()
				if modules[i], err = fingerprint.Analyze(f.File); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
			if a, b := modules[0].Machine(), modules[1].Machine(); a != b {
				return &usageError{fmt.Sprintf("%s is for %v and %s for %v: nothing to compare", args[0], a, args[1], b)}
			}
			d := fingerprint.Diff(modules[0], modules[1])
			changes := make([]change, len(d.Changes))
			for i, one := range d.Changes {
				changes[i] = changeOf(one)
				if verbose {
					changes[i].Words = one.Words(modules[0], modules[1])
				}
			}
			for i, m := range modules {
				if err := m.Err(); err != nil {
					return fmt.Errorf("%s: %w", args[i], err)
				}
			}
			return printDiff(c.OutOrStdout(), d, changes, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "tell what came and went in each function")
	return c
}

// change is a line of pfp diff --json.
type change struct {
	What  string   `json:"change"`
	Old   string   `json:"old,omitempty"` // address
	New   string   `json:"new,omitempty"`
	Alike float64  `json:"similarity,omitempty"`
	Names []string `json:"names,omitempty"`
	Words []string `json:"words,omitempty"`
}

func printDiff(w io.Writer, d fingerprint.Difference, changes []change, asJSON bool) error {
	if asJSON {
		out := struct {
			Same    int      `json:"same"`
			Unclear int      `json:"unclear"`
			Changes []change `json:"changes"`
		}{d.Same, d.Unclear, changes}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(out)
	}
	t := (&term.Table{}).Right(3)
	t.Row("CHANGE", "OLD", "NEW", "ALIKE", "NAME")
	counts := map[string]int{}
	for _, c := range changes {
		counts[c.What]++
		alike := "-"
		if c.Alike > 0 {
			alike = fmt.Sprintf("%.0f %%", 100*c.Alike)
		}
		name := strings.Join(c.Names, " ")
		t.Row(c.What, dash(c.Old), dash(c.New), alike, dash(name))
		for _, word := range c.Words {
			t.Row("", "", "", "", "  "+word)
		}
	}
	if err := t.Write(w, ""); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d same, %d changed, %d added, %d removed, %d unclear\n", d.Same, counts["changed"], counts["added"], counts["removed"], d.Unclear)
	return err
}

func changeOf(c fingerprint.Change) change {
	out := change{What: c.What.String(), Alike: c.Similarity, Names: c.Names}
	if c.Old != 0 {
		out.Old = c.Old.String()
	}
	if c.New != 0 {
		out.New = c.New.String()
	}
	return out
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
