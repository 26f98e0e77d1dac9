package fingerprint

import (
	"fmt"
	"slices"
)

// What a fingerprint that carries a build whole adds: where the functions are that the
// target could be taken for. One that has a counterpart of its own, by the calls of the
// whole program, is neither the target nor what the target would be taken for: it is no
// rival, and all others are rivals as before. One threshold is lower with it: less alike
// may be what calls lead to from all sides (ledTo).

// pairings returns, by build of the fingerprint, which of its functions are which of the
// module's; nil for a build that is not there whole.
func (s *search) pairings() []*pairing {
	if s.pairs != nil || !s.fp.carriesWhole() {
		return s.pairs
	}
	own, err := s.m.Whole()
	if err != nil {
		return nil // larger than a build that is carried
	}
	var gone []int32
	for _, v := range s.absent {
		if i := s.m.at(v); i >= 0 {
			gone = append(gone, int32(i))
		}
	}
	s.pairs = make([]*pairing, len(s.fp.References))
	for r := range s.fp.References {
		if w := s.fp.References[r].Whole; w != nil {
			s.pairs[r] = s.m.paired(w, own, gone)
		}
	}
	return s.pairs
}

// paired is pair, kept where nothing is taken away: several fingerprints have one build.
func (m *Module) paired(w, own *Whole, gone []int32) *pairing {
	if len(gone) > 0 {
		return pair(w, own, gone)
	}
	if m.lastPairing == nil || m.lastPairing.a != w {
		m.lastPairing = pair(w, own, nil)
	}
	return m.lastPairing
}

// taken tells whether a function is another one than the target in some build, and the target
// in none.
func (s *search) taken(fn int) bool {
	other := false
	for r, p := range s.pairings() {
		if p == nil {
			continue
		}
		node := int32(s.fp.References[r].Node)
		if p.from[fn] == node || s.isRanked(p, node, fn) {
			return false
		}
		i := p.rankedBy[fn]
		other = other || p.from[fn] >= 0 && s.sure(p, p.from[fn]) || i >= 0 && s.isRanked(p, i, fn)
	}
	return other
}

// placedElsewhere tells whether a function of the reference's build is elsewhere than at fn.
func (s *search) placedElsewhere(o *Sample, fn int) bool {
	for r, p := range s.pairings() {
		if p == nil || o.Exact == 0 {
			continue
		}
		all := p.code[low(o.Exact)]
		if len(all) == 1 && int(p.a.nodes[all[0]].insns) == o.Insns && s.sure(p, all[0]) && p.to[all[0]] != int32(fn) {
			return true
		}
		if node := int32(s.fp.References[r].Node); len(all) > 1 && s.twinsElsewhere(p, all, node, fn) {
			return true
		}
	}
	return false
}

// twinsElsewhere tells whether all functions with one code, but the target, lie elsewhere than fn.
func (s *search) twinsElsewhere(p *pairing, twins []int32, node int32, fn int) bool {
	return !slices.ContainsFunc(twins, func(i int32) bool { return i != node && !s.isElsewhere(p, i, fn) })
}

// sure tells whether a function of the reference's build has the counterpart that it has
// beyond doubt. In the same source, or a patch from it, code that is there once is where it
// was; in another version a sibling can have come to it.
func (s *search) sure(p *pairing, i int32) bool {
	return p.firm[i] || p.single[i] && s.nearSource()
}

// led is where the calls of the whole program lead from the target.
type led struct {
	at    int // the counterpart, or -1
	firm  bool
	agree agreed // with fn
}

// leads tells what the build of a reference says of the target and fn; ok is false where
// it is not there whole.
func (s *search) leads(ref, fn int) (l led, ok bool) {
	all := s.pairings()
	if ref >= len(all) || all[ref] == nil {
		return led{at: -1}, false
	}
	p, node := all[ref], int32(s.fp.References[ref].Node)
	l = led{at: int(p.to[node]), agree: p.agree(node, int32(fn))}
	l.firm = l.at >= 0 && p.firm[node]
	return l, true
}

