package fingerprint

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A function compiled as one side of a fingerprint was is not taken for that side, when
// the other was compiled otherwise.
func TestFixIsNotToldFromTheCompiler(t *testing.T) {
	levels := []string{"-O1", "-O2", "-O3", "-Os"}
	asked := append(slices.Clone(levels), "-O2 -mtune=intel")
	hole, fixed := map[string]*program{}, map[string]*program{}
	for _, l := range asked {
		hole[l], fixed[l] = build(t, strings.Fields(l)...), build(t, strings.Fields(l+" -DFIXED")...)
	}
	told := 0
	for _, a := range levels {
		for _, b := range levels {
			fp := create(t, "parse_line", hole[a].build("parse_line", false), fixed[b].build("parse_line", true))
			for _, l := range asked {
				h, f := hole[l], fixed[l]
				name := fmt.Sprintf("hole at %s, fixed at %s, asked of %s", a, b, l)
				if got := h.Fixed(fp, h.at("parse_line")); got == FixPresent {
					t.Errorf("%s: the hole is called fixed", name)
				}
				got := f.Fixed(fp, f.at("parse_line"))
				if got == FixMissing {
					t.Errorf("%s: the fix is called missing", name)
				}
				if got == FixPresent && l != b {
					told++
				}
			}
		}
	}
	if told == 0 {
		t.Error("the fix was not seen in any build but the reference's own")
	}
}
