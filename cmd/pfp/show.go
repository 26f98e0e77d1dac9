package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/term"
)

func showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show X.pf",
		Short: "Show what is in a fingerprint",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{"pfp show takes one fingerprint"}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			fp, err := readFingerprint(args[0])
			if err != nil {
				return err
			}
			w := c.OutOrStdout()
			fmt.Fprintf(w, "function %s, from %s\n\n", term.Escape(fp.Function), counted(len(fp.References), "build"))
			t := (&term.Table{}).Right(2).Right(3).Right(4).Right(5).Right(6)
			t.Row("BUILD", "FIX", "INSNS", "FEATURES", "CALLERS", "CALLEES", "ALIKE", "ADDRESS", "BUILD ID")
			for i := range fp.References {
				r := &fp.References[i]
				fix := "-"
				if r.Fixed {
					fix = "fixed"
				}
				t.Row(r.Label, fix, fmt.Sprint(r.Target.Insns), fmt.Sprint(len(r.Target.Features)), fmt.Sprint(len(r.Callers)), fmt.Sprint(len(r.Callees)), fmt.Sprint(len(r.Alike)), r.At.String(), r.BuildID)
			}
			if err := t.Write(w, ""); err != nil {
				return err
			}
			for i := range fp.References {
				if r := &fp.References[i]; r.Whole != nil {
					fmt.Fprintf(w, "  whole %s: %d functions, %d calls\n", term.Escape(r.Label), r.Whole.Functions(), r.Whole.Calls())
				}
			}
			for i := range fp.References {
				if r := &fp.References[i]; r.Behaviour != nil {
					worlds, seen := r.Behaviour.Size()
					fmt.Fprintf(w, "  behaviour %s: %d reads, writes, calls and results in %d worlds\n", term.Escape(r.Label), seen, worlds)
				}
			}
			for _, k := range []fingerprint.Kind{fingerprint.KindString, fingerprint.KindImport} {
				for _, s := range fp.TextsOf(k) {
					fmt.Fprintf(w, "  %s %q\n", k, s)
				}
			}
			return nil
		},
	}
}
