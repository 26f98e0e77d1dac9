package main

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/proc"
	"github.com/patch-integration-engine/pie/internal/term"
)

const findHelp = `Looks for the function of a fingerprint in a program, in every program of a
folder, in the files of a core, in all that a process maps (--pid), or in all that
the processes of this machine map (--host). What --host found is kept, so that the
next time only what is new is searched; pfp index does so for many fingerprints.

  AUTO     found: pie may guard it alone
  CONFIRM  found, but a person should look at the evidence
  HINT     something like it, not to be acted on
  abstain  nothing that can be answered for

Exit codes: 0 found (AUTO or CONFIRM), 5 a hint only, 6 abstained, 7 found with
the vendor's fix.`

// answer is what pfp find says about one file.
type answer struct {
	Function  string   `json:"function,omitempty"`
	File      string   `json:"file"`
	Tier      string   `json:"tier"`
	Address   string   `json:"address,omitempty"` // hexadecimal, link time
	Size      uint64   `json:"size,omitempty"`
	Names     []string `json:"names,omitempty"`
	Fixed     bool     `json:"fixed,omitempty"`
	Undecided bool     `json:"fix_undecided,omitempty"`
	Reference string   `json:"reference,omitempty"`
	Score     float64  `json:"score"`
	Margin    float64  `json:"margin"`
	Alike     float64  `json:"similarity"`
	Exact     bool     `json:"exact,omitempty"`
	Evidence  []string `json:"evidence,omitempty"`
	Why       []string `json:"why_not_higher,omitempty"`
	Rivals    []rival  `json:"rivals,omitempty"`
	Runtime   string   `json:"runtime_address,omitempty"` // in the process, or the core
	Pids      []int    `json:"pids,omitempty"`            // processes that map the file

	tier fingerprint.Tier
	at   address.Vaddr
}

type rival struct {
	Address string   `json:"address"`
	Names   []string `json:"names,omitempty"`
	Alike   float64  `json:"similarity"`
}

// findFlags are where pfp find looks.
type findFlags struct {
	pid   int
	host  bool
	index indexFlags
}

