package fingerprint

import (
	"slices"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// What is called by the target's callers could be found in its stead, and is known.
func TestKinHasWhatSharesACaller(t *testing.T) {
	p := build(t, "-O2", "-DTALKS")
	r := create(t, "parse_line", p.build("parse_line", false)).References[0]
	i := p.Module.at(p.at("parse_line"))
	known := slices.Concat(r.others(), r.Callers, r.Callees)
	for _, c := range p.callers(i) {
		for _, j := range p.callees(int(c)) {
			b := p.body(int(j))
			if int(j) == i || b.insns < smallest {
				continue
			}
			if !slices.ContainsFunc(known, func(s Sample) bool { return s.Exact == b.exact }) {
				t.Errorf("the function at %v, which a caller of the target calls, is not known", p.funcs[j].at)
			}
		}
	}
	if len(r.Kin) > maxKin {
		t.Errorf("%d kin", len(r.Kin))
	}
}

// In one source, compiled by levels that leave functions whole, less is enough to be sure;
// what another function is sure of is still never taken.
func TestOtherLevelOfOneSource(t *testing.T) {
	flags := func(level string) []string { return []string{level, "-DTALKS"} }
	refs := []*program{build(t, flags("-O2")...), build(t, flags("-O3")...)}
	right := 0
	for _, level := range []string{"-Os", "-O1"} {
		p := build(t, flags(level)...)
		for name, at := range refs[0].names {
			if refs[1].names[name] == 0 || p.names[name] == 0 {
				continue
			}
			fp, err := Create(name, []Build{refs[0].build(name, false), refs[1].build(name, false)})
			if err != nil {
				continue // too small, or no function of the module's own
			}
			s := p.Search(fp)
			switch f := s.Find(); {
			case f.Tier == Auto && f.At != p.at(name):
				t.Errorf("%s: %s (at %v): AUTO at %v, want %v: %v", level, name, at, f.At, p.at(name), f.Evidence)
			case f.Tier >= Confirm && f.At == p.at(name):
				right++
			}
			if f := s.Without([]address.Vaddr{p.at(name)}); f.Tier == Auto {
				t.Errorf("%s: %s taken out: AUTO at %v: %v", level, name, f.At, f.Evidence)
			}
		}
	}
	if right == 0 {
		t.Error("nothing was found")
	}
}
