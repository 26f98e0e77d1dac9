package fingerprint

import (
	"errors"
	"reflect"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// performing is a build whose functions are executed.
func (p *program) performing(name string) Build {
	b := p.build(name, false)
	b.Behaviour = true
	return b
}

// A function that another level of optimization made different code of is found by what it
// does; and none is where it is taken out.
func TestBehaviourFindsWhatCodeDoesNot(t *testing.T) {
	from, in := build(t, "-O2"), build(t, "-Os")
	more := 0
	for name := range from.names {
		v, ok := in.names[name]
		i := from.Module.at(from.names[name])
		if !ok || i < 0 || from.body(i).insns < autoInsns {
			continue
		}
		plain, acted := create(t, name, from.build(name, false)), create(t, name, from.performing(name))
		f := in.Find(acted)
		if f.Tier >= Confirm && f.At != v {
			t.Errorf("%s: found at %v, and is at %v: %v", name, f.At, v, f.Evidence)
		}
		if f.Tier > in.Find(plain).Tier {
			more++
		}
		if f := in.Search(acted).Without([]address.Vaddr{v}); f.Tier == Auto {
			t.Errorf("%s: taken out, and found at %v: %v", name, f.At, f.Evidence)
		}
	}
	if more == 0 {
		t.Error("no function is found by what it does")
	}
}

func TestFileGivesBackTheBehaviour(t *testing.T) {
	fp := create(t, "parse_line", build(t, "-O2").performing("parse_line"), build(t, "-O1").build("parse_line", false))
	b := fp.Encode()
	if b[len(magic)] != 7 {
		t.Errorf("version %d", b[len(magic)])
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range fp.References {
		if !reflect.DeepEqual(got.References[i].Behaviour, fp.References[i].Behaviour) {
			t.Errorf("build %d is not what it was", i)
		}
	}
	if worlds, seen := got.References[0].Behaviour.Size(); worlds < 8 || seen < playedSeen {
		t.Errorf("%d seen in %d worlds", seen, worlds)
	}
	if o, err := DecodeOutline(b); err != nil || o == nil {
		t.Errorf("its outline: %v", err)
	}
}

// What a fingerprint says of worlds may be made to hurt: it is refused.
func TestDamagedBehaviourIsRefused(t *testing.T) {
	p := build(t, "-O2")
	for name, change := range map[string]func(*Played){
		"a place of no kind":  func(p *Played) { p.Worlds[len(p.Worlds)-1].Set[0].Kind = 0 },
		"a place of 9 bytes":  func(p *Played) { p.Worlds[len(p.Worlds)-1].Set[0].Size = 9 },
		"out of order":        func(p *Played) { p.Seen[0][0], p.Seen[0][1] = p.Seen[0][1], p.Seen[0][0] },
		"too many worlds":     func(p *Played) { p.Worlds, p.Seen = append(p.Worlds, p.Worlds...), append(p.Seen, p.Seen...) },
		"a world without end": func(p *Played) { p.Worlds[0].Number = 1 << 20 },
	} {
		fp := create(t, "parse_line", p.performing("parse_line"))
		change(&fp.References[0].Behaviour[0])
		var damaged *DamagedError
		if _, err := Decode(fp.Encode()); !errors.As(err, &damaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
