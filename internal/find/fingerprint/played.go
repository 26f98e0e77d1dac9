package fingerprint

import (
	"cmp"
	"math"
	"slices"

	"github.com/patch-integration-engine/pie/internal/find/behaviour"
)

// Behaviour is what a function of a build does when it is executed in made-up worlds
// (package behaviour), in two manners: with calls of larger functions seen, and with all
// calls entered. Compilers write out different calls in their callers; in one manner or the
// other two builds mostly do the same.
type Behaviour [2]Played

// Played is what a function does in one manner.
type Played struct {
	Worlds []behaviour.World
	// Seen is what it does in each world, as hashes, ascending.
	Seen [][]uint32
	// Next is how much of that another function of the build does at most, 0 to 1.
	Next float64
}

const (
	// playedFirst worlds are tried with all functions that are compared, and the rest with
	// the playedKept that are most alike.
	playedFirst, playedKept = 6, 6
	// maxPlayed bounds the instructions that a search executes. One that takes more has no
	// answer by them.
	maxPlayed = 16 << 20
	// nextSteps is how exactly Played.Next is kept.
	nextSteps = 1000
)

// playedManner is the i-th manner.
func playedManner(i int) behaviour.Manner { return behaviour.Manner{Deep: i == 1} }

// behaviourOf executes function i, and others to know what they have in common with it.
func (m *Module) behaviourOf(i int, others []int) *Behaviour {
	var out Behaviour
	at := uint64(m.funcs[i].at)
	for k := range out {
		p := &out[k]
		how := playedManner(k)
		p.Worlds = m.runner().Explore(at, how)
		p.Seen = m.play(i, p.Worlds, how)
		how.Also = at // another compiler may write it out in its callers
		if best := m.playedLike(p, others, how); len(best) > 0 {
			p.Next = math.Ceil(best[0].share*nextSteps) / nextSteps
		}
	}
	return &out
}

// play executes function i in some worlds.
func (m *Module) play(i int, worlds []behaviour.World, how behaviour.Manner) [][]uint32 {
	out := make([][]uint32, len(worlds))
	for w := range worlds {
		out[w] = m.runner().Observe(uint64(m.funcs[i].at), worlds[w], how)
	}
	return out
}

// actor is a function and what it does of what another does.
type actor struct {
	fn       int
	share    float64 // of all that either does
	both, of int     // what both do, and what the other does
	unlike   int     // worlds in which they mostly do different things
}

// playedLike returns those of some functions that do most of what another did, best first.
func (m *Module) playedLike(p *Played, functions []int, how behaviour.Manner) []actor {
	first := min(playedFirst, len(p.Worlds))
	seen := make(map[int][][]uint32, len(functions))
	var all []actor
	for _, i := range functions {
		seen[i] = m.play(i, p.Worlds[:first], how)
		all = append(all, compareSeen(i, p.Seen[:first], seen[i]))
	}
	best := func(a, b actor) int { return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(a.fn, b.fn)) }
	slices.SortFunc(all, best)
	all = all[:min(len(all), playedKept)]
	for k := range all {
		i := all[k].fn
		all[k] = compareSeen(i, p.Seen, append(seen[i], m.play(i, p.Worlds[first:], how)...))
	}
	slices.SortFunc(all, best)
	return all
}

// compareSeen compares what function fn did with what another did, world by world.
func compareSeen(fn int, of, did [][]uint32) actor {
	out := actor{fn: fn}
	either := 0
	for w := range of {
		both := common(of[w], did[w])
		any := len(of[w]) + len(did[w]) - both
		if 2*both < any {
			out.unlike++
		}
		out.both += both
		out.of += len(of[w])
		either += any
	}
	out.share = float64(out.both) / float64(max(either, 1))
	return out
}

// common counts what two ascending lists have in common.
func common(a, b []uint32) int {
	n := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			n, i, j = n+1, i+1, j+1
		}
	}
	return n
}

// observed are the functions of a build that are compared with function i by what they do:
// those around it, and those that are most like it.
func (m *Module) observed(i int, r *Reference) []int {
	var out []int
	add := func(j int) {
		if j != i && !slices.Contains(out, j) {
			out = append(out, j)
		}
	}
	for _, around := range [][]int32{m.callers(i), m.callees(i)} {
		for _, j := range around[:min(len(around), maxAround)] {
			add(int(j))
		}
	}
	for _, j := range m.nearest(r, i, maxAround) {
		add(j)
	}
	alike := m.everything().alike(m, i)
	for _, j := range alike[:min(len(alike), maxKin)] {
		add(j)
	}
	for _, j := range m.kin(i, alike, out) {
		add(j)
	}
	return out
}

// seenIn counts what was seen in all worlds.
func (p *Played) seenIn() int {
	n := 0
	for _, s := range p.Seen {
		n += len(s)
	}
	return n
}

// Size tells in how many worlds the function was executed, and how much was seen.
func (b *Behaviour) Size() (worlds, seen int) {
	for k := range b {
		worlds += len(b[k].Worlds)
		seen += b[k].seenIn()
	}
	return worlds, seen
}
