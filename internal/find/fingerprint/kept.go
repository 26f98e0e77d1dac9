package fingerprint

import "slices"

const (
	// keptShare of what the source says of the target must be there, and what else there
	// is of the kind may be keptMore of that.
	keptShare, keptMore = .75, .25
	// foreignMore is as keptMore, for other compilers, and foreignTexts as much of the
	// texts and imports that both have.
	foreignMore, foreignTexts = 1, .3
)

// kept tells whether a match has what the source says of the target: all of its texts and
// imports and no other, nearly all of its constants, numbers and fields and few others;
// and whether all around it is the reference's. Then what differs is what the compiler
// chose: registers, the order of instructions. A variant of the target that another
// version has beside it, or a part that was split off, differs in something of that.
func (s *search) kept(m *match, ref *Reference) bool {
	t := s.texts(&ref.Target, m.fn)
	said := s.saidOf(m, ref)
	return m.found > 0 && m.missed == 0 && s.called(m, ref) && t.missing+t.extra == 0 &&
		said.has >= keptShare*said.of && said.more <= keptMore*said.has
}

// isWhole tells whether a function that has grown times the instructions of the target is no
// part that was split off from it: that is shorter, as what it begins with stays in its
// callers, and is never exported.
func (s *search) isWhole(fn int, grown float64) bool {
	return grown >= 1 || s.m.leavesWhole() || s.m.exported(fn)
}

// foreign tells whether the module was made from the reference's source by a compiler
// that leaves functions whole, and a match has most of what is around the target and says
// what it says. Another such compiler changes nearly every sequence of operations; it
// does not make parts of functions that could be taken for them, as gcc does when it
// optimizes for speed.
func (s *search) foreign(m *match, ref *Reference) bool {
	if m.found == 0 || m.missed > 2*m.found || !s.called(m, ref) || !s.wholeForeign() {
		return false
	}
	t := s.texts(&ref.Target, m.fn)
	said := s.saidOf(m, ref)
	return t.missing+t.extra <= foreignTexts*t.both && said.more <= foreignMore*said.has
}

// wholeForeign tells whether the module was made from the reference's source, and by a
// compiler that leaves functions whole.
func (s *search) wholeForeign() bool { return s.m.leavesWhole() && s.foreignSource() }

// foreignSource tells whether a build of the fingerprint without the fix is of the source
// that the module was made from by a compiler that has little in common with its own.
func (s *search) foreignSource() bool {
	return slices.ContainsFunc(s.fp.References, func(r Reference) bool { return !r.Fixed && r.Sketch.foreignSource(s.m.sketch()) })
}

// called tells whether a match is called by as many functions as the target at least, one
// of them like one of the reference's; and not called if that is not.
func (s *search) called(m *match, ref *Reference) bool {
	n := len(s.m.callers(m.fn))
	if len(ref.Callers) == 0 {
		return n == 0
	}
	return m.callers > 0 && (n >= len(ref.Callers) || len(ref.Callers) == maxAround)
}

// said is the weight of what the source says of the target, what of it a function has,
// and what else that has of the kind.
type said struct{ of, has, more float64 }

func (s *search) saidOf(m *match, ref *Reference) said {
	var w said
	features := s.m.body(m.fn).features
	for i := range ref.Target.Features {
		f := &ref.Target.Features[i]
		if f.Kind() > KindField {
			break // they are ascending by kind; the rest is the compiler's
		}
		weight := f.weight(f.Share)
		w.of += weight
		if _, ok := slices.BinarySearch(features, f.Feature); ok {
			w.has += weight
		}
	}
	for _, f := range features {
		if f.Kind() > KindField {
			break
		}
		if !ref.Target.contains(f) {
			w.more += weight(f.Kind(), s.common.rate(f).share)
		}
	}
	return w
}
