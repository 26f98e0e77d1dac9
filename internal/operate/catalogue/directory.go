package catalogue

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/prepatches"
)

// ownProduct is the product of what lies in a folder of the operator's own without
// a folder for its product.
const ownProduct = "own"

// Find returns the entry of that id that With has.
func Find(dir, id string) (Entry, bool) {
	if !isThere(dir) {
		return Lookup(id)
	}
	if e, ok := readDirectory(dir).Lookup(id); ok {
		return e, true
	}
	return Lookup(id)
}

// isThere tells whether a folder of the operator's own is to be read.
func isThere(dir string) bool {
	if dir == "" {
		return false
	}
	_, err := os.Stat(dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// With returns the entries that pie brings along and those of dir, which come
// before others of the same id. In dir a prepatch is a file ID.go, a folder ID
// with Go files, or PRODUCT/CVE/guard.go as in pie's own catalogue. A dir that is not
// there, or is empty, has none.
func With(dir string) Catalogue {
	c := load(prepatches.Files)
	if !isThere(dir) {
		return c
	}
	own := readDirectory(dir)
	c.own = len(own.Entries) > 0
	for _, e := range own.Entries {
		c.Entries = slices.DeleteFunc(c.Entries, func(x Entry) bool { return strings.EqualFold(x.ID, e.ID) })
	}
	c.Entries = append(c.Entries, own.Entries...)
	c.Broken = append(c.Broken, own.Broken...)
	c.sort()
	return c
}

// readDirectory reads an operator's folder. The names of its files begin with dir,
// as an error shows them.
func readDirectory(dir string) Catalogue {
	fsys := os.DirFS(dir)
	c := load(fsys)
	var folders []string
	for _, pattern := range []string{"*.go", "*/*.go"} {
		names, _ := fs.Glob(fsys, pattern) // the pattern is well-formed
		for _, n := range names {
			at := path.Dir(n)
			switch {
			case strings.HasSuffix(n, "_test.go"), slices.Contains(folders, at):
				continue
			case at != ".":
				folders = append(folders, at)
			}
			c.add(fsys, n)
		}
	}
	if _, err := fs.ReadDir(fsys, "."); err != nil {
		c.Broken = append(c.Broken, Broken{".", err})
	}
	for i := range c.Broken {
		c.Broken[i].Path = filepath.Join(dir, c.Broken[i].Path)
	}
	for i, e := range c.Entries {
		files := map[string][]byte{}
		for name, b := range e.Files {
			files[filepath.Join(dir, name)] = b
		}
		c.Entries[i].Files = files
	}
	c.unique()
	return c
}

// add reads the file ID.go, or the folder that a file name lies in.
func (c *Catalogue) add(fsys fs.FS, name string) {
	at, e, err := path.Dir(name), Entry{}, error(nil)
	if at == "." {
		at = name
		var b []byte
		if b, err = readBounded(fsys, name); err == nil {
			e, err = makeEntry(fsys, ".", map[string][]byte{name: b})
		}
		maps.DeleteFunc(e.Files, func(n string, _ []byte) bool { return path.Ext(n) == ".pf" && !e.names(n) })
	} else {
		e, err = readEntry(fsys, at)
	}
	if err != nil {
		c.Broken = append(c.Broken, Broken{at, err})
		return
	}
	e.Product = ownProduct
	c.Entries = append(c.Entries, e)
}

// names tells whether a guard of the entry names a fingerprint.
func (e Entry) names(file string) bool {
	for _, g := range e.Guards {
		if g.Fingerprint == file {
			return true
		}
	}
	return false
}

// errTwice says that two prepatches of a folder have one id.
var errTwice = errors.New("another prepatch of the folder has the same //pie:id")

// unique leaves one of the entries with the same id.
func (c *Catalogue) unique() {
	seen := map[string]bool{}
	c.Entries = slices.DeleteFunc(c.Entries, func(e Entry) bool {
		id := strings.ToUpper(e.ID)
		if seen[id] {
			c.Broken = append(c.Broken, Broken{slices.Min(slices.Collect(maps.Keys(e.Files))), errTwice})
			return true
		}
		seen[id] = true
		return false
	})
}
