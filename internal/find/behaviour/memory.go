package behaviour

import (
	"math"

	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// inImage tells whether an address is one of the program.
func (m *run) inImage(a uint64) bool {
	if !m.nearImage(a) {
		return false
	}
	b, _ := m.p.Data(a-m.bias, 1)
	return len(b) > 0
}

// nearImage is inImage where that is cheap to tell, or else true.
func (m *run) nearImage(a uint64) bool { return a-m.bias < imageRoom }

// token is what an address stands for, where a linker or compiler chose it.
func (m *run) token(v uint64) (uint64, bool) {
	const stack, thread, code, variable, linked = 0x57ac, 0x7ead, 0xc0de, 0x6106, 0x11e7
	switch {
	case onStack(v):
		return stack, true
	case inThread(v):
		return thread, true
	case !m.nearImage(v) || m.bias == 0 && v < 0x10000:
		return 0, false
	}
	at := v - m.bias
	b, writable := m.p.Data(at, 8)
	if len(b) == 0 {
		return 0, false
	}
	if t := m.p.Text(at); t != nil {
		return hashText(string(t)), true
	}
	if len(m.p.Code(at, 1)) > 0 {
		return code, true
	}
	if writable {
		return variable, true
	}
	if _, _, ok := m.p.Linked(at &^ 7); ok {
		return linked, true
	}
	return word8(b), true
}

// number is a value of which only the lower half need be meant.
func (m *run) number(v uint64) uint64 {
	if t, ok := m.token(v); ok {
		return t
	}
	return v & math.MaxUint32
}

// initial is the word at a, a multiple of 8, before the run.
func (m *run) initial(a uint64) uint64 {
	switch {
	case onStack(a) && a >= entrySP:
		return shape(m.kind, mix(m.seed+0x77+a-entrySP))
	case onStack(a):
		return 0
	case inThread(a):
		return 0x5eed
	}
	if m.nearImage(a) {
		at := a - m.bias
		if b, _ := m.p.Data(at, 8); len(b) > 0 {
			switch name, to, ok := m.p.Linked(at); {
			case !ok:
				return word8(b)
			case name == "":
				return to + m.bias
			default:
				return m.imported(name)
			}
		}
	}
	return m.made(a)
}

// made is the word that the world has at a.
func (m *run) made(a uint64) uint64 {
	w := shape(m.kind, mix(a^m.seed))
	for i := range m.given {
		s := &m.given[i]
		if s.Kind != Memory {
			continue
		}
		for k := range uint64(s.Size) {
			if at := s.Key + k; at&^7 == a {
				shift := 8 * (at & 7)
				w = w&^(0xff<<shift) | s.Value>>(8*k)&0xff<<shift
			}
		}
	}
	return w
}

// isWorld tells whether the word at a is the world's.
func (m *run) isWorld(a uint64) bool { return !onStack(a) && !inThread(a) && !m.inImage(a) }

// imported is the address that stands for what is imported by a name.
func (m *run) imported(name string) uint64 {
	v := importAt + hashText(name)&math.MaxUint32<<4
	m.imports[v] = name
	return v
}

// held is a word that was written, and the bits of it that were.
type held struct{ value, written uint64 }

// word is the word at a, a multiple of 8, of which the bits that which has are looked at.
func (m *run) word(a, which uint64) uint64 {
	h, ok := m.memory[a]
	if !ok {
		h.value = m.initial(a)
	}
	if which&^h.written != 0 && m.isWorld(a) {
		m.see('R', a, 0)
	}
	return h.value
}

// load reads n bytes, at most 8.
func (m *run) load(a uint64, n int) uint64 {
	base, off := a&^7, a&7
	w := m.word(base, mask(n)<<(8*off)) >> (8 * off)
	if int(off)+n > 8 {
		w |= m.word(base+8, mask(n)>>(64-8*off)) << (64 - 8*off)
	}
	return w & mask(n)
}

// store writes n bytes, at most 8.
func (m *run) store(a uint64, n int, v uint64) {
	base, off := a&^7, a&7
	v &= mask(n)
	m.put(base, v<<(8*off), mask(n)<<(8*off))
	if int(off)+n > 8 {
		m.put(base+8, v>>(64-8*off), mask(n)>>(64-8*off))
	}
}

// put changes the bits of a word that which has.
func (m *run) put(a, v, which uint64) {
	h, ok := m.memory[a]
	if !ok && which != math.MaxUint64 {
		h.value = m.initial(a)
	}
	m.memory[a] = held{v | h.value&^which, h.written | which}
	if !onStack(a) && !inThread(a) && !m.isDirty[a] {
		m.isDirty[a] = true
		m.dirty = append(m.dirty, a)
	}
}

// flush takes down what was written since the last call. A compiler may reorder writes
// between two calls, and leave out those that are overwritten.
func (m *run) flush() {
	for _, a := range m.dirty {
		delete(m.isDirty, a)
		w := m.memory[a].value
		if t, ok := m.token(w); ok {
			w = t
		}
		if m.inImage(a) {
			m.see('G', w, 0)
		} else {
			m.see('W', a, w)
		}
	}
	m.dirty = m.dirty[:0]
}

func (m *run) push(v uint64) {
	m.regs[amd64.RSP] -= 8
	m.store(m.regs[amd64.RSP], 8, v)
}

func (m *run) pop() uint64 {
	v := m.load(m.regs[amd64.RSP], 8)
	m.regs[amd64.RSP] += 8
	return v
}
