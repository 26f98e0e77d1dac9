package fingerprint

// maxRank is how many functions apart two landmarks may be.
const maxRank = 64

// rank notes where code that is there more than once lies between the same others: two
// functions with code of their own, as many functions apart in both builds, and between them
// in the same order the same code and nothing else. A compiler that is given nearly the same
// source puts functions in the same order; it is not known that another one does.
func (p *pairing) rank(here, there map[uint64]int32) {
	p.ranked, p.rankedBy = none(len(p.a.nodes)), none(len(p.b.nodes))
	last := -1 // the landmark before
	for i := range p.a.nodes {
		n := &p.a.nodes[i]
		if n.code == 0 || n.insns < anchorCode || here[n.code] != int32(i) {
			continue
		}
		j, ok := there[n.code]
		if !ok || j < 0 {
			continue
		}
		if last >= 0 && i-last <= maxRank {
			p.between(last, i, int(there[p.a.nodes[last].code]), int(j))
		}
		last = i
	}
}

// between notes what lies between two landmarks, from and to in one build, first and end in
// the other.
func (p *pairing) between(from, to, first, end int) {
	if end-first != to-from {
		return
	}
	for k := 1; k < to-from; k++ {
		a, b := &p.a.nodes[from+k], &p.b.nodes[first+k]
		if a.code != b.code || a.insns != b.insns || p.gone[first+k] {
			return
		}
	}
	for k := 1; k < to-from; k++ {
		if p.a.nodes[from+k].code != 0 && p.contradicts(int32(from+k), int32(first+k)) == 0 {
			p.ranked[from+k], p.rankedBy[first+k] = int32(first+k), int32(from+k)
		}
	}
}

// isRanked tells whether function i of a build of the fingerprint lies among twins where fn
// lies, and the source is the same or a patch from it.
func (s *search) isRanked(p *pairing, i int32, fn int) bool {
	return p.ranked[i] == int32(fn) && s.nearSource()
}

// isElsewhere tells whether function i of a build lies where another than fn does.
func (s *search) isElsewhere(p *pairing, i int32, fn int) bool {
	return p.ranked[i] >= 0 && p.ranked[i] != int32(fn) && s.nearSource()
}
