// Package catalogue is the prepatches that pie brings along: the folders
// PRODUCT/CVE below prepatches/, embedded as source; and those of a folder of the
// operator's own (directory.go). A prepatch is known by the
// //pie:id in it, so that its name cannot disagree with what it guards.
//
// Nothing is left out in silence: what cannot be read is a Broken of the Catalogue.
package catalogue

import (
	"bytes"
	"crypto/sha256"
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

// Catalogue is what was found, and what could not be read.
type Catalogue struct {
	Entries []Entry // by product and id
	Broken  []Broken
	own     bool // some are the operator's own
}

// Broken is a prepatch that cannot be used.
type Broken struct {
	Path string `json:"path"` // of its folder or file
	Err  error  `json:"-"`
}

func (b Broken) Error() string { return fmt.Sprintf("%s: %v", b.Path, b.Err) }

// Unwrap returns why it cannot be used.
func (b Broken) Unwrap() error { return b.Err }

// All returns every entry that pie brings along; a test holds that each can be read.
func All() []Entry { return load(prepatches.Files).Entries }

// Lookup returns the entry of that name that pie brings along; case does not matter. It
// reads no other: an entry's folder has its id as its name, in small letters.
func Lookup(id string) (Entry, bool) {
	folders, err := fs.Glob(prepatches.Files, "*/"+strings.ToLower(id))
	if err != nil { // a pattern that is none, and so no id
		return Entry{}, false
	}
	for _, dir := range folders {
		if e, err := readEntry(prepatches.Files, dir); err == nil && strings.EqualFold(e.ID, id) {
			return e, true
		}
	}
	return Entry{}, false
}

// Lookup returns the entry with the given id; case does not matter.
func (c Catalogue) Lookup(id string) (Entry, bool) {
	for _, e := range c.Entries {
		if strings.EqualFold(e.ID, id) {
			return e, true
		}
	}
	return Entry{}, false
}

// Executables are the names of executables that guards of the entries have.
func (c Catalogue) Executables() []string {
	var exes []string
	for _, e := range c.Entries {
		for _, g := range e.Guards {
			if g.Exe != "" {
				exes = append(exes, g.Exe)
			}
		}
	}
	slices.Sort(exes)
	return slices.Compact(exes)
}

// Revision names what the entries hold: it changes with any of their files. It is
// empty for what pie brings along, which its executable names.
func (c Catalogue) Revision() string {
	if !c.own {
		return ""
	}
	h := sha256.New()
	for _, e := range c.Entries {
		for _, name := range slices.Sorted(maps.Keys(e.Files)) {
			fmt.Fprintf(h, "%q %d\n", name, len(e.Files[name]))
			h.Write(e.Files[name])
		}
	}
	return fmt.Sprintf("+%x", h.Sum(nil))
}

func (c *Catalogue) sort() {
	slices.SortFunc(c.Entries, func(a, b Entry) int {
		return strings.Compare(a.Product+"\x00"+a.ID, b.Product+"\x00"+b.ID)
	})
}

// load reads a tree of folders PRODUCT/CVE.
func load(fsys fs.FS) (c Catalogue) {
	guards, err := fs.Glob(fsys, "*/*/guard.go")
	if err != nil {
		c.Broken = append(c.Broken, Broken{"prepatches", err})
	}
	for _, g := range guards {
		dir := path.Dir(g)
		e, err := readEntry(fsys, dir)
		if err != nil {
			c.Broken = append(c.Broken, Broken{dir, err})
			continue
		}
		c.Entries = append(c.Entries, e)
	}
	c.sort()
	return c
}

func readEntry(fsys fs.FS, dir string) (Entry, error) {
	sources, err := readAll(fsys, path.Join(dir, "*.go"))
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
	e, err := makeEntry(fsys, dir, sources)
	e.Tests = tests
	return e, err
}

// makeEntry makes an entry of its sources and of what lies beside them in dir.
func makeEntry(fsys fs.FS, dir string, sources map[string][]byte) (Entry, error) {
	files, err := readAll(fsys, path.Join(dir, "*.pf"))
	if err != nil {
		return Entry{}, err
	}
	p, err := source.ParseFiles(sources)
	if err != nil {
		return Entry{}, err
	}
	for _, g := range p.Guards {
		if g.Fingerprint != "" && files[path.Join(dir, g.Fingerprint)] == nil {
			return Entry{}, fmt.Errorf("%v: the fingerprint %s is not in the folder; docs/pfp.md tells how to make it", g.Pos, g.Fingerprint)
		}
	}
	readme, err := fs.ReadFile(fsys, path.Join(dir, "README.md"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Entry{}, err
	}
	maps.Copy(files, sources)
	return Entry{ID: p.ID, Product: path.Base(path.Dir(dir)), Fixed: p.Fixed, Summary: summary(sources),
		Seen: Seen(readme), Guards: p.Guards, Files: files}, nil
}

// readAll reads the files of a pattern.
func readAll(fsys fs.FS, pattern string) (map[string][]byte, error) {
	names, err := fs.Glob(fsys, pattern)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, n := range names {
		if files[n], err = readBounded(fsys, n); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// maxFile bounds one file of an entry, in bytes.
const maxFile = 16 << 20

func readBounded(fsys fs.FS, name string) ([]byte, error) {
	st, err := fs.Stat(fsys, name)
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxFile) {
		err = fmt.Errorf("%s: not a regular file of at most %d MiB", name, maxFile>>20)
	}
	if err != nil {
		return nil, err
	}
	return fs.ReadFile(fsys, name)
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

// summary is the first sentence of the package comment, after "Package prepatch".
func summary(sources map[string][]byte) string {
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		f, err := parser.ParseFile(token.NewFileSet(), "", sources[name], parser.ParseComments|parser.PackageClauseOnly)
		if err == nil && f.Doc != nil {
			return firstSentence(f.Doc)
		}
	}
	return ""
}

func firstSentence(doc *ast.CommentGroup) string {
	text := strings.Join(strings.Fields(doc.Text()), " ")
	text = strings.TrimPrefix(text, "Package prepatch ")
	if before, _, ok := strings.Cut(text, ". "); ok {
		return before
	}
	return strings.TrimSuffix(text, ".")
}
