package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/internal/find/index"
	"github.com/patch-integration-engine/pie/internal/operate/catalogue"
	"github.com/patch-integration-engine/pie/internal/term"
)

const indexHelp = `Looks in everything that the processes of this machine run for the functions of
fingerprints (without X.pf: those of the catalogue), and lists the files with what was
found. What is found out is kept by content, so that the next time, and for pfp find
--host, only files that are new cost time. The folder is /var/cache/pie for root, else
pie in the user's cache folder; nobody else may write there.`

// indexFlags are where answers are kept.
type indexFlags struct {
	folder string
	fresh  bool
}

func (f *indexFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.folder, "cache", "", "keep what is found in this `FOLDER`")
	c.Flags().BoolVar(&f.fresh, "fresh", false, "search everything anew")
}

func (f *indexFlags) given() bool { return f.folder != "" || f.fresh }

// open opens the store. The one that nobody named may be missing, as where nothing
// can be written: then nothing is kept.
func (f *indexFlags) open() (*index.Store, error) {
	folder := f.folder
	if folder == "" {
		var err error
		if folder, err = index.Folder(); err != nil {
			return nil, nil
		}
	}
	store, err := index.Open(folder)
	if err != nil && f.folder == "" && !errors.Is(err, index.ErrShared) {
		return nil, nil
	}
	return store, err
}

// look looks for the functions of fingerprints in everything that runs.
func (f *indexFlags) look(fps []*fingerprint.Fingerprint) ([]*mappedFile, error) {
	store, err := f.open()
	if err != nil {
		return nil, err
	}
	if store != nil {
		defer store.Close()
	}
	h := newHost(store, fps, f.fresh)
	err = h.look()
	return h.order, err
}

func (f *indexFlags) findOnHost(fp *fingerprint.Fingerprint) ([]answer, error) {
	files, err := f.look([]*fingerprint.Fingerprint{fp})
	if err != nil {
		return nil, err
	}
	var out []answer
	for _, file := range files {
		for _, a := range file.Found {
			a.Pids = file.Pids
			out = append(out, a)
		}
	}
	return out, nil
}

func indexCommand() *cobra.Command {
	var f indexFlags
	asJSON := false
	c := &cobra.Command{
		Use:   "index [X.pf...]",
		Short: "Find the functions of fingerprints in everything that runs here, and remember it",
		Long:  indexHelp,
		RunE: func(c *cobra.Command, args []string) error {
			fps, err := fingerprintsOf(args)
			if err != nil {
				return err
			}
			files, err := f.look(fps)
			if err != nil {
				return err
			}
			slices.SortStableFunc(files, func(a, b *mappedFile) int { return cmp.Compare(a.Path, b.Path) })
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(append([]*mappedFile{}, files...))
			}
			return printIndex(c.OutOrStdout(), files, fps)
		},
	}
	f.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return c
}

// fingerprintsOf reads the named fingerprints, or those of the catalogue.
func fingerprintsOf(paths []string) ([]*fingerprint.Fingerprint, error) {
	var fps []*fingerprint.Fingerprint
	for _, path := range paths {
		fp, err := readFingerprint(path)
		if err != nil {
			return nil, err
		}
		fps = append(fps, fp)
	}
	if len(paths) > 0 {
		return fps, nil
	}
	for _, e := range catalogue.All() {
		for _, name := range slices.Sorted(maps.Keys(e.Files)) {
			if !strings.HasSuffix(name, ".pf") {
				continue
			}
			fp, err := fingerprint.Decode(e.Files[name])
			if err != nil {
				return nil, fmt.Errorf("%s of the catalogue: %w", name, err)
			}
			fps = append(fps, fp)
		}
	}
	return fps, nil
}

func printIndex(w io.Writer, files []*mappedFile, fps []*fingerprint.Fingerprint) error {
	t := (&term.Table{}).Right(2)
	t.Row("FILE", "BUILD ID", "PROCESSES", "FOUND")
	for _, f := range files {
		var found []string
		for _, a := range f.Found {
			word := a.Tier
			if a.Fixed {
				word += ", fixed"
			}
			found = append(found, fmt.Sprintf("%s at %s [%s]", a.Function, a.Address, word))
		}
		path := f.Path
		if f.Deleted {
			path += " (deleted)"
		}
		t.Row(path, dash(f.BuildID[:min(len(f.BuildID), 12)]), fmt.Sprint(len(f.Pids)), dash(strings.Join(found, "; ")))
	}
	if err := t.Write(w, ""); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s, %s looked for\n", counted(len(files), "file"), counted(len(fps), "function"))
	return err
}
