package fingerprint

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// A function that a patch changed lies among the same neighbours, one that took the code
// of another does not.
func TestPatchedFunctionIsInItsPlace(t *testing.T) {
	talks := func(more ...string) *program { return build(t, append([]string{"-O2", "-DTALKS"}, more...)...) }
	ref, mended, fixed, split := talks(), talks("-DMENDED"), talks("-DFIXED"), talks("-DSPLIT")
	for _, c := range []struct {
		from, in *program
		at       string
		want     bool
	}{
		{ref, mended, "parse_line", true},
		{mended, ref, "parse_line", true},
		{ref, mended, "parse_price", false},
		{ref, fixed, "parse_price", false}, // gcc lets the two change places
		{ref, split, "parse_inner", false},
	} {
		fp := create(t, "parse_line", c.from.build("parse_line", false))
		s := c.in.Search(fp)
		if f := s.Find(); f.Tier == Auto && f.At != c.in.at("parse_line") {
			t.Errorf("%s: AUTO at %v: %v", c.at, f.At, f.Evidence)
		}
		if !s.nearSource() {
			t.Errorf("%s: not taken for the same source", c.at)
		}
		if got := s.slotted(&fp.References[0], c.in.Module.at(c.in.at(c.at))); got != c.want {
			t.Errorf("%s in the place of parse_line: %v", c.at, got)
		}
		if f := s.Without([]address.Vaddr{c.in.at("parse_line")}); f.Tier > Hint && c.in != split {
			t.Errorf("taken out: %v at %v: %v", f.Tier, f.At, f.Evidence)
		}
	}
}

// Of functions with one code the one between the same neighbours may be meant.
func TestTwinIsToldByItsPlace(t *testing.T) {
	flags := []string{"-O2", "-DTALKS", "-fno-ipa-icf"}
	ref, other := build(t, flags...), build(t, append(flags, "-DFIXED")...)
	fp := create(t, "twin_a", ref.build("twin_a", false))
	f := other.Find(fp)
	if f.Tier == Auto || f.Tier == Confirm && f.At != other.at("twin_a") {
		t.Errorf("got %v at %v, want at most CONFIRM at %v: %v", f.Tier, f.At, other.at("twin_a"), f.Why)
	}
	if f := other.Search(fp).Without([]address.Vaddr{other.at("twin_a")}); f.Tier > Hint {
		t.Errorf("taken out: %v at %v", f.Tier, f.At)
	}
}
