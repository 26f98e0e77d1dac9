package behaviour

import "slices"

const (
	// firstWorlds are tried before others are made of them, up to maxTried.
	firstWorlds = kinds
	maxTried    = 300
	// maxTelling are kept of those that show leastNew, and maxQuiet of those in which least
	// is done, with MaxSettings each.
	maxTelling, maxQuiet = 18, 6
	MaxWorlds            = maxTelling + maxQuiet
	MaxSettings          = 8
	leastNew             = 2
	// maxTriedEach is how often a value is tried for one place.
	maxTriedEach = 2
	// maxSwitch is the largest number that is taken for the end of a table, and maxCases how
	// many of its rows are tried.
	maxSwitch, maxCases = 64, 12
	// maxExplored bounds the instructions of one search.
	maxExplored = 400_000
)

// tried is a world and what was seen in it.
type tried struct {
	world World
	tests []test
	seen  []uint64
}

// Explore looks for worlds in which the function at v does different things.
func (r *Runner) Explore(v uint64, how Manner) []World {
	var all []tried
	end := r.steps + maxExplored
	try := func(w World) {
		if len(all) < maxTried && r.steps < end {
			e := r.execute(v, w, how, true)
			all = append(all, tried{w, e.tests, e.seen})
		}
	}
	for n := range firstWorlds {
		try(World{Number: n})
	}
	times := map[Setting]int{}
	for i := 0; i < len(all); i++ {
		w := all[i].world
		if len(w.Set) >= MaxSettings {
			continue
		}
		for _, t := range all[i].tests {
			for _, value := range t.values() {
				s := Setting{t.Place, value}
				if value == t.was || times[s] >= maxTriedEach {
					continue
				}
				times[s]++
				try(World{w.Number, append(slices.Clone(w.Set), s)})
			}
		}
	}
	return append(mostTelling(all), quiet(all)...)
}

// values are what makes a comparison come out otherwise.
func (t *test) values() []uint64 {
	out := []uint64{t.with}
	if t.with != 0 || t.was != 0 {
		size := mask(int(t.Size))
		out = append(out, (t.with+1)&size, (t.with-1)&size)
	}
	if t.ordered && t.with > 1 && t.with < maxSwitch {
		for v := range min(t.with, maxCases) {
			out = append(out, v)
		}
	}
	return out
}

// quiet chooses worlds in which least is done, each otherwise than in the others: a check
// fails there. What was split off from a function behind its checks goes on.
func quiet(all []tried) []World {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b tried) int { return len(a.seen) - len(b.seen) })
	known := map[uint64]bool{}
	var out []World
	for i := range all {
		sum := uint64(len(all[i].world.Set))
		if len(all[i].world.Set) > 0 {
			sum = mix(all[i].world.Set[len(all[i].world.Set)-1].Key)
		}
		if len(out) < maxQuiet && !known[sum] {
			known[sum] = true
			out = append(out, all[i].world)
		}
	}
	return out
}

// mostTelling chooses worlds that show what the ones chosen before do not.
func mostTelling(all []tried) []World {
	type sight struct {
		number int
		what   uint64
	}
	known := map[sight]bool{}
	var out []World
	for len(out) < maxTelling {
		best, most := -1, leastNew-1
		for i := range all {
			n := 0
			for _, o := range all[i].seen {
				if !known[sight{all[i].world.Number, o}] {
					n++
				}
			}
			if n > most {
				best, most = i, n
			}
		}
		if best < 0 {
			return out
		}
		t := &all[best]
		out = append(out, t.world)
		for _, o := range t.seen {
			known[sight{t.world.Number, o}] = true
		}
	}
	return out
}
