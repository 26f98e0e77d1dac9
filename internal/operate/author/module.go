package author

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/patch-integration-engine/pie/libpie"
)

// Go is the version of the language that a prepatch's test is built as; that of
// this module's go.mod, which a test holds.
const Go = "1.26.0"

// modulePath is what a prepatch imports libpie from.
const modulePath = "github.com/patch-integration-engine/pie"

// Package is the folder of a laid out module that has the prepatch.
const Package = "prepatch"

// LayOut writes a module below dir in which go test can run a prepatch: its
// files, by their base names, and the sources of libpie and libpietest that pie
// brings along. Nothing has to be fetched.
func LayOut(dir string, files map[string][]byte) error {
	if err := write(dir, "go.mod", []byte(fmt.Sprintf("module %s\n\ngo %s\n", modulePath, Go))); err != nil {
		return err
	}
	for name, text := range files {
		if err := write(dir, filepath.Join(Package, filepath.Base(name)), text); err != nil {
			return err
		}
	}
	return fs.WalkDir(libpie.Module, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := libpie.Module.ReadFile(name)
		if err != nil {
			return err
		}
		return write(dir, filepath.Join("libpie", filepath.FromSlash(name)), text)
	})
}

func write(dir, name string, text []byte) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
