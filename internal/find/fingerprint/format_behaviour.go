package fingerprint

import (
	"encoding/binary"
	"math"

	"github.com/patch-integration-engine/pie/internal/find/behaviour"
)

// The section of a .pf file with what the function does, from version 7 on: a version of its
// own, and then for each build of the file 1 and both manners, or 0.

// behaviourVersion is the version of the section, and of how worlds are made up: what was
// seen in worlds of another cannot be compared.
const behaviourVersion = 1

// maxWorldNumber bounds the numbers that worlds are made up from.
const maxWorldNumber = 1 << 16

func (w *writer) behaviours(refs []Reference) {
	w.number(behaviourVersion)
	for i := range refs {
		b := refs[i].Behaviour
		if b == nil {
			w.number(0)
			continue
		}
		w.number(1)
		for k := range b {
			w.played(&b[k])
		}
	}
}

func (w *writer) played(p *Played) {
	w.number(uint64(math.Round(p.Next * nextSteps)))
	w.number(uint64(len(p.Worlds)))
	for i := range p.Worlds {
		w.number(uint64(p.Worlds[i].Number))
		w.number(uint64(len(p.Worlds[i].Set)))
		for _, s := range p.Worlds[i].Set {
			w.number(uint64(s.Kind))
			w.number(uint64(s.Size))
			w.b = binary.LittleEndian.AppendUint64(w.b, s.Key)
			w.number(s.Value)
		}
		w.number(uint64(len(p.Seen[i])))
		for _, o := range p.Seen[i] {
			w.b = binary.LittleEndian.AppendUint32(w.b, o)
		}
	}
}

func (r *reader) behaviours(refs []Reference) {
	if v := r.number(1 << 16); r.bad == "" && v != behaviourVersion {
		r.fail("behaviour in version %d, and this program reads %d", v, behaviourVersion)
	}
	for i := 0; i < len(refs) && r.bad == ""; i++ {
		if r.number(1) == 0 {
			continue
		}
		var b Behaviour
		for k := range b {
			b[k] = r.played()
		}
		if r.bad == "" && !r.outline {
			refs[i].Behaviour = &b
		}
	}
}

func (r *reader) played() Played {
	p := Played{Next: float64(r.number(nextSteps)) / nextSteps}
	for n := r.number(behaviour.MaxWorlds); n > 0 && r.bad == ""; n-- {
		w := behaviour.World{Number: int(r.number(maxWorldNumber))}
		for k := r.number(behaviour.MaxSettings); k > 0 && r.bad == ""; k-- {
			w.Set = append(w.Set, r.worldSetting())
		}
		p.Worlds = append(p.Worlds, w)
		p.Seen = append(p.Seen, r.seen())
	}
	return p
}

func (r *reader) worldSetting() behaviour.Setting {
	s := behaviour.Setting{Place: behaviour.Place{Kind: behaviour.PlaceKind(r.number(math.MaxUint8)), Size: uint8(r.number(math.MaxUint8))}}
	if b := r.take(8); r.bad == "" {
		s.Key = binary.LittleEndian.Uint64(b)
	}
	s.Value = r.number(math.MaxUint64)
	if r.bad == "" && !s.Valid() {
		r.fail("a place of kind %d with %d bytes", s.Kind, s.Size)
	}
	return s
}

// seen reads what was seen in one world, ascending.
func (r *reader) seen() []uint32 {
	n := int(r.number(behaviour.MaxSeen))
	b := r.take(4 * n)
	if r.bad != "" {
		return nil
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(b[4*i:])
		if i > 0 && out[i] <= out[i-1] {
			r.fail("what was seen is out of order")
			return nil
		}
	}
	return out
}
