package fingerprint

import "slices"

// Slot is where a function lies among the others: the outlines of those right before and
// right after it, which are the same when only the layout of structures changed. A function that a patch changed has the same neighbours as before;
// one into which its code was moved, or that took its name's place, is one more.
type Slot struct {
	// Before and After are the outlines of the nearest functions, nearest first; 0 for
	// one that tells nothing, as it is small or not the only one with its outline.
	Before, After []uint64
}

// slotSize is how many neighbours on either side are known.
const slotSize = 8

// slot returns the neighbours of function i.
func (m *Module) slot(i int) Slot {
	var s Slot
	for k := 1; k <= slotSize; k++ {
		s.Before = append(s.Before, m.landmark(i-k))
		s.After = append(s.After, m.landmark(i+k))
	}
	return s
}

// landmark is the outline of a function when no other function of the module has it, else
// 0.
func (m *Module) landmark(i int) uint64 {
	if i < 0 || i >= len(m.funcs) {
		return 0
	}
	b := m.body(i)
	if b.insns < smallest || !b.whole || m.everything().like[b.outline] != 1 {
		return 0
	}
	return b.outline
}

// slotted tells whether a function lies where the reference's target lay: on either side
// the nearest neighbour known, or most of them, have the outlines that they had, as far
// away as they were. Compilers let functions change places when one of them changes: one
// that was a neighbour is not the target.
func (s *search) slotted(ref *Reference, fn int) bool {
	own := s.m.body(fn).outline
	return !slices.Contains(ref.Slot.Before, own) && !slices.Contains(ref.Slot.After, own) &&
		s.landmarked(ref.Slot.Before, fn, -1) && s.landmarked(ref.Slot.After, fn, 1)
}

func (s *search) landmarked(outlines []uint64, fn, step int) bool {
	known, same, nearest := 0, 0, false
	for _, o := range outlines {
		fn += step
		if o == 0 {
			continue
		}
		if known++; fn >= 0 && fn < len(s.m.funcs) && s.m.body(fn).outline == o {
			same++
			nearest = nearest || known == 1
		}
	}
	return nearest || same > 0 && 2*same > known
}

// slottedAlone tells whether a function lies where the target lay in some build of the
// fingerprint, and none of others does.
func (s *search) slottedAlone(ref *Reference, fn int, others []int) bool {
	return s.slotted(ref, fn) && !slices.ContainsFunc(others, func(o int) bool { return s.slotted(ref, o) })
}

// putTwinFirst moves, of several matches with exactly the reference's code, the one that
// lies where the target lay to the front, when the others do not and it has no less
// evidence.
func (s *search) putTwinFirst(all []match, ref *Reference) {
	for i := range all {
		if !all[i].exact || all[i].score < all[0].score {
			return
		}
		if others := exactOnes(slices.Concat(all[:i], all[i+1:])); s.slottedAlone(ref, all[i].fn, others) {
			all[0], all[i] = all[i], all[0]
			return
		}
	}
}

// exactOnes returns the functions of the matches that have exactly the reference's code.
func exactOnes(all []match) []int {
	var out []int
	for i := range all {
		if all[i].exact {
			out = append(out, all[i].fn)
		}
	}
	return out
}
