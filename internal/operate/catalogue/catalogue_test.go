package catalogue

import (
	"path"
	"testing"
	"testing/fstest"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
	"github.com/patch-integration-engine/pie/prepatches"
)

func TestEveryFolderIsAPrepatch(t *testing.T) {
	entries, errs := load(prepatches.Files)
	for _, err := range errs {
		t.Error(err)
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
	if _, ok := Lookup("CVE-1999-0001"); ok {
		t.Error("found a prepatch that does not exist")
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
	entries, errs := load(fstest.MapFS{
		"a/cve/guard.go":      {Data: []byte("package prepatch\nfunc (")},
		"b/cve/guard.go":      {Data: good},
		"b/cve/guard_test.go": {Data: []byte("not Go")},
	})
	if len(entries) != 1 || entries[0].Product != "b" || len(errs) != 1 {
		t.Errorf("entries %v, errors %v", entries, errs)
	}
}
