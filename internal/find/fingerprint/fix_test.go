package fingerprint

import (
	"fmt"
	"math/rand/v2"
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
				if got := h.Fixed(fp.Outline(), h.at("parse_line")); got == FixPresent {
					t.Errorf("%s: the hole is called fixed", name)
				}
				got := f.Fixed(fp.Outline(), f.at("parse_line"))
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

// TestOutlineTellsWhatTheWholeTells: of every build the same about the fix, and of a
// damaged file the same complaint, from an outline and from the whole.
func TestOutlineTellsWhatTheWholeTells(t *testing.T) {
	hole, fixed := build(t, "-O2"), build(t, "-O2", "-DFIXED")
	file := create(t, "parse_line", hole.build("parse_line", false), fixed.build("parse_line", true)).Encode()
	whole, err := Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	outline, err := DecodeOutline(file)
	if err != nil || !outline.KnowsFix() {
		t.Fatalf("%v; it knows the fix: %v", err, outline.KnowsFix())
	}
	for _, r := range outline.fp.References {
		all := 0
		r.samples(func(s *Sample) { all += len(s.Features) + len(s.Context) })
		if n := len(r.Target.Features); n == 0 || all > n {
			t.Errorf("of %s it keeps %d features of the target, of %d", r.Label, n, all)
		}
	}
	for _, flags := range []string{"-O1", "-O2", "-O3", "-Os", "-O2 -DFIXED", "-O1 -DFIXED"} {
		p := build(t, strings.Fields(flags)...)
		if a, b := p.Fixed(whole.Outline(), p.at("parse_line")), p.Fixed(outline, p.at("parse_line")); a != b {
			t.Errorf("%s: the whole says %v, its outline %v", flags, a, b)
		}
	}
	body := content(whole)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		bad := slices.Clone(body)
		bad[random.IntN(len(bad))] = byte(random.Uint32())
		bad = bad[:len(bad)-random.IntN(2)*random.IntN(len(bad))]
		a, b := &reader{b: bad, version: 4}, &reader{b: bad, version: 4, outline: true}
		if a.fingerprint(); b.fingerprint() == nil || a.bad != b.bad || len(a.b) != len(b.b) {
			t.Fatalf("the whole is refused with %q and %d bytes over, its outline with %q and %d", a.bad, len(a.b), b.bad, len(b.b))
		}
	}
}