func findCommand() *cobra.Command {
	asJSON := false
	var f findFlags
	c := &cobra.Command{
		Use:   "find X.pf BINARY|FOLDER|CORE|--pid N|--host",
		Short: "Find a fingerprint's function in a program, or abstain",
		Long:  findHelp,
		Args: func(c *cobra.Command, args []string) error {
			ways := max(len(args)-1, 0)
			for _, flag := range []string{"pid", "host"} {
				if c.Flags().Changed(flag) {
					ways++
				}
			}
			switch {
			case len(args) == 0 || ways == 0 || ways > 1 && len(args)-1 != ways:
				return &usageError{"pfp find takes a fingerprint, and a program, a folder, a core, --pid N or --host"}
			case f.index.given() && !f.host:
				return &usageError{"--cache and --fresh are for --host"}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			fp, err := readFingerprint(args[0])
			if err != nil {
				return err
			}
			found, err := f.find(fp, args[1:])
			if err != nil {
				return err
			}
			if err := printAnswers(c.OutOrStdout(), fp, found, asJSON); err != nil {
				return err
			}
			return codeOf(found)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	c.Flags().IntVar(&f.pid, "pid", 0, "look in everything that process `N` maps")
	c.Flags().BoolVar(&f.host, "host", false, "look in everything that the processes of this machine map")
	f.index.register(c)
	return c
}

func (f *findFlags) find(fp *fingerprint.Fingerprint, paths []string) ([]answer, error) {
	switch {
	case f.host:
		return f.index.findOnHost(fp)
	case len(paths) == 0:
		return findInProcess(fp, f.pid)
	}
	return findInFiles(fp, paths)
}

// outcome is an answer that is no error, told by the exit code.
type outcome struct{ code int }

func (o *outcome) Error() string { return fmt.Sprintf("exit code %d", o.code) }

// codeOf is the exit code for the best answer, as an error; nil for found.
func codeOf(found []answer) error {
	best := answer{}
	for _, a := range found {
		if a.tier > best.tier || a.tier == best.tier && best.Fixed {
			best = a
		}
	}
	switch {
	case best.tier < fingerprint.Hint:
		return &outcome{exitAbstained}
	case best.tier == fingerprint.Hint:
		return &outcome{exitHint}
	case best.Fixed:
		return &outcome{exitFixed}
	}
	return nil
}

func findInFiles(fp *fingerprint.Fingerprint, paths []string) ([]answer, error) {
	var out []answer
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			one, err := findInOne(fp, path)
			if err != nil {
				return nil, err
			}
			out = append(out, one...)
			continue
		}
		files, err := programsIn(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			// What is no program, or a broken one, is passed over in a folder.
			if a, err := findInFile(fp, file); err == nil && a.tier > fingerprint.None {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// findInOne looks in a program, or in the files of a core.
func findInOne(fp *fingerprint.Fingerprint, path string) ([]answer, error) {
	a, err := findInFile(fp, path)
	var kind *binfile.UnsupportedError
	if !errors.As(err, &kind) || kind.Type != elf.ET_CORE {
		return []answer{a}, err
	}
	file, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	core, err := binfile.OpenCore(file, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return findInCore(fp, path, core)
}

func findInFile(fp *fingerprint.Fingerprint, path string) (answer, error) {
	f, err := openELF(path)
	if err != nil {
		return answer{}, err
	}
	defer f.close()
	return findIn(fp, f.File, path)
}

func findIn(fp *fingerprint.Fingerprint, f *binfile.File, path string) (answer, error) {
	m, err := fingerprint.Analyze(f)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", path, err)
	}
	return findInModule(fp, m, path), nil
}

func findInModule(fp *fingerprint.Fingerprint, m *fingerprint.Module, path string) answer {
	r := m.Find(fp)
	a := answer{Function: fp.Function, File: path, Tier: r.Tier.String(), tier: r.Tier, Fixed: r.Fixed, Undecided: r.Undecided, Size: r.Size, Names: r.Names,
		Reference: r.Reference, Score: r.Score, Margin: r.Margin, Alike: r.Similarity, Exact: r.Exact, Evidence: r.Evidence, Why: r.Why}
	if r.Tier > fingerprint.None {
		a.Address, a.at = r.At.String(), r.At
	}
	for _, o := range r.Rivals {
		a.Rivals = append(a.Rivals, rival{o.At.String(), o.Names, o.Similarity})
	}
	return a
}

// findInProcess looks in every image of a process; those that cannot be read
// are passed over, as pie does.
func findInProcess(fp *fingerprint.Fingerprint, pid int) ([]answer, error) {
	p, err := proc.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	set, err := locate.Images(p)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	var out []answer
	for _, im := range set.Images {
		a, err := findIn(fp, im.File, im.Path)
		if errors.Is(err, fingerprint.ErrNoFunctions) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if a.tier > fingerprint.None {
			a.Runtime = a.at.Addr(im.Bias).String()
			out = append(out, a)
		}
	}
	return out, nil
}

func printAnswers(w io.Writer, fp *fingerprint.Fingerprint, found []answer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Function string   `json:"function"`
			Answers  []answer `json:"answers"`
		}{fp.Function, append([]answer{}, found...)})
	}
	var b strings.Builder
	if len(found) == 0 {
		fmt.Fprintf(&b, "%s: not found [abstain]\n", fp.Function)
	}
	for i := range found {
		found[i].describe(&b, fp)
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, term.Escape(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

func (a *answer) describe(b *strings.Builder, fp *fingerprint.Fingerprint) {
	one := func(s string) string { return strings.ReplaceAll(s, "\n", " ") }
	switch {
	case a.tier == fingerprint.None:
		fmt.Fprintf(b, "%s: %s not found [abstain]\n", a.File, one(fp.Function))
	default:
		fmt.Fprintf(b, "%s: %s at %s, %d bytes [%s]\n", a.File, one(fp.Function), a.Address, a.Size, a.Tier)
		if a.Fixed {
			fmt.Fprintf(b, "  already fixed: it is the function of %s\n", one(a.Reference))
		}
		if a.Runtime != "" {
			fmt.Fprintf(b, "  in memory at %s\n", a.Runtime)
		}
		if len(a.Pids) > 0 {
			fmt.Fprintf(b, "  mapped by %s: %s\n", counted(len(a.Pids), "process"), some(a.Pids))
		}
		if len(a.Names) > 0 {
			fmt.Fprintf(b, "  the file calls it %s\n", one(strings.Join(a.Names, " ")))
		}
		if a.Score != 0 { // a build that is known was not compared
			fmt.Fprintf(b, "  score %.0f, margin %.0f, %.0f %% alike\n", a.Score, a.Margin, 100*a.Alike)
		}
	}
	for _, e := range a.Evidence {
		fmt.Fprintf(b, "  + %s\n", one(e))
	}
	for _, e := range a.Why {
		fmt.Fprintf(b, "  - %s\n", one(e))
	}
	if a.tier <= fingerprint.Hint {
		fmt.Fprintf(b, "  what helps: a fingerprint with a build nearer to this one (compiler, optimization, version)\n")
	}
}

// some prints the first few process ids.
func some(pids []int) string {
	const most = 8
	var words []string
	for _, pid := range pids[:min(len(pids), most)] {
		words = append(words, fmt.Sprint(pid))
	}
	if len(pids) > most {
		words = append(words, "…")
	}
	return strings.Join(words, " ")
}
