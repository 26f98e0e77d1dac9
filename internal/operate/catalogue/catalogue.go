// Package catalogue is the prepatches that pie brings along: the folders
// PRODUCT/CVE below prepatches/, embedded as source. A folder is known by the
// //pie:id in it, so that its name cannot disagree with what it guards.
package catalogue

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/prepatches"
)

// Entry is one prepatch of the catalogue.
type Entry struct {
	ID      string            `json:"id"`
	Product string            `json:"product"`
	Fixed   string            `json:"fixed,omitempty"` // first version with the vendor's fix
	Summary string            `json:"summary"`         // the first sentence of its package comment
	Seen    string            `json:"seen,omitempty"`  // what a rejected client sees
	Guards  []source.Guard    `json:"-"`
	Files   map[string][]byte `json:"-"` // its Go files but tests and its fingerprints, by path in the catalogue: what pie.Load takes
	Tests   map[string][]byte `json:"-"` // its tests, by path in the catalogue
}

// Source returns the entry's Go files as one text.
func (e Entry) Source() []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(e.Files)) {
		if path.Ext(name) != ".go" {
			continue
		}
		if b.Len() > 0 {
			fmt.Fprintf(&b, "\n// %s\n\n", name)
		}
		b.Write(e.Files[name])
	}
	return b.Bytes()
}

// All returns every entry, by product and id. Folders that do not parse are
// left out; a test holds that there are none.
func All() []Entry {
	entries, _ := load(prepatches.Files)
	return entries
}

// Lookup returns the entry with the given id; case does not matter.
func Lookup(id string) (Entry, bool) {
	for _, e := range All() {
		if strings.EqualFold(e.ID, id) {
			return e, true
		}
	}
	return Entry{}, false
}

// load reads a catalogue; errs has one for each folder that is left out.
func load(fsys fs.FS) (entries []Entry, errs []error) {
	guards, err := fs.Glob(fsys, "*/*/guard.go")
	if err != nil {
		return nil, []error{err}
	}
	for _, g := range guards {
		e, err := readEntry(fsys, path.Dir(g))
		if err != nil {
			errs = append(errs, fmt.Errorf("catalogue folder %s: %w", path.Dir(g), err))
			continue
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return strings.Compare(a.Product+"\x00"+a.ID, b.Product+"\x00"+b.ID)
	})
	return entries, errs
}

func readEntry(fsys fs.FS, dir string) (Entry, error) {
	sources, err := readAll(fsys, dir+"/*.go")
	if err != nil {
		return Entry{}, err
	}
	tests := map[string][]byte{}
	for name, text := range sources {
		if strings.HasSuffix(name, "_test.go") {
			tests[name] = text
			delete(sources, name)
		}
	}
	files, err := readAll(fsys, dir+"/*.pf")
	if err != nil {
		return Entry{}, err
	}
	p, err := source.ParseFiles(sources)
	if err != nil {
		return Entry{}, err
	}
	for _, g := range p.Guards {
		if g.Fingerprint != "" && files[dir+"/"+g.Fingerprint] == nil {
			return Entry{}, fmt.Errorf("%v: the fingerprint %s is not in the folder; docs/pfp.md tells how to make it", g.Pos, g.Fingerprint)
		}
	}
	readme, err := fs.ReadFile(fsys, dir+"/README.md")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Entry{}, err
	}
	maps.Copy(files, sources)
	return Entry{ID: p.ID, Product: path.Base(path.Dir(dir)), Fixed: p.Fixed, Summary: summary(files[dir+"/guard.go"]),
		Seen: Seen(readme), Guards: p.Guards, Files: files, Tests: tests}, nil
}

// readAll reads the files of a pattern.
func readAll(fsys fs.FS, pattern string) (map[string][]byte, error) {
	names, err := fs.Glob(fsys, pattern)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, n := range names {
		if files[n], err = fs.ReadFile(fsys, n); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// seenRow begins the row of a prepatch's README.md that says what happens to
// whoever sent what is rejected.
const seenRow = "| a rejected client sees |"

// Seen returns what a prepatch's README.md says a rejected client sees, as plain
// text; empty when it does not say.
func Seen(readme []byte) string {
	for line := range strings.Lines(string(readme)) {
		if cell, ok := strings.CutPrefix(line, seenRow); ok {
			cell = strings.TrimSuffix(strings.TrimSpace(cell), "|")
			return strings.TrimSpace(strings.ReplaceAll(cell, "`", ""))
		}
	}
	return ""
}

// summary is the first sentence of a package comment, after "Package prepatch".
func summary(src []byte) string {
	f, err := parser.ParseFile(token.NewFileSet(), "", src, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		return ""
	}
	return firstSentence(f.Doc)
}

func firstSentence(doc *ast.CommentGroup) string {
	text := strings.Join(strings.Fields(doc.Text()), " ")
	text = strings.TrimPrefix(text, "Package prepatch ")
	if before, _, ok := strings.Cut(text, ". "); ok {
		return before
	}
	return strings.TrimSuffix(text, ".")
}
