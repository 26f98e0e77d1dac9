package fingerprint

import (
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

func registry(t *testing.T, flags ...string) *program {
	t.Helper()
	return compiled(t, "testdata/registry.c", append(flags, "-fno-ipa-icf")...)
}

// The row of a table says which function is which, where the code does not.
func TestRowOfATableTells(t *testing.T) {
	ref := registry(t, "-O2")
	names := []string{"do_open", "do_close", "do_read", "do_write", "do_seek"}
	for _, flags := range [][]string{{"-O3"}, {"-O1"}, {"-O1", "-no-pie"}} {
		p := registry(t, flags...)
		for _, name := range names {
			fp, err := Decode(create(t, name, ref.build(name, false)).Encode())
			if err != nil {
				t.Fatal(err)
			}
			f := p.Find(fp)
			if f.Tier != Auto || f.At != p.at(name) {
				t.Errorf("%v: %s, which is at %v: %v at %v: %v", flags, name, p.at(name), f.Tier, f.At, f.Why)
				continue
			}
			if !slices.ContainsFunc(f.Evidence, func(s string) bool { return strings.Contains(s, "address is kept") }) && !f.Exact {
				t.Errorf("%v: %s: the evidence does not tell of the table: %v", flags, name, f.Evidence)
			}
			if f := p.Search(fp).Without([]address.Vaddr{p.at(name)}); f.Tier >= Confirm {
				t.Errorf("%v: %s taken out: %v at %v", flags, name, f.Tier, f.At)
			}
		}
	}
	gone := registry(t, "-O1", "-DGONE")
	if f := gone.Find(create(t, "do_write", ref.build("do_write", false))); f.Tier >= Confirm {
		t.Errorf("do_write, which is not there: %v at %v: %v", f.Tier, f.At, f.Evidence)
	}
}

// A text is the row's own only where the first row and the last have one there.
func TestTextOfTheNextRowIsNotTheRows(t *testing.T) {
	p := registry(t, "-O2")
	for _, name := range []string{"do_open", "do_close", "do_read", "do_write", "do_seek"} {
		rows := slices.DeleteFunc(p.pointersTo(p.Module.at(p.at(name))), func(f Feature) bool { return f.Kind() != KindRow })
		want := pointerFeature(KindRow, hashBytes([]byte(name[len("do_"):])), -word)
		if !slices.Equal(rows, []Feature{want}) {
			t.Errorf("%s: rows %v, not %v", name, rows, want)
		}
	}
}

// Of functions with one code that nothing calls, the one between the same others is most
// likely the one. It is for a person to take: a patch that moves one of them leaves no trace.
func TestTwinsAreToldByTheirOrder(t *testing.T) {
	ref, p := registry(t, "-O2"), registry(t, "-O2", "-DPATCHED")
	for _, name := range []string{"twin_one", "twin_two", "twin_three"} {
		fp := create(t, name, ref.wholeBuild(name))
		if f := p.Find(fp); f.Tier != Confirm || f.At != p.at(name) {
			t.Errorf("%s, which is at %v: %v at %v: %v", name, p.at(name), f.Tier, f.At, f.Why)
		}
		if f := p.Search(fp).Without([]address.Vaddr{p.at(name)}); f.Tier > Hint {
			t.Errorf("%s taken out: %v at %v: %v", name, f.Tier, f.At, f.Why)
		}
		if f := p.Find(create(t, name, ref.build(name, false))); f.Tier >= Confirm && f.At != p.at(name) {
			t.Errorf("%s without the build whole: %v at %v: %v", name, f.Tier, f.At, f.Evidence)
		}
	}
}
