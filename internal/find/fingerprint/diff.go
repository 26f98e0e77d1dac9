package fingerprint

import (
	"cmp"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// What happened to a function between two builds.
type What uint8

// Kinds of change.
const (
	Changed What = iota
	Added
	Removed
)

func (w What) String() string { return [...]string{"changed", "added", "removed"}[min(w, Removed)] }

// Change is a function that is not the same in both builds.
type Change struct {
	What       What
	Old, New   address.Vaddr // 0 for none
	Similarity float64       // of Changed
	Names      []string
}

// Difference is what two builds of a program do not have in common.
type Difference struct {
	Same    int // functions with the same code
	Unclear int // functions of the old build whose counterpart cannot be told
	Changes []Change
}

// differ pairs the functions of two modules.
type differ struct {
	old, new   *Module
	pair, back []int32 // by function: its counterpart, or -1
}

// diffRounds is how often what was paired helps to pair what calls it and what
// it calls.
const diffRounds = 6

// Diff pairs the functions of two builds, by code, texts and who calls whom, and
// tells what is left.
func Diff(old, new *Module) Difference {
	d := &differ{old: old, new: new, pair: minusOnes(len(old.funcs)), back: minusOnes(len(new.funcs))}
	d.named()
	d.identical()
	for range diffRounds {
		if d.neighbours()+d.similar() == 0 {
			break
		}
	}
	return d.result()
}

func minusOnes(n int) []int32 { return slices.Repeat([]int32{-1}, n) }

func (d *differ) join(i, j int) { d.pair[i], d.back[j] = int32(j), int32(i) }

// named pairs functions that both builds have under the same name. Here names
// count: a diff is read by people, and no guard depends on it.
func (d *differ) named() {
	there := namesOf(d.new)
	for name, i := range namesOf(d.old) {
		if j, ok := there[name]; ok && i >= 0 && j >= 0 && d.pair[i] < 0 && d.back[j] < 0 {
			d.join(i, j)
		}
	}
}

// namesOf indexes names; one of several functions is -1.
func namesOf(m *Module) map[string]int {
	out := map[string]int{}
	all, err := m.file.Functions()
	if err != nil {
		return out
	}
	for _, f := range all {
		i := m.at(f.Start)
		if i < 0 {
			continue
		}
		for _, n := range f.Names {
			if _, twice := out[n]; twice {
				out[n] = -1
			} else {
				out[n] = i
			}
		}
	}
	return out
}

// identical pairs functions whose code both have once.
func (d *differ) identical() {
	count := func(m *Module) map[uint64][]int {
		out := map[uint64][]int{}
		for i := range m.funcs {
			if b := m.body(i); b.whole && b.insns >= smallest {
				out[b.exact] = append(out[b.exact], i)
			}
		}
		return out
	}
	there := count(d.new)
	for exact, here := range count(d.old) {
		if len(here) == 1 && len(there[exact]) == 1 && d.pair[here[0]] < 0 && d.back[there[exact][0]] < 0 {
			d.join(here[0], there[exact][0])
		}
	}
}

// neighbours pairs callees, and callers, of functions that are paired: each
// with the one most like it there, when no other comes near.
func (d *differ) neighbours() int {
	n := 0
	for i := range d.pair {
		if j := d.pair[i]; j >= 0 {
			n += d.pairAmong(d.old.callees(i), d.new.callees(int(j)))
			n += d.pairAmong(d.old.callers(i), d.new.callers(int(j)))
		}
	}
	return n
}

const (
	maxAmong    = 64 // neighbours that are compared with each other
	diffLike    = .3
	diffAhead   = .1
	diffSimilar = .7
)

func (d *differ) pairAmong(here, there []int32) int {
	if len(here) > maxAmong || len(there) > maxAmong {
		return 0
	}
	n := 0
	for _, i := range here {
		if d.pair[i] >= 0 {
			continue
		}
		if j, ok := d.bestOf(int(i), there, diffLike); ok {
			d.join(int(i), j)
			n++
		}
	}
	return n
}

// bestOf returns the unpaired function that is most like i, if it is alike
// enough and no other nearly as much.
func (d *differ) bestOf(i int, there []int32, enough float64) (int, bool) {
	best, first, second := -1, 0.0, 0.0
	b := d.old.body(i)
	rated := d.old.rate(b.features)
	for _, j := range there {
		if d.back[j] >= 0 {
			continue
		}
		o := d.new.body(int(j))
		sim := alike(rated, o.features, d.new.everything().census.share)
		if o.exact == b.exact && o.whole && b.whole {
			sim = 1.5
		}
		if sim > first {
			best, first, second = int(j), sim, first
		} else if sim > second {
			second = sim
		}
	}
	return best, best >= 0 && first >= enough && first-second >= diffAhead
}

// similar pairs what is left by the features that few functions have.
func (d *differ) similar() int {
	n := 0
	there := d.new.everything()
	for i := range d.pair {
		if d.pair[i] >= 0 || d.old.body(i).insns < smallest {
			continue
		}
		votes := map[int32]int{}
		for _, f := range d.old.body(i).features {
			have := there.index.rare(f)
			for k := range have {
				if j := have.function(k); d.back[j] < 0 {
					votes[j]++
				}
			}
		}
		var near []int32
		for j := range votes {
			near = append(near, j)
		}
		slices.SortFunc(near, func(a, b int32) int { return cmp.Or(cmp.Compare(votes[b], votes[a]), cmp.Compare(a, b)) })
		if j, ok := d.bestOf(i, near[:min(len(near), 8)], diffSimilar); ok {
			d.join(i, j)
			n++
		}
	}
	return n
}

func (d *differ) result() Difference {
	var out Difference
	left := map[uint64]int{} // unpaired code of the new build
	for j := range d.back {
		if d.back[j] < 0 {
			left[d.new.body(j).exact]++
		}
	}
	for i := range d.pair {
		old := &d.old.funcs[i]
		b := d.old.body(i)
		j := d.pair[i]
		switch {
		case j < 0 && left[b.exact] > 0:
			out.Unclear++ // the same code, more than once
			left[b.exact]--
		case j < 0 && b.insns < smallest:
			out.Unclear++
		case j < 0:
			out.Changes = append(out.Changes, Change{What: Removed, Old: old.at, Names: d.old.namesOf(i)})
		case d.new.body(int(j)).exact == b.exact:
			out.Same++
		default:
			sim := alike(d.old.rate(b.features), d.new.body(int(j)).features, d.new.everything().census.share)
			out.Changes = append(out.Changes, Change{What: Changed, Old: old.at, New: d.new.funcs[j].at, Similarity: sim, Names: d.old.namesOf(i)})
		}
	}
	return d.added(out)
}

// added adds the functions of the new build that nothing was paired with, and
// whose code the old build has not.
func (d *differ) added(out Difference) Difference {
	known := map[uint64]bool{}
	for i := range d.old.funcs {
		known[d.old.body(i).exact] = true
	}
	for j := range d.back {
		if b := d.new.body(j); d.back[j] < 0 && b.insns >= smallest && !known[b.exact] {
			out.Changes = append(out.Changes, Change{What: Added, New: d.new.funcs[j].at, Names: d.new.namesOf(j)})
		}
	}
	return out
}
