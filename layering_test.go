package pie_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/patch-integration-engine/pie"

// mayImport is the layering of DESIGN's flow: what each package may import of
// this module, besides packages below its own folder. A folder stands for all
// packages below it. Arrows run one way.
var mayImport = map[string][]string{
	"libpie":              {},
	"internal/address":    {},
	"internal/term":       {},
	"internal/startup":    {},
	"internal/manual":     {},
	"internal/proc":       {"internal/address"},
	"internal/isa":        {"internal/address"},
	"internal/guard":      {"internal/address", "internal/isa", "libpie"},
	"internal/find":       {"internal/address", "internal/isa", "internal/guard", "internal/proc"},
	"internal/live":       {"internal/address", "internal/isa", "internal/guard", "internal/find", "internal/proc"},
	".":                   {"internal/address", "internal/isa", "internal/guard", "internal/find", "internal/live", "internal/proc"},
	"prepatches":          {"libpie"},
	"internal/operate":    {".", "internal/address", "internal/guard/source", "internal/find/binfile", "internal/find/debuginfo", "internal/proc", "internal/term", "libpie", "prepatches"},
	"cmd":                 {".", "internal/address", "internal/guard/oneline", "internal/find", "internal/manual", "internal/operate", "internal/proc", "internal/startup", "internal/term", "libpie"},
	"test":                {".", "internal", "libpie"},
	"bench":               {".", "internal", "libpie"},
	"packaging":           {".", "internal", "libpie"},
	"internal/live/plan":  {"internal/address", "internal/isa", "internal/guard", "internal/find/locate", "internal/live/arena"},
	"internal/live/arena": {"internal/address", "internal/guard/bpf", "internal/guard/jit", "internal/isa"},
}

// pure packages never import os or syscall: what they do depends on their
// arguments alone.
var pure = []string{"internal/guard", "internal/isa", "internal/live/plan", "internal/live/arena", "internal/address"}

func TestLayering(t *testing.T) {
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || (strings.HasPrefix(d.Name(), ".") && p != ".")) {
			return fs.SkipDir
		}
		if strings.HasSuffix(p, ".go") && !strings.HasSuffix(p, "_test.go") {
			checkImports(t, p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImports(t *testing.T, file string) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Errorf("%s: %v", file, err)
		return
	}
	dir := filepath.ToSlash(filepath.Dir(file))
	layer := layerOf(dir)
	if layer == "" {
		t.Errorf("%s: package %s is in no layer; add it to mayImport", file, dir)
		return
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if !allowed(dir, layer, imported) {
			t.Errorf("%s imports %s, which %s may not", file, imported, layer)
		}
	}
}

// layerOf is the longest row of the table that holds dir.
func layerOf(dir string) string {
	for d := dir; ; d = path.Dir(d) {
		if _, ok := mayImport[d]; ok && (d != "." || dir == ".") {
			return d
		}
		if d == "." {
			return ""
		}
	}
}

func allowed(dir, layer, imported string) bool {
	if imported == "os" || imported == "syscall" || imported == "golang.org/x/sys/unix" {
		return !slices.ContainsFunc(pure, func(p string) bool { return within(dir, p) })
	}
	rel, ours := strings.CutPrefix(imported, module)
	if !ours {
		return true
	}
	if rel = strings.TrimPrefix(rel, "/"); rel == "" {
		rel = "."
	}
	if within(rel, layer) && layer != "." {
		return true
	}
	return slices.ContainsFunc(mayImport[layer], func(p string) bool { return p == rel || (p != "." && within(rel, p)) })
}

func within(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

// A newcomer finds every package in docs/architecture.md, and every file of package pie
// in its comment.
func TestMapsAreWhole(t *testing.T) {
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, places, _ := strings.Cut(string(doc), "## Where a line belongs")
	places, _, _ = strings.Cut(places, "\n## ")
	folders, err := filepath.Glob("internal/*/*")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("[a-z]*/*") // cmd/pie, test/e2e …
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(folders, more...) {
		files, _ := filepath.Glob(dir + "/*.go")
		name := filepath.Base(dir)
		if len(files) > 0 && name != "testdata" && !strings.HasPrefix(dir, "prepatches/") && !strings.HasPrefix(dir, "bench/") && !strings.Contains(places, name) {
			t.Errorf("docs/architecture.md does not say what belongs into %s", dir)
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), "pie.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") && !strings.Contains(f.Doc.Text(), file) {
			t.Errorf("the comment of package pie does not say what belongs into %s", file)
		}
	}
}
