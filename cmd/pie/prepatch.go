package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/operate/catalogue"
	"github.com/patch-integration-engine/pie/internal/term"
)

var identifier = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)+$`) })

// maxSource bounds one Go file of a prepatch.
const maxSource = 1 << 20

// loadPrepatch finds, compiles and verifies what the command line calls PREPATCH.
func (a *app) loadPrepatch(arg string) (*pie.Prepatch, error) {
	files, err := a.prepatchFiles(arg)
	if err != nil {
		return nil, err
	}
	return pie.Load(files)
}

func (a *app) prepatchFiles(arg string) (map[string][]byte, error) {
	st, err := os.Stat(arg)
	switch {
	case err == nil && st.IsDir():
		return folderFiles(arg)
	case err == nil && (strings.HasSuffix(arg, ".go") || strings.HasSuffix(arg, ".o")):
		return readFiles(arg)
	case err == nil:
		return nil, notReadYet(arg)
	case identifier().MatchString(arg):
		return a.catalogueFiles(arg)
	case strings.HasSuffix(arg, ".go") || strings.ContainsRune(arg, filepath.Separator):
		return nil, &pie.Refusal{Code: pie.CodePrepatch, Msg: fmt.Sprintf("reading the prepatch: %v", err),
			Instead: "name a .go file, a folder with one, or an id that pie show lists", Err: err}
	}
	return nil, a.unknownPrepatch(arg)
}

// catalogue is pie's own and the operator's.
func (a *app) catalogue() catalogue.Catalogue {
	if a.read == nil {
		c := catalogue.With(a.prepatches)
		a.read = &c
	}
	return *a.read
}

// lookup returns one entry of the catalogue, and reads no more of it than that takes.
func (a *app) lookup(id string) (catalogue.Entry, bool) {
	if a.read != nil {
		return a.read.Lookup(id)
	}
	return catalogue.Find(a.prepatches, id)
}

// tellBroken says which prepatches could not be looked at; exit code 4 goes with it.
func (a *app) tellBroken(broken []catalogue.Broken) error {
	for _, b := range broken {
		lead := "left out: "
		for line := range strings.SplitSeq(b.Error(), "\n") {
			fmt.Fprintf(a.err, "%s%s\n", lead, term.Escape(line))
			lead = "  "
		}
	}
	if len(broken) > 0 {
		return exitWith{exitPartly}
	}
	return nil
}

func (a *app) catalogueFiles(id string) (map[string][]byte, error) {
	e, ok := a.lookup(id)
	if !ok {
		return nil, a.unknownPrepatch(id)
	}
	return e.Files, nil
}

// seenOf returns what the README.md of a prepatch says a rejected client sees;
// empty when there is none.
func (a *app) seenOf(arg string) string {
	if st, err := os.Stat(arg); err == nil && st.IsDir() {
		readme, err := readFiles(filepath.Join(arg, "README.md"))
		if err != nil {
			return ""
		}
		return catalogue.Seen(readme[filepath.Join(arg, "README.md")])
	}
	e, _ := a.lookup(arg)
	return e.Seen
}

func (a *app) unknownPrepatch(arg string) error {
	c := a.catalogue()
	var ids []string
	for _, e := range c.Entries {
		ids = append(ids, e.ID)
	}
	r := &pie.Refusal{Code: pie.CodePrepatch, Msg: fmt.Sprintf("%q is no prepatch of the catalogue and no file", arg),
		Instead: "the catalogue has: " + strings.Join(ids, ", ")}
	for _, b := range c.Broken {
		r.Details = append(r.Details, "cannot be read: "+b.Error())
	}
	return r
}

// completePrepatch offers the shell the ids of the catalogue, besides files.
func (a *app) completePrepatch(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, e := range a.catalogue().Entries {
		ids = append(ids, e.ID+"\t"+e.Summary)
	}
	return ids, cobra.ShellCompDirectiveDefault
}

// notReadYet refuses the forms of a prepatch that other versions of pie read.
func notReadYet(path string) error {
	form := "a prepatch"
	switch filepath.Ext(path) {
	case ".prepatch":
		form = "a signed bundle"
	}
	return &pie.Refusal{Code: pie.CodeUnsupported, Msg: fmt.Sprintf("%s: this version of pie does not read %s", path, form),
		Instead: "give the Go source, a .go file or a folder with one, or an object file of clang -target bpf, .o"}
}

func folderFiles(dir string) (map[string][]byte, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var sources []string
	for _, n := range names {
		if !strings.HasSuffix(n, "_test.go") {
			sources = append(sources, n)
		}
	}
	if len(sources) == 0 {
		return nil, &pie.Refusal{Code: pie.CodePrepatch, Msg: fmt.Sprintf("no .go file in the folder %s", dir),
			Instead: "a prepatch folder holds guard.go; pie check DIR tells what is wrong with it"}
	}
	return readFiles(sources...)
}

func readFiles(paths ...string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, p := range paths {
		st, err := os.Stat(p)
		if err == nil && (!st.Mode().IsRegular() || st.Size() > maxSource) {
			err = fmt.Errorf("not a source file of at most %d KiB", maxSource>>10)
		}
		if err == nil {
			files[p], err = os.ReadFile(p)
		}
		if err != nil {
			return nil, &pie.Refusal{Code: pie.CodePrepatch, Msg: fmt.Sprintf("reading the prepatch %s: %v", p, err),
				Instead: "name a .go file or a folder with one", Err: err}
		}
	}
	return files, nil
}
