package fingerprint

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	// playedShare of what is seen of either is seen of both where it is the same function,
	// and playedApart less of any other, here and in the reference's build.
	playedShare, playedApart = .7, .15
	// playedSeen is how much must be seen of the reference, and playedWorlds in how many.
	playedSeen, playedWorlds = 60, 4
	// playedUnlike times the worlds in which it does something else are more than all, where
	// it is a hint only.
	playedUnlike = 8
	// playedDoubt is the share from which on another answer counts, when it is so far ahead.
	playedDoubt, playedDoubtApart = .3, .1
	// playedScore is the evidence of code, texts and what is around that AUTO wants besides,
	// in nats, and playedLikely what CONFIRM wants: what calls the target and little else
	// does what the target does, where that is not there.
	playedScore, playedLikely = 12, 8
	// maxSuspects functions are executed, among them what is around the suspectsAround that
	// fit best, aroundSuspects on either side, small ones first.
	maxSuspects                    = 56
	suspectsAround, aroundSuspects = 4, 8
)

// performance is the function that does most of what a reference does in one manner.
type performance struct {
	actor
	ref, worlds int
	apart       float64 // what any other function lacks to its share, here and in the reference's build
}

// convinces tells whether it is the same function.
func (p *performance) convinces() bool {
	return p.share >= playedShare && p.apart >= playedApart && p.of >= playedSeen && p.worlds >= playedWorlds
}

// byBehaviour gives, where the code does not tell which function it is, the one that does
// what the reference does and nothing else, and that no other function does. What is known
// of the code is not used for that, but to choose who is executed; where it speaks for
// another function the answer is a hint.
func (s *search) byBehaviour(f Finding) Finding {
	if f.Tier == Auto || !s.fp.knowsBehaviour() || s.m.runner() == nil {
		return f
	}
	all := s.performances(s.suspects())
	best := -1
	for i := range all {
		if all[i].convinces() && (best < 0 || all[i].apart > all[best].apart) {
			best = i
		}
	}
	if best < 0 {
		return f
	}
	p := &all[best]
	v := s.performed(p, all)
	if v.top.exact { // the same code does the same: what was said of it stands
		return f
	}
	if at := s.m.funcs[p.fn].at; f.Tier != None && f.At != at {
		v.lower(Hint, fmt.Sprintf("the code of another function, at %v, is more like the reference's", f.At))
		if f.Tier == Confirm && v.tier == Hint {
			f.Tier, f.Why = Hint, append(f.Why, fmt.Sprintf("another function, at %v, does what the reference does", at))
		}
	}
	s.tellFixed(&v)
	if v.tier <= f.Tier {
		return f
	}
	out := s.finding(&v)
	out.Evidence = append(out.Evidence, fmt.Sprintf("executed in %d made-up worlds it does what %s does: %d of %d reads, writes, calls and results are the same, and of no other function more than %.0f %%",
		p.worlds, s.fp.References[p.ref].Label, p.both, p.of, 100*(p.share-p.apart)))
	return out
}

// performed is the verdict on a function that does what the reference does.
func (s *search) performed(p *performance, all []performance) verdict {
	ref := &s.fp.References[p.ref]
	b := s.m.body(p.fn)
	v := verdict{tier: Auto, top: s.matchOf(p.ref, p.fn), performed: true}
	for r := range s.refs {
		if m := s.matchOf(r, p.fn); m.score > v.top.score {
			v.top = m
		}
	}
	v.margin = v.top.score
	for r := range s.scores {
		for i := range s.scores[r] {
			if o := &s.scores[r][i]; o.fn != p.fn {
				v.margin = min(v.margin, v.top.score-o.score)
			}
		}
	}
	for i := range all {
		if o := &all[i]; o.fn != p.fn && o.share >= playedDoubt && o.apart >= playedDoubtApart {
			v.lower(None, "another function does what another build does")
		}
	}
	if n := min(ref.Target.Insns, b.insns); n < autoInsns {
		v.lower(Confirm, fmt.Sprintf("a function of %d instructions is never taken without asking", n))
	}
	if !b.whole {
		v.lower(Hint, "not all of its code could be decoded")
	}
	if p.unlike > 0 {
		// As what was split off behind the checks of the target does where these fail.
		to := Confirm
		if playedUnlike*p.unlike > p.worlds {
			to = Hint
		}
		v.lower(to, fmt.Sprintf("in %d of %d made-up worlds it does something else than the reference", p.unlike, p.worlds))
	}
	switch around := v.top.found + v.top.missed; {
	case v.top.score < playedLikely:
		v.lower(Hint, "little of its code, its texts and what is around it is the reference's")
	case v.top.score < playedScore, around > 0 && v.top.found == 0:
		v.lower(Confirm, "not much of its code, its texts and what is around it is the reference's")
	}
	s.saysOther(&v, ref)
	s.folded(&v, ref)
	return v
}

