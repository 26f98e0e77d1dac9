package fingerprint

import (
	"encoding/binary"
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
// those through the PLT or GOT. It looks at every byte e8 and e9 whose distance
// leads to the start of a function, which is nearly always a call, instead of
// decoding everything: that takes a tenth of the time.
func (m *Module) graph() *graph {
	if m.edges != nil {
		return m.edges
	}
	g := &graph{calls: lists{ends: make([]int32, len(m.funcs))}}
	starts := newStarts(m)
	var callees []int32
	for i := range m.funcs {
		callees = callees[:0]
		f := &m.funcs[i]
		b := m.image.bytes(f.at, f.size)
		for off := 0; off+5 <= len(b); off++ {
			j := -1
			switch {
			case b[off]&0xfe == 0xe8:
				to := f.at.Add(int64(off) + 5 + int64(int32(binary.LittleEndian.Uint32(b[off+1:]))))
				if j = starts.function(to); j < 0 {
					j = starts.function(m.image.through(to))
				}
			case b[off] == 0xff && off+6 <= len(b) && (b[off+1] == 0x15 || b[off+1] == 0x25) && len(m.image.own) > 0: // call, jmp *slot(%rip)
				slot := f.at.Add(int64(off) + 6 + int64(int32(binary.LittleEndian.Uint32(b[off+2:]))))
				j = starts.function(m.image.own[slot])
			}
			if j >= 0 && j != i && len(g.calls.all)+len(callees) < maxEdges {
				callees = append(callees, int32(j))
			}
		}
		slices.Sort(callees)
		g.calls.all = append(g.calls.all, slices.Compact(callees)...)
		g.calls.ends[i] = int32(len(g.calls.all))
	}
	g.called = g.calls.turned()
	m.edges = g
	return g
}

// through returns the function of the file that a PLT entry at v leads to, or 0: an
// optional endbr64, then an indirect jump (psABI, 5.2).
func (im *image) through(v address.Vaddr) address.Vaddr {
	if len(im.own) == 0 {
		return 0
	}
	b := im.bytes(v, 11)
	if len(b) == 11 && b[0] == 0xf3 && b[1] == 0x0f && b[2] == 0x1e && b[3] == 0xfa {
		b, v = b[4:], v+4
	}
	if len(b) > 0 && b[0] == 0xf2 { // bnd
		b, v = b[1:], v+1
	}
	if len(b) < 6 || b[0] != 0xff || b[1] != 0x25 {
		return 0
	}
	return im.own[v.Add(6+int64(int32(binary.LittleEndian.Uint32(b[2:]))))]
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
