package e2e

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/operate/catalogue"
)

// Every prepatch of the catalogue stands in front of its real program under load, and
// is attacked there: those of scenarios, and poppler's (TestPoppler).
func TestEveryPrepatchIsAttacked(t *testing.T) {
	attacked := map[string]bool{"CVE-2025-50420": true}
	for _, sc := range scenarios {
		for _, th := range sc.threats {
			if th.given == "" {
				attacked[th.prepatch] = true
			}
		}
	}
	all := catalogue.All()
	for _, e := range all {
		if !attacked[e.ID] {
			t.Errorf("no test attacks %s", e.ID)
		}
	}
	if len(all) < 15 {
		t.Errorf("%d prepatches", len(all))
	}
}
