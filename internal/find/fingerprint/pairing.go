package fingerprint

import "slices"

// pairing says which function of a build is which of another, as far as that can be told
// by code that is there once and by who calls whom.
//
// It begins with functions that have something that no other function of either build has:
// their code, their operations, their texts and imports. From each pair it goes along the
// calls: what is alike among the few functions that the two call, or are called by, is a
// pair, too. Each pair is then held against the others: its callers and callees that have a
// counterpart must have it around the other one. What contradicts is taken apart again,
// and never put together a second time.
type pairing struct {
	a, b     *Whole
	to, from []int32 // the counterpart, or -1
	gone     []bool  // functions of b that are taken not to be there
	apart    map[[2]int32]bool
	left     int                // comparisons that may still be made
	firm     []bool             // of a: see isFirm
	single   []bool             // of a: the counterpart has its code, no other function has, and nothing speaks against it
	code     map[uint64][]int32 // functions of a by their code
	ranked   []int32            // of a, and of b: see rank
	rankedBy []int32
}

const (
	maxRounds = 12
	// maxPairing bounds the comparisons between functions, whatever calls a file tells of: what
	// is not compared has no counterpart.
	maxPairing = 1 << 28
	maxSpread  = 64 // callers or callees of a function that pairs are looked for among
	anchorCode = 10 // instructions from which on code that is there once is a beginning,
	anchorRest = 20 // and from which on operations are
	// nodeRatio is the smaller of two functions' instructions by the larger's where their
	// texts and imports only are the same.
	nodeRatio = .5
)

// pair matches two builds. gone are functions of b that are taken not to be there.
func pair(a, b *Whole, gone []int32) *pairing {
	p := &pairing{a: a, b: b, to: none(len(a.nodes)), from: none(len(b.nodes)), gone: make([]bool, len(b.nodes)), apart: map[[2]int32]bool{}, left: maxPairing}
	for _, j := range gone {
		p.gone[j] = true
	}
	here, there := p.anchor()
	p.check()
	for range maxRounds {
		n := p.spread()
		p.check()
		if n == 0 {
			break
		}
	}
	p.firm, p.single, p.code = make([]bool, len(p.to)), make([]bool, len(p.to)), map[uint64][]int32{}
	for i, j := range p.to {
		if j >= 0 {
			p.firm[i] = p.isFirm(int32(i), j)
			code := a.nodes[i].code
			p.single[i] = code != 0 && here[code] == int32(i) && there[code] == j && p.contradicts(int32(i), j) == 0
		}
		p.code[a.nodes[i].code] = append(p.code[a.nodes[i].code], int32(i))
	}
	p.rank(here, there)
	return p
}

func none(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = -1
	}
	return out
}

// keys are what two functions may have in common, strongest first, and how many
// instructions a function must have to be known by it alone.
var keys = []struct {
	of    func(*node) uint64
	least int32
}{
	{func(n *node) uint64 { return n.code }, anchorCode},
	{func(n *node) uint64 { return n.outline }, anchorRest},
	{func(n *node) uint64 { return n.said }, anchorCode},
}

// anchor pairs the functions that have something that is there once in each build. It
// returns which functions have which code, as once does.
func (p *pairing) anchor() (codeHere, codeThere map[uint64]int32) {
	for k := range keys {
		here, there := p.once(p.a, nil, k), p.once(p.b, p.gone, k)
		if k == 0 {
			codeHere, codeThere = here, there
		}
		for i := range p.a.nodes {
			key := keys[k].of(&p.a.nodes[i])
			j, ok := there[key]
			if key == 0 || !ok || j < 0 || here[key] != int32(i) || p.a.nodes[i].insns < keys[k].least {
				continue
			}
			p.join(int32(i), j)
		}
	}
	return codeHere, codeThere
}

// once returns which function of a build has a key, -1 where several have.
func (p *pairing) once(w *Whole, gone []bool, k int) map[uint64]int32 {
	out := make(map[uint64]int32, len(w.nodes))
	for i := range w.nodes {
		key := keys[k].of(&w.nodes[i])
		if key == 0 || gone != nil && gone[i] {
			continue
		}
		if _, ok := out[key]; ok {
			out[key] = -1
		} else {
			out[key] = int32(i)
		}
	}
	return out
}

