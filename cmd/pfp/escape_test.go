package main

import (
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/find/fingerprint"
)

// What a terminal would obey is written as Go would, once: a name has one reading.
func TestNamesAreEscapedOnce(t *testing.T) {
	var out strings.Builder
	if err := printDiff(&out, fingerprint.Difference{}, []change{{What: "changed", Names: []string{"red\x1b[31m"}, Words: []string{"+ \a"}}}, false); err != nil {
		t.Fatal(err)
	}
	file := &mappedFile{Path: "/srv/\x1b", Found: []answer{{Function: "f\n", Address: "0x1", Tier: "auto"}}}
	if err := printIndex(&out, []*mappedFile{file}, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`red\x1b[31m`, `+ \a`, `/srv/\x1b`, `f\n at`} {
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), strings.ReplaceAll(want, `\`, `\\`)) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}
