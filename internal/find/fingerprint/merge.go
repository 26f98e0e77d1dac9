package fingerprint

import (
	"cmp"
	"slices"
)

// merged makes one more reference of several builds: what all of them have is
// likely to be in another compiler's build as well, what one of them has is that
// compiler's choice. The functions around, and the look-alikes, are put together by
// their names in the reference builds. It has nothing to say about exactly the
// same code.
func merged(refs []Reference) Reference {
	m := Reference{Label: "the builds together", Callers: grouped(refs, callersOf), Callees: grouped(refs, calleesOf), Alike: grouped(refs, alikeOf), Kin: grouped(refs, kinOf)}
	var targets []*Sample
	for i := range refs {
		targets = append(targets, &refs[i].Target)
		m.Functions = max(m.Functions, refs[i].Functions)
	}
	m.Target = together(targets)
	return m
}

// withMerged adds what the builds without the fix have in common, and those with
// it, where there are several.
func withMerged(refs []Reference) []Reference {
	out := slices.Clone(refs)
	for _, fixed := range []bool{false, true} {
		side := slices.DeleteFunc(slices.Clone(refs), func(r Reference) bool { return r.Fixed != fixed })
		if len(side) > 1 {
			m := merged(side)
			m.Fixed = fixed
			out = append(out, m)
		}
	}
	return out
}

func callersOf(r *Reference) []Sample { return r.Callers }
func calleesOf(r *Reference) []Sample { return r.Callees }
func alikeOf(r *Reference) []Sample   { return r.Alike }
func kinOf(r *Reference) []Sample     { return r.Kin }

// grouped merges the samples of several builds that have the same name.
func grouped(refs []Reference, list func(*Reference) []Sample) []Sample {
	byName := map[string][]*Sample{}
	var names []string
	var out []Sample
	for i := range refs {
		samples := list(&refs[i])
		for j := range samples {
			s := &samples[j]
			if s.Name == "" {
				out = append(out, *s)
				continue
			}
			if byName[s.Name] == nil {
				names = append(names, s.Name)
			}
			byName[s.Name] = append(byName[s.Name], s)
		}
	}
	for _, name := range names {
		out = append(out, together(byName[name]))
	}
	return out
}

// together merges samples of one function.
func together(samples []*Sample) Sample {
	if len(samples) == 1 {
		return *samples[0]
	}
	first := samples[len(samples)/2]
	s := Sample{Name: first.Name, Size: first.Size, Insns: first.Insns}
	s.Features = consensus(samples, func(s *Sample) []Rated { return s.Features })
	s.Context = consensus(samples, func(s *Sample) []Rated { return s.Context })
	return s
}

// consensus merges lists of features: each is kept by another compiler the more
// likely, the more builds have it.
func consensus(samples []*Sample, list func(*Sample) []Rated) []Rated {
	var all []Rated
	for _, s := range samples {
		all = append(all, list(s)...)
	}
	slices.SortFunc(all, func(a, b Rated) int { return cmp.Compare(a.Feature, b.Feature) })
	var out []Rated
	for len(all) > 0 {
		f, n := all[0], 1
		for n < len(all) && all[n].Feature == f.Feature {
			f.Share = max(f.Share, all[n].Share)
			n++
		}
		f.Keep = keepOf(f.Kind(), n, len(samples))
		out = append(out, f)
		all = all[n:]
	}
	return out
}

// keepOf estimates how likely another build has a feature that so many of some
// builds have.
func keepOf(k Kind, have, of int) float64 {
	keep := models[k].keep
	if have >= of {
		return keep + .6*(.97-keep)
	}
	return keep * (float64(have) + .2) / (float64(of) + .4)
}