// join pairs two functions, where neither has a counterpart and nothing speaks against it.
func (p *pairing) join(i, j int32) bool {
	n, o := p.a.nodes[i].insns, p.b.nodes[j].insns
	if p.to[i] >= 0 || p.from[j] >= 0 || p.gone[j] || p.apart[[2]int32{i, j}] || float64(min(n, o)) < nodeRatio*float64(max(n, o)) {
		return false
	}
	p.to[i], p.from[j] = j, i
	return true
}

// spread pairs functions around the pairs that there are, and returns how many.
func (p *pairing) spread() int {
	n := 0
	for i, j := range p.to {
		if j >= 0 {
			n += p.among(p.a.calls.of(i), p.b.calls.of(int(j)))
			n += p.among(p.a.called.of(i), p.b.called.of(int(j)))
		}
	}
	return n
}

// among pairs what is alike, and alone in that, among the functions of two lists that have no
// counterpart yet.
func (p *pairing) among(here, there []int32) int {
	if len(here) > maxSpread || len(there) > maxSpread || p.left <= 0 {
		return 0
	}
	n := 0
	for k := range keys {
		for _, i := range here {
			key := keys[k].of(&p.a.nodes[i])
			if key == 0 || p.to[i] >= 0 {
				continue
			}
			p.left -= len(here) + len(there)
			if _, n := p.having(p.a, here, p.to, k, key); n != 1 {
				continue
			}
			if j, m := p.having(p.b, there, p.from, k, key); m == 1 && p.join(i, j) {
				n++
			}
		}
	}
	return n
}

// having returns a function of a list that has a key and no counterpart, and how many have.
func (p *pairing) having(w *Whole, list, counterpart []int32, k int, key uint64) (one int32, n int) {
	for _, i := range list {
		if counterpart[i] < 0 && keys[k].of(&w.nodes[i]) == key {
			one = i
			n++
		}
	}
	return one, n
}

// check takes apart what others contradict.
func (p *pairing) check() {
	var wrong []int32
	for i, j := range p.to {
		if j < 0 {
			continue
		}
		if g := p.agree(int32(i), j); g.hits() < 2*g.against() {
			wrong = append(wrong, int32(i))
		}
	}
	for _, i := range wrong {
		p.apart[[2]int32{i, p.to[i]}] = true
		p.from[p.to[i]], p.to[i] = -1, -1
	}
}

// agreed is what speaks for a pair, and against it, on either side.
type agreed struct{ callers, callees side }

// side is one direction of calls: the functions around that have a counterpart, found
// around the other function and not, either way, and those without a counterpart.
type side struct{ hits, lost, extra, open, more int }

func (g *agreed) hits() int    { return g.callers.hits + g.callees.hits }
func (g *agreed) against() int { return g.callers.against() + g.callees.against() }

func (s *side) against() int { return s.lost + s.extra }

// agree compares what is around two functions, by the counterparts known.
func (p *pairing) agree(i, j int32) agreed {
	return agreed{
		callers: p.side(p.a.called.of(int(i)), p.b.called.of(int(j))),
		callees: p.side(p.a.calls.of(int(i)), p.b.calls.of(int(j))),
	}
}

func (p *pairing) side(here, there []int32) side {
	var s side
	for _, i := range here {
		j := p.to[i]
		if j < 0 {
			s.open++
		} else if _, ok := slices.BinarySearch(there, j); ok {
			s.hits++
		} else {
			s.lost++
		}
	}
	for _, j := range there {
		i := p.from[j]
		if i < 0 {
			s.more++
		} else if _, ok := slices.BinarySearch(here, i); !ok {
			s.extra++
		}
	}
	return s
}

// isFirm tells whether a pair is sure enough that neither of the two can be another
// function: all that is known around one is around the other, a caller at least among it.
// What a function calls does not tell: one that was split in two, or the sibling of one
// that is gone, calls the same.
func (p *pairing) isFirm(i, j int32) bool {
	g := p.agree(i, j)
	n, o := &p.a.nodes[i], &p.b.nodes[j]
	same := n.code != 0 && n.code == o.code
	switch hits, against := g.hits(), g.against(); {
	case g.callers.hits == 0 || g.callers.against() > 0:
		return false
	case against > 0:
		return same && hits >= 6*against
	case same && n.insns >= anchorRest:
		return true
	default:
		return hits >= 2
	}
}

// contradicts counts what speaks against a pair.
func (p *pairing) contradicts(i, j int32) int {
	g := p.agree(i, j)
	return g.against()
}
