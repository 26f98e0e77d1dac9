package fingerprint

import "slices"

// arguments tells which argument registers a function's own
// instructions read before they write them. What a compiler made of a function by
// dropping or fixing an argument (.isra, .constprop) reads fewer, and a guard would
// look at the wrong ones.
func (m *Module) arguments(i int) Feature { return m.image.machine.arguments(m, i) }

// readsEnough tells whether a function that reads the arguments of a feature can
// be the target by them: it reads at least those that some build of the target
// does. A fingerprint that was made without tells nothing.
func (s *Sample) readsEnough(arguments Feature) bool {
	known := false
	for i := len(s.Features) - 1; i >= 0 && s.Features[i].Kind() == KindArguments; i-- {
		known = true
		if s.Features[i].hash()&^arguments.hash() == 0 {
			return true
		}
	}
	return !known
}

// reads tells whether some build of the target reads exactly the arguments of a
// feature.
func (s *Sample) reads(arguments Feature) bool {
	return slices.ContainsFunc(s.Features, func(f Rated) bool { return f.Feature == arguments })
}
