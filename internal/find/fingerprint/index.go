package fingerprint

import (
	"cmp"
	"slices"
	"sort"
)

// index tells which functions of a module have a feature: a feature and a function
// in one number, ascending.
type index []uint64

// functionBits holds any function of a module, as maxFunctions has it; with the kind
// and the hash of a feature that makes 64.
const functionBits = 20

func newIndex(m *Module) index {
	n := 0
	for i := range m.funcs {
		n += len(m.body(i).features)
	}
	x := make(index, 0, n)
	for i := range m.funcs {
		for _, f := range m.body(i).features {
			x = append(x, uint64(f)<<functionBits|uint64(i))
		}
	}
	slices.Sort(x)
	return x
}

// of returns the entries of one feature.
func (x index) of(f Feature) index {
	from := sort.Search(len(x), func(i int) bool { return x[i]>>functionBits >= uint64(f) })
	x = x[from:]
	n := 1
	for n < len(x) && x[n-1]>>functionBits == uint64(f) {
		n *= 2
	}
	to := sort.Search(min(n, len(x)), func(i int) bool { return x[i]>>functionBits > uint64(f) })
	return x[:to]
}

// function returns the function of an entry.
func (x index) function(i int) int32 { return int32(x[i] & (1<<functionBits - 1)) }

// rare is of, or nothing when more than maxPosting functions have the feature.
func (x index) rare(f Feature) index {
	if x = x.of(f); len(x) > maxPosting {
		return nil
	}
	return x
}

// maxPosting is how many functions may have a feature that look-alikes are
// found by.
const maxPosting = 64

// Index prepares a module for many searches: they then read only what has
// something of what is searched for, which answers the same. Making a fingerprint of
// one of its functions does so too.
func (m *Module) Index() { m.everything() }

// bySize returns the functions that are not too small to be found, ascending by size.
func (m *Module) bySize() []int32 {
	var out []int32
	for i := range m.funcs {
		if m.body(i).insns >= smallest {
			out = append(out, int32(i))
		}
	}
	slices.SortStableFunc(out, func(a, b int32) int { return cmp.Compare(m.funcs[a].size, m.funcs[b].size) })
	return out
}

// sized returns the functions that are not too small to be found and have from lo to
// hi bytes, ascending by address.
func (m *Module) sized(lo, hi uint64) []int32 {
	var out []int32
	if m.whole == nil {
		for i := range m.funcs {
			if size := m.funcs[i].size; size >= lo && size <= hi && m.body(i).insns >= smallest {
				out = append(out, int32(i))
			}
		}
		return out
	}
	all := m.whole.bySize
	from := sort.Search(len(all), func(i int) bool { return m.funcs[all[i]].size >= lo })
	to := sort.Search(len(all), func(i int) bool { return m.funcs[all[i]].size > hi })
	out = slices.Clone(all[from:max(from, to)])
	slices.Sort(out)
	return out
}

// rated returns what the features of a candidate weigh together.
func (s *search) rated(c int32) rated {
	if s.m.whole != nil {
		return s.m.whole.rated[c]
	}
	return s.m.body(int(c)).rate(s.common)
}

// sums adds up, for each candidate, what it shares with the targets, and shows it.
func (s *search) sums(t *terms, candidates []int32, show func(c int32, sums []sum)) {
	refs := len(s.refs)
	if s.m.whole == nil {
		sums := make([]sum, refs)
		for _, c := range candidates {
			t.sum(s.m.body(int(c)), s.common, sums)
			show(c, sums)
		}
		return
	}
	all := t.all(s.m, s.common)
	for _, c := range candidates {
		show(c, all[int(c)*refs:(int(c)+1)*refs])
	}
}

// all is sum for every function of the module at once, by its index.
func (t *terms) all(m *Module, c *census) []sum {
	refs := len(t.targets)
	n := refs * len(m.funcs)
	if cap(m.whole.sums) < n {
		m.whole.sums = make([]sum, n)
	}
	sums := m.whole.sums[:n]
	clear(sums)
	order := make([]Feature, 0, len(t.of))
	for f := range t.of {
		order = append(order, f)
	}
	slices.Sort(order) // as the features of a body are, for the same sum to the last bit
	for _, f := range order {
		of, rate := t.of[f], c.rate(f)
		w, lacking := models[f.Kind()].weight*rate.log, rate.lacking[f.Kind()]
		have := m.whole.index.of(f)
		for i := range have {
			at := sums[int(have.function(i))*refs:]
			for _, x := range of {
				sum := &at[x.ref]
				sum.shared += x.weight
				sum.own += w
				sum.gain += x.gain - lacking
			}
		}
	}
	return sums
}
