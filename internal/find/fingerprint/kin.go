package fingerprint

import "slices"

// maxKin is how many functions are known of a reference beside those around the target
// and its look-alikes.
const maxKin = 24

// kin returns functions that could be taken for function i where that is not there, or
// was compiled otherwise: those that are called by what calls it, or call what it calls,
// and then others, in the order of alike, which has those that share something with it.
// known are not taken again.
func (m *Module) kin(i int, alike, known []int) []int {
	siblings := map[int32]bool{}
	gather := func(around []int32, of func(int) []int32) {
		for _, j := range around[:min(len(around), maxNeighbours)] {
			if others := of(int(j)); len(others) <= maxCompared {
				for _, o := range others {
					siblings[o] = true
				}
			}
		}
	}
	gather(m.callers(i), m.callees)
	gather(m.callees(i), m.callers)
	alike = slices.DeleteFunc(alike, func(j int) bool { return slices.Contains(known, j) || m.body(j).insns < smallest })
	isSibling := func(j int) bool { return siblings[int32(j)] }
	out := slices.DeleteFunc(slices.Clone(alike), func(j int) bool { return !isSibling(j) })
	out = append(out, slices.DeleteFunc(alike, isSibling)...)
	return out[:min(len(out), maxKin)]
}

// others are the functions of the reference's build that a match may be instead of the
// target.
func (r *Reference) others() []Sample {
	if len(r.Kin) == 0 {
		return r.Alike
	}
	return slices.Concat(r.Alike, r.Kin)
}

// others is Reference.others, kept: samples are known by where they are.
func (s *search) others(ref *Reference) []Sample {
	out, ok := s.kin[ref]
	if !ok {
		out = ref.others()
		s.kin[ref] = out
	}
	return out
}