// saysOther doubts a function with a text or import in place of one of the reference's: a
// sibling of the target, which is there where the target is not, does the same but for that.
// In another version a sibling may do just what the target did, and say it too.
func (s *search) saysOther(v *verdict, ref *Reference) {
	t := s.texts(&ref.Target, v.top.fn)
	switch {
	case t.both < t.missing+t.extra, t.missing >= otherText && t.extra >= otherText:
		v.lower(Confirm, "it refers to another text or import in place of one of the reference's")
	case !s.nearSource():
		v.lower(Confirm, "the source is not the same, nor a patch from it: another function may do there what the reference does")
	}
}

// performances compares the suspects with each build without the fix, in each manner.
func (s *search) performances(suspects []int) []performance {
	var out []performance
	end := s.m.runner().Steps() + maxPlayed
	next := s.fp.next()
	for r := range s.fp.References {
		ref := &s.fp.References[r]
		if ref.Behaviour == nil || ref.Fixed {
			continue
		}
		for k := range ref.Behaviour {
			p := &ref.Behaviour[k]
			best := s.m.playedLike(p, suspects, playedManner(k))
			if s.m.runner().Steps() > end {
				return nil
			}
			if len(best) == 0 {
				continue
			}
			o := performance{actor: best[0], ref: r, worlds: len(p.Worlds), apart: best[0].share - next[k]}
			if len(best) > 1 {
				o.apart = min(o.apart, best[0].share-best[1].share)
			}
			out = append(out, o)
		}
	}
	return out
}

// suspects are the functions that could be the target: those whose code is most like its,
// and what is around the first of them, as a caller may have its code, or a callee.
func (s *search) suspects() []int {
	var out []int
	add := func(i int) {
		if len(out) < maxSuspects && !slices.Contains(out, i) && !s.isAbsent(int32(i)) {
			out = append(out, i)
		}
	}
	for rank := range 2 * kept {
		for r := range s.scores {
			if rank < len(s.scores[r]) {
				add(s.scores[r][rank].fn)
			}
		}
	}
	for _, i := range out[:min(len(out), suspectsAround)] {
		for _, around := range [][]int32{s.m.callers(i), s.m.callees(i)} {
			around = slices.Clone(around[:min(len(around), maxCompared)])
			slices.SortStableFunc(around, func(a, b int32) int { return cmp.Compare(s.m.funcs[a].size, s.m.funcs[b].size) })
			for _, j := range around[:min(len(around), aroundSuspects)] {
				add(int(j))
			}
		}
	}
	return out
}

// next is how much another function does of what the target does, in each manner, in the
// build where that is most.
func (fp *Fingerprint) next() (most [2]float64) {
	for i := range fp.References {
		if b := fp.References[i].Behaviour; b != nil {
			for k := range b {
				most[k] = max(most[k], b[k].Next)
			}
		}
	}
	return most
}

// knowsBehaviour tells whether the fingerprint carries what the function does.
func (fp *Fingerprint) knowsBehaviour() bool {
	return slices.ContainsFunc(fp.References, func(r Reference) bool { return r.Behaviour != nil })
}
