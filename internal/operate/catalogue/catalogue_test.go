package catalogue

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/prepatches"
)

func TestEveryFolderIsAPrepatch(t *testing.T) {
	c := load(prepatches.Files)
	entries := c.Entries
	for _, b := range c.Broken {
		t.Error(b)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if e.ID == "" || e.Summary == "" || len(e.Guards) == 0 {
			t.Errorf("%s: no id, no package comment or no guard: %+v", e.Product, e)
		}
		if e.Seen == "" {
			t.Errorf("%s: README.md does not say what a rejected client sees", e.ID)
		}
		if seen[e.ID] {
			t.Errorf("two prepatches have the id %s", e.ID)
		}
		seen[e.ID] = true
		if found, ok := Lookup(e.ID); !ok || !reflect.DeepEqual(found, e) {
			t.Errorf("%s is not found by its name; its folder is to be called that, in small letters", e.ID)
		}
	}
	if len(entries) == 0 {
		t.Fatal("the catalogue is empty")
	}
}

func TestLookup(t *testing.T) {
	e, ok := Lookup("cve-2024-53580")
	if !ok || e.ID != "CVE-2024-53580" || e.Product != "iperf3" {
		t.Errorf("Lookup(cve-2024-53580) = %+v, %v", e, ok)
	}
	for _, id := range []string{"CVE-1999-0001", "", "*", "cve-*", "[", "../redis/cve-2024-31228"} {
		if e, ok := Lookup(id); ok {
			t.Errorf("Lookup(%q) found %s", id, e.ID)
		}
	}
}

func TestSeen(t *testing.T) {
	for _, tt := range []struct{ readme, want string }{
		{"| where | `f` |\n| a rejected client sees | `-ERR syntax`, as from the fixed server |\n", "-ERR syntax, as from the fixed server"},
		{"| a rejected client sees |", ""},
		{"# a page without the table\n", ""},
		{"", ""},
	} {
		if got := Seen([]byte(tt.readme)); got != tt.want {
			t.Errorf("Seen(%q) = %q, want %q", tt.readme, got, tt.want)
		}
	}
}

// Every fingerprint that a guard names is embedded and readable, and knows the fix.
func TestFingerprints(t *testing.T) {
	n := 0
	for _, e := range All() {
		p, err := pie.Load(e.Files)
		if err != nil {
			t.Errorf("%s: %v", e.ID, err)
			continue
		}
		if missing := p.FingerprintFiles(); len(missing) > 0 {
			t.Errorf("%s: no %v", e.ID, missing)
		}
		for name, data := range e.Files {
			if path.Ext(name) != ".pf" {
				continue
			}
			n++
			if fp, err := fingerprint.Decode(data); err != nil || !fp.KnowsFix() {
				t.Errorf("%s: %v, or no build with the fix", name, err)
			}
		}
	}
	if n == 0 {
		t.Error("the catalogue has no fingerprint")
	}
}

// A broken folder is named and hides no other.
func TestBrokenFolder(t *testing.T) {
	good, err := prepatches.Files.ReadFile("iperf3/cve-2024-53580/guard.go")
	if err != nil {
		t.Fatal(err)
	}
	c := load(fstest.MapFS{
		"a/cve/guard.go":      {Data: []byte("package prepatch\nfunc (")},
		"b/cve/guard.go":      {Data: good},
		"b/cve/guard_test.go": {Data: []byte("not Go")},
	})
	if len(c.Entries) != 1 || c.Entries[0].Product != "b" || len(c.Broken) != 1 || c.Broken[0].Path != "a/cve" {
		t.Errorf("entries %v, broken %v", c.Entries, c.Broken)
	}
}

// A folder of the operator's own holds prepatches in three forms, which come before
// pie's own; what cannot be read is named.
func TestWith(t *testing.T) {
	dir := t.TempDir()
	good := func(id string) string {
		return "// Package prepatch is " + id + ". More.\npackage prepatch\n\nimport \"github.com/patch-integration-engine/pie/libpie\"\n\n//pie:id " + id +
			"\n\n//pie:guard exe=x func=f onfault=pass onfuel=pass\nfunc F(_ *libpie.Call, n int32) libpie.Verdict { return libpie.Pass() }\n"
	}
	for name, text := range map[string]string{
		"OWN-1.go": good("OWN-1"), "OWN-2/a.go": good("OWN-2"), "OWN-2/a_test.go": "not Go", "product/cve/guard.go": good("CVE-2024-53580"),
		"README.md": "nothing", "BAD-1.go": "package prepatch\nfunc (", "BAD-2/guard.go": "//pie:id", "product/bad/guard.go": "", "OWN-1-again.go": good("own-1"),
		"NO-PF.go": strings.Replace(good("NO-PF"), "func=f", "func=f fingerprint=absent.pf", 1),
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "FOLDER-1.go"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := With(dir)
	if e, ok := c.Lookup("CVE-2024-53580"); !ok || e.Product != "product" {
		t.Errorf("the operator's own does not come first: %+v", e)
	}
	for _, id := range []string{"OWN-1", "OWN-2", "CVE-2024-31228"} {
		if e, ok := c.Lookup(id); !ok {
			t.Errorf("no %s", id)
		} else if _, err := pie.Load(e.Files); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	var broken []string
	for _, b := range c.Broken {
		rel, _ := filepath.Rel(dir, b.Path)
		if broken = append(broken, rel); b.Err == nil {
			t.Errorf("%s: no reason", rel)
		}
	}
	slices.Sort(broken)
	if want := []string{"BAD-1.go", "BAD-2", "FOLDER-1.go", "NO-PF.go", "OWN-1.go", "product/bad"}; !slices.Equal(broken, want) {
		t.Errorf("broken: %q, want %q", broken, want)
	}
	if c := With(filepath.Join(dir, "none")); len(c.Broken) > 0 || len(c.Entries) != len(All()) {
		t.Errorf("a folder that is not there: %v", c.Broken)
	}
	if c := With(filepath.Join(dir, "README.md")); len(c.Broken) != 1 {
		t.Errorf("a file instead of a folder: %v", c.Broken)
	}
}
