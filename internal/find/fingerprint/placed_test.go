package fingerprint

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// wholeBuild is build, carried whole.
func (p *program) wholeBuild(name string) Build {
	b := p.build(name, false)
	b.Whole = true
	return b
}

// The calls of the whole program tell functions with one code apart, and the one that is
// left is not taken for the one that is gone.
func TestWholeTellsTwinsByTheirCallers(t *testing.T) {
	told := []string{"-O2", "-fno-ipa-icf", "-DTOLD"}
	ref, p := build(t, told...), build(t, append(told, "-DMENDED", "-no-pie")...)
	for _, name := range []string{"twin_a", "twin_b"} {
		fp := create(t, name, ref.wholeBuild(name))
		f := p.Find(fp)
		if f.Tier != Auto || f.At != p.at(name) {
			t.Errorf("%s, which is at %v: got %v at %v: %v", name, p.at(name), f.Tier, f.At, f.Why)
		}
		if !slices.ContainsFunc(f.Evidence, func(s string) bool { return strings.Contains(s, "calls of the whole program") }) {
			t.Errorf("the evidence does not tell of it: %v", f.Evidence)
		}
		if f := p.Search(fp).Without([]address.Vaddr{p.at(name)}); f.Tier > Hint {
			t.Errorf("%s taken out: %v at %v: %v", name, f.Tier, f.At, f.Why)
		}
	}
}

// Where nothing but the target is gone, its twin is not taken for it: neither where the
// program never had it.
func TestWholeWithoutTheFunction(t *testing.T) {
	ref, gone := build(t, "-O2"), build(t, "-O2", "-DGONE")
	if f := gone.Find(create(t, "parse_line", ref.wholeBuild("parse_line"))); f.Tier > Hint {
		t.Errorf("got %v at %v, and it is not there: %v", f.Tier, f.At, f.Evidence)
	}
}

func TestWholeInAFile(t *testing.T) {
	p := build(t, "-O2")
	plain := create(t, "parse_line", p.build("parse_line", false)).Encode()
	if plain[len(magic)] != 4 {
		t.Errorf("version %d where no build is there whole: older programs cannot read it", plain[len(magic)])
	}
	fp := create(t, "parse_line", p.wholeBuild("parse_line"), build(t, "-O1").build("parse_line", false))
	got, err := Decode(fp.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if w, want := got.References[0].Whole, fp.References[0].Whole; !reflect.DeepEqual(w, want) || got.References[0].Node != fp.References[0].Node {
		t.Errorf("read %+v\nwritten %+v", w, want)
	}
	if got.References[1].Whole != nil {
		t.Error("a build that is not there whole was read whole")
	}
}

// What contradicts itself is refused, and nothing is allocated by what a number says.
func TestDamagedWholeIsRefused(t *testing.T) {
	p := build(t, "-O2")
	fp := create(t, "parse_line", p.wholeBuild("parse_line"))
	plain := len(content(create(t, "parse_line", p.build("parse_line", false))))
	good := content(fp)
	read := func(b []byte) error {
		r := &reader{b: b, version: 6}
		r.fingerprint()
		if r.bad == "" {
			return nil
		}
		return errors.New(r.bad)
	}
	if err := read(good); err != nil {
		t.Fatal(err)
	}
	for name, section := range map[string][]byte{
		"none":               {},
		"another version":    {2, 0},
		"more than there is": {1, 0xff, 0xff, 0x0f},
		"too many":           {1, 0xff, 0xff, 0xff, 0x7f},
		"a hash cut off":     {1, 1, 20, 1, 7},
		"a call of nothing":  {1, 1, 20, 0, 0, 0, 1, 1, 0},
		"too many calls":     {1, 1, 20, 0, 0, 0, 2, 0, 0, 0},
		"another function":   {1, 1, 20, 0, 0, 0, 0, 0},
		"no such function":   {1, 1, 20, 0, 0, 0, 0, 1},
	} {
		if err := read(append(slices.Clone(good[:plain]), section...)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for i := plain; i < len(good); i++ {
		if err := read(good[:i]); err == nil {
			t.Fatalf("cut off after %d: no error", i)
		}
	}
}
