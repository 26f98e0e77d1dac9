package fingerprint

// rated is what the features of a function weigh together in its own module.
type rated struct{ weight, lacking float64 }

// rate adds up the features of a function; the result is kept, as a module has one
// background.
func (b *body) rate(c *census) rated {
	if !b.isRated {
		for _, f := range b.features {
			r := c.rate(f)
			b.rated.weight += models[f.Kind()].weight * r.log
			b.rated.lacking += r.lacking[f.Kind()]
		}
		b.isRated = true
	}
	return b.rated
}

// term is a feature of one target.
type term struct {
	ref    int32
	weight float64
	// gain is what it adds to the score that both have it, less what was counted
	// for the target's having it alone.
	gain float64
}

// terms indexes the features of the targets of all references.
type terms struct {
	of      map[Feature][]term
	targets []rated
	filter  [1024]uint64 // most features of other functions do not pass
}

// sum is what a function shares with one target.
type sum struct{ shared, own, gain float64 }

func (s *search) terms() *terms {
	t := &terms{of: map[Feature][]term{}, targets: make([]rated, len(s.refs))}
	for r := range s.refs {
		features := s.refs[r].Target.Features
		for i := range features {
			f := &features[i]
			share := (f.Share + s.share(f.Feature)) / 2
			w, alone := f.weight(share), f.alone()
			t.of[f.Feature] = append(t.of[f.Feature], term{int32(r), w, f.shared(share) - alone})
			t.targets[r].weight += w
			t.targets[r].lacking += alone
			t.filter[f.hash()>>6&1023] |= 1 << (f.hash() & 63)
		}
	}
	return t
}

// sum fills sums, by reference, with what the function shares with its target.
func (t *terms) sum(b *body, c *census, sums []sum) {
	clear(sums)
	for _, f := range b.features {
		if t.filter[f.hash()>>6&1023]>>(f.hash()&63)&1 == 0 {
			continue
		}
		of := t.of[f]
		if of == nil {
			continue
		}
		rate := c.rate(f)
		w := models[f.Kind()].weight * rate.log
		for _, x := range of {
			sums[x.ref].shared += x.weight
			sums[x.ref].own += w
			sums[x.ref].gain += x.gain - rate.lacking[f.Kind()]
		}
	}
}
