package fingerprint

import "cmp"

// A look-alike of the reference claims a function when it is like it nearly as much as
// the target is: claimShare of the score less, or claimLeast nats.
const (
	claimShare = .4
	claimLeast = 15
)

// claimed refuses to take a function unasked that may be one of the reference's
// look-alikes: one that is like it, and nowhere in the module finds a function that it
// fits better. When the target is absent its sibling is found, which has changed as
// much as the target would have: then the sibling has no other place. When the target is
// there, the sibling is there too, in a place of its own.
func (s *search) claimed(v *verdict, ref *Reference) {
	if v.tier < Auto {
		return
	}
	own := s.against(&ref.Target, v.top.fn)
	others := ref.Alike
	if v.top.similarity < autoSimilar {
		others = s.others(ref) // code less alike can be that of any of them
	}
	for i := range others {
		o := &others[i]
		if own-s.against(o, v.top.fn) >= max(claimLeast, claimShare*own) || s.hasExactly(o) && !s.isCode(v.top.fn, o) || s.placedElsewhere(o, v.top.fn) {
			continue
		}
		if !s.placed(o, v.top.fn) {
			v.lower(Confirm, "it may be "+cmp.Or(o.Name, "another function of the reference")+", which is like the reference and not found elsewhere")
			return
		}
	}
}

func (s *search) isCode(fn int, o *Sample) bool { return s.m.body(fn).exact == o.Exact }

// placed tells whether a sample fits some function of the module better than it fits
// fn.
func (s *search) placed(o *Sample, fn int) bool {
	at := s.plain(o, fn)
	p := &search{refs: []Reference{{Target: *o}}, m: s.m, common: s.common, absent: s.absent}
	t := p.terms()
	found := false
	p.sums(t, p.candidates(), func(c int32, sums []sum) {
		if !found && int(c) != fn {
			found = t.targets[0].lacking+p.rated(c).lacking+sums[0].gain > at
		}
	})
	return found
}