// elsewhere caps the tier where the calls of the whole program lead to another function, or lead
// from this one to another of the reference's.
func (s *search) elsewhere(v *verdict) {
	if s.taken(v.top.fn) {
		v.lower(Hint, "by the calls of the whole program it is another function of the reference's build")
		return
	}
	l, ok := s.leads(v.top.ref, v.top.fn)
	switch {
	case !ok:
	case l.firm && l.at != v.top.fn:
		v.lower(Hint, "by the calls of the whole program the reference is another function")
	case l.agree.callers.against() > 0 && 2*l.agree.callers.against() > l.agree.callers.hits:
		v.lower(Confirm, "functions that have a counterpart call one of the two and not the other")
	}
}

// ledTo tells whether the calls of the whole program lead to a match from all sides: what
// calls the target has counterparts that call the match, nothing else does, and what they
// call agrees. What nothing calls must be exported, and then margin be as large as where a
// patch changed a function.
func (s *search) ledTo(m *match, margin float64) bool {
	l, ok := s.leads(m.ref, m.fn)
	if !ok || s.taken(m.fn) || l.at >= 0 && l.at != m.fn || l.agree.hits() < ledHits {
		return false
	}
	callers, callees := &l.agree.callers, &l.agree.callees
	unknown := callers.open + callers.more
	switch {
	case callers.against() > 0 || callees.hits < 2*callees.against():
		return false
	case callers.hits == 0:
		return unknown == 0 && callees.against() == 0 && s.m.exported(m.fn) && (margin >= marginPatched || s.nearSource())
	}
	return unknown == 0 || unknown <= callers.hits && s.nearSource()
}

// ledHits is how many functions around must have a counterpart around the match.
const ledHits = 3

// putPairedFirst moves, of several matches with exactly the reference's code and no less
// evidence, the target's counterpart to the front.
func (s *search) putPairedFirst(all []match) {
	for i := range all {
		if !all[i].exact || all[i].score < all[0].score {
			return
		}
		l, ok := s.leads(all[i].ref, all[i].fn)
		if ok && (l.firm && l.at == all[i].fn || s.isRanked(s.pairings()[all[i].ref], int32(s.fp.References[all[i].ref].Node), all[i].fn)) {
			all[0], all[i] = all[i], all[0]
			return
		}
	}
}

// twinsLeft is how many functions of the reference's build have the target's code and are
// not known to be elsewhere than the match. It is all of them unless the match itself is
// the target's counterpart, beyond doubt. byOrder is set where nothing but the order of
// functions tells some of them apart.
func (s *search) twinsLeft(m *match, ref *Reference) (n int, byOrder bool) {
	if ref.Twins < 2 {
		return ref.Twins, false
	}
	l, ok := s.leads(m.ref, m.fn)
	if !ok {
		return ref.Twins, false
	}
	p, node := s.pairings()[m.ref], int32(s.fp.References[m.ref].Node)
	firm, ranked := l.firm && l.at == m.fn, s.isRanked(p, node, m.fn)
	if !ranked && !firm || l.agree.against() > 0 {
		return ref.Twins, false
	}
	byOrder = !firm
	for _, i := range p.code[low(ref.Target.Exact)] {
		switch {
		case i == node, p.to[i] == int32(m.fn):
			n++
		case p.firm[i]:
		case ranked && s.isElsewhere(p, i, m.fn):
			byOrder = true
		default:
			n++
		}
	}
	return n, byOrder
}

// wholeEvidence says what the calls of the whole program show.
func (s *search) wholeEvidence(m *match, ref *Reference) []string {
	l, ok := s.leads(m.ref, m.fn)
	if !ok {
		return nil
	}
	out := []string{fmt.Sprintf("by the calls of the whole program %d of the %d functions around it with a counterpart have it around the reference", l.agree.hits(), l.agree.hits()+l.agree.against())}
	placed := 0
	others := s.others(ref)
	for i := range others {
		if s.placedElsewhere(&others[i], m.fn) {
			placed++
		}
	}
	if placed > 0 {
		out = append(out, fmt.Sprintf("%d of the %d functions most like the reference were found elsewhere", placed, len(others)))
	}
	return out
}
