package fingerprint

import (
	"math/bits"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// graph is which function calls which.
type graph struct{ calls, called lists }

// lists holds a list of functions for each function, ascending.
type lists struct {
	ends []int32 // where the list of each function ends, behind that of the one before
	all  []int32
}

func (l *lists) of(i int) []int32 {
	if i == 0 {
		return l.all[:l.ends[0]]
	}
	return l.all[l.ends[i-1]:l.ends[i]]
}

func (m *Module) callees(i int) []int32 { return m.graph().calls.of(i) }
func (m *Module) callers(i int) []int32 { return m.graph().called.of(i) }

// graph finds the calls between functions, when they are first asked for, also
// those through the PLT or GOT.
func (m *Module) graph() *graph {
	if m.edges != nil {
		return m.edges
	}
	const usual = 4 // functions that one calls
	g := &graph{calls: lists{ends: make([]int32, len(m.funcs)), all: make([]int32, 0, usual*len(m.funcs))}}
	starts := newStarts(m)
	var callees []int32
	for i := range m.funcs {
		callees = m.image.machine.calls(m, starts, i, callees[:0])
		callees = callees[:min(len(callees), maxEdges-len(g.calls.all))]
		slices.Sort(callees)
		g.calls.all = append(g.calls.all, slices.Compact(callees)...)
		g.calls.ends[i] = int32(len(g.calls.all))
	}
	g.called = g.calls.turned()
	m.edges = g
	return g
}

// turned returns the lists of who has each function in its list.
func (l *lists) turned() lists {
	out := lists{ends: make([]int32, len(l.ends)), all: make([]int32, len(l.all))}
	for _, j := range l.all {
		out.ends[j]++
	}
	sum := int32(0)
	for j, n := range out.ends { // where each list begins
		out.ends[j] = sum
		sum += n
	}
	for i := range l.ends {
		for _, j := range l.of(i) {
			out.all[out.ends[j]] = int32(i)
			out.ends[j]++ // at last, where it ends
		}
	}
	return out
}

// starts is a bit for every address between the first and the last function, and
// how many bits come before each word of it.
type starts struct {
	base   address.Vaddr
	bits   []uint64
	before []int32
}

func newStarts(m *Module) *starts {
	base := m.funcs[0].at
	span := uint64(m.funcs[len(m.funcs)-1].at-base) + 1
	if span > maxImage {
		return &starts{}
	}
	s := &starts{base: base, bits: make([]uint64, span/64+1), before: make([]int32, span/64+1)}
	for i := range m.funcs {
		d := uint64(m.funcs[i].at - base)
		s.bits[d/64] |= 1 << (d % 64)
	}
	n := 0
	for w := range s.bits {
		s.before[w] = int32(n)
		n += bits.OnesCount64(s.bits[w])
	}
	return s
}

// function returns the function that starts at v, or -1.
func (s *starts) function(v address.Vaddr) int {
	d := uint64(v - s.base)
	w := d / 64
	if w >= uint64(len(s.bits)) || s.bits[w]>>(d%64)&1 == 0 {
		return -1
	}
	return int(s.before[w]) + bits.OnesCount64(s.bits[w]&(1<<(d%64)-1))
}
