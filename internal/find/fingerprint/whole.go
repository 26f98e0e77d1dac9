package fingerprint

import (
	"fmt"
	"slices"
)

// Whole is a build as a graph: every function with a few numbers that tell it from most
// others, and which calls which. A fingerprint that carries it says not only what its
// target is like but where everything else of the build has gone, so that a function that
// looks like the target and is another one can be told to be that.
type Whole struct {
	nodes  []node
	calls  lists
	called lists
}

// node is one function. The hashes are hashBits wide, and 0 where they tell nothing.
type node struct {
	insns   int32
	code    uint64 // of the code without what the linker fills in
	outline uint64 // of the operations alone
	said    uint64 // of its texts and imports: what another compiler leaves as it is
}

// Bounds of a build that a fingerprint carries. A larger one is refused, not cut.
const (
	maxNodes     = 1 << 18
	maxNodeCalls = 1 << 21
)

// leastNode is the number of instructions below which a function tells nothing of itself.
const leastNode = 5

// TooLarge says that a build has more than a fingerprint can carry whole.
type TooLarge struct{ Functions, Calls int }

func (e *TooLarge) Error() string {
	return fmt.Sprintf("%d functions with %d calls are more than a fingerprint carries whole (%d and %d)", e.Functions, e.Calls, maxNodes, maxNodeCalls)
}

// Functions returns how many functions the build has, and Calls how many pairs of them
// call each other.
func (w *Whole) Functions() int { return len(w.nodes) }
func (w *Whole) Calls() int     { return len(w.calls.all) }

// Whole describes the module for fingerprints of its functions. Errors: *TooLarge.
func (m *Module) Whole() (*Whole, error) {
	if m.overall != nil {
		return m.overall, nil
	}
	g := m.graph()
	if len(m.funcs) > maxNodes || len(g.calls.all) > maxNodeCalls {
		return nil, &TooLarge{len(m.funcs), len(g.calls.all)}
	}
	w := &Whole{nodes: make([]node, len(m.funcs)), calls: g.calls, called: g.called}
	for i := range m.funcs {
		w.nodes[i] = m.node(i)
	}
	m.overall = w
	return w, nil
}

// node describes function i. Where nothing else was asked of it, no other of its features
// are taken, which are most of the work and the memory.
func (m *Module) node(i int) node {
	if b := m.bodies[i]; b != nil {
		return nodeOf(b)
	}
	return nodeOf(m.readWith(&bodyReader{m: m, self: i, said: true}))
}

func nodeOf(b *body) node {
	n := node{insns: int32(b.insns)}
	if b.whole && b.insns >= leastNode {
		n.code, n.outline, n.said = low(b.exact), low(b.outline), saidBy(b.features)
	}
	return n
}

// low is the part of a hash that is carried.
func low(hash uint64) uint64 { return hash & (1<<hashBits - 1) }

// saidBy is a hash of the texts and imports among features, or 0 where there are too few:
// one import, or none, is what many functions have.
func saidBy(features []Feature) uint64 {
	h, texts, imports := uint64(1), 0, 0
	for _, f := range features {
		switch f.Kind() {
		case KindString:
			texts++
		case KindImport:
			imports++
		default:
			continue
		}
		h = mix(h + uint64(f))
	}
	if texts == 0 && imports < 2 {
		return 0
	}
	return low(h)
}

// carriesWhole tells whether a build of the fingerprint is there whole.
func (fp *Fingerprint) carriesWhole() bool {
	return slices.ContainsFunc(fp.References, func(r Reference) bool { return r.Whole != nil })
}
