package fingerprint

import (
	"debug/elf"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// body is what the code of one function, with the parts split off from it, is
// made of.
type body struct {
	whole    bool // every byte was decoded
	insns    int  // without padding
	exact    uint64
	outline  uint64    // hash of the operations alone: it survives another layout of structures
	features []Feature // ascending, each once
	parts    []int32   // functions that are parts of this one
	taken    []taken   // functions whose addresses it takes

	isRated bool
	rated   rated     // when isRated
	around  []Feature // see context; nil until asked for
}

const (
	maxParts      = 8
	maxNeighbours = 16 // callers or callees whose texts count
	// smallest is the number of instructions below which a function is too like
	// others to be recognized.
	smallest = 10
)

// bodyReader collects a body.
type bodyReader struct {
	m    *Module
	self int
	b    *body
	// texts collects texts by feature, when it is not nil.
	texts map[Feature]string
	// said leaves out the features that are not part of "the same code": see Module.node.
	said bool
	at   address.Vaddr // of what is being read: the function or a part
	size uint64

	hash         uint64
	gram         [2]uint64
	jumps, loops int
	calls        int
	away         []departure
	hand         hand
}

// departure is a jump that leaves the function.
type departure struct {
	to   address.Vaddr
	cond bool
}

func (m *Module) readBody(i int) *body {
	return m.readInto(i, nil)
}

// texts returns what the text features of function i stand for.
func (m *Module) texts(i int) map[Feature]string {
	texts := map[Feature]string{}
	m.readInto(i, texts)
	return texts
}

func (m *Module) readInto(i int, texts map[Feature]string) *body {
	return m.readWith(&bodyReader{m: m, self: i, texts: texts})
}

func (m *Module) readWith(r *bodyReader) *body {
	f := &m.funcs[r.self]
	r.b, r.hash = &body{whole: true}, 0x9e3779b97f4a7c15
	if f.size > maxFunctionSize {
		r.b.whole = false
		return r.b
	}
	r.b.features = m.scratch[:0]
	r.read(f.at, f.size)
	for k := 0; k < len(r.away) && len(r.b.parts) < maxParts; k++ {
		if j := r.partOf(r.away[k]); j >= 0 && !slices.Contains(r.b.parts, int32(j)) {
			r.b.parts = append(r.b.parts, int32(j))
			r.read(m.funcs[j].at, m.funcs[j].size)
		}
	}
	r.shape()
	m.scratch = r.b.features[:0]
	slices.Sort(r.b.features)
	r.b.features = slices.Clone(slices.Compact(r.b.features))
	r.b.exact = r.exact()
	return r.b
}

// exact is the hash of the code and, in place of what the linker fills in, of
// what that leads to: functions that differ in their texts only are not the same.
func (r *bodyReader) exact() uint64 {
	h := r.hash
	for _, f := range r.b.features {
		if f.Kind() <= KindConstant {
			h = mix(h + uint64(f))
		}
	}
	return mix(h)
}

func (r *bodyReader) read(at address.Vaddr, size uint64) {
	r.at, r.size = at, size
	r.gram = [2]uint64{}
	r.b.whole = r.m.image.machine.read(r) && r.b.whole
	r.handOver(false)
}

// partOf returns the function that a jump away shows to be a split-off part of
// this one, or -1. Compilers move unlikely code elsewhere (.cold); such a part is
// entered by a conditional jump and called by nobody, or entered in its middle.
func (r *bodyReader) partOf(d departure) int {
	j := r.m.around(d.to)
	if j < 0 || j == r.self || r.m.funcs[j].size > maxFunctionSize || len(r.m.callers(j)) > 0 {
		return -1
	}
	if d.to == r.m.funcs[j].at && !d.cond {
		return -1
	}
	return j
}

func (r *bodyReader) inside(v address.Vaddr) bool { return uint64(v-r.at) < r.size }

// refer notes the import that a call or tail call leads to.
func (r *bodyReader) refer(to address.Vaddr) {
	if name := r.m.imported(to); name != "" {
		r.text(KindImport, []byte(name))
	}
}

// Bounds of what one call is given, and of the addresses that a function takes.
const maxHand, maxTaken = 32, 4096

// hand is what was prepared since the last call: addresses of functions, and texts.
type hand struct {
	fns   []int32
	texts []Feature
}

// handOver ends what was prepared: a call takes it, or a jump goes elsewhere.
func (r *bodyReader) handOver(call bool) {
	for k, fn := range r.hand.fns {
		if slices.Contains(r.hand.fns[:k], fn) || len(r.b.taken) >= maxTaken {
			continue
		}
		one := call && !slices.ContainsFunc(r.hand.fns, func(o int32) bool { return o != fn })
		if !one || len(r.hand.texts) == 0 {
			r.b.taken = append(r.b.taken, taken{fn: fn})
			continue
		}
		for _, text := range r.hand.texts {
			r.b.taken = append(r.b.taken, taken{fn, text})
		}
	}
	r.hand.fns, r.hand.texts = r.hand.fns[:0], r.hand.texts[:0]
}

// take notes that the address of a function is taken.
func (r *bodyReader) take(v address.Vaddr) {
	if i := r.m.at(v); i >= 0 && i != r.self && len(r.hand.fns) < maxHand {
		r.hand.fns = append(r.hand.fns, int32(i))
	}
}

func (r *bodyReader) text(k Kind, s []byte) {
	f := textFeature(k, s)
	r.b.features = append(r.b.features, f)
	if r.texts != nil {
		r.texts[f] = string(s)
	}
}

func (r *bodyReader) add(f Feature) {
	if !r.said || f.Kind() <= KindConstant {
		r.b.features = append(r.b.features, f)
	}
}

// address adds what is at an address that the code names: a text, a named slot,
// or, where it is loaded from, a constant.
func (r *bodyReader) address(v address.Vaddr, loaded bool) {
	im := r.m.image
	if name := im.names[v]; name != "" {
		r.text(KindImport, []byte(name))
		return
	}
	s := im.segment(v)
	if s != nil && s.flags&elf.PF_X != 0 && !loaded {
		r.take(v)
	}
	if s == nil || s.flags&elf.PF_W != 0 || s.flags&elf.PF_X != 0 && r.m.around(v) >= 0 {
		return
	}
	if s := im.name(v); s != nil && !loaded && len(r.hand.texts) < maxHand {
		r.hand.texts = append(r.hand.texts, textFeature(KindString, s))
	}
	if s := im.text(v); s != nil {
		r.text(KindString, s)
		return
	}
	if !loaded {
		return
	}
	if b := im.constant(v, 8); len(b) == 8 {
		r.add(textFeature(KindConstant, b))
	}
}

// operation adds the sequence of three operations that ends here. A token is never 0.
func (r *bodyReader) operation(token uint64) {
	r.b.outline = mix(r.b.outline + token + 1)
	if r.gram[0] != 0 && !r.said {
		r.add(numberFeature(KindGram, r.gram[0]*0x9e3779b97f4a7c15+r.gram[1]*0xbf58476d1ce4e5b9+token))
	}
	r.gram[0], r.gram[1] = r.gram[1], token|1<<40
}

func (r *bodyReader) shape() {
	if r.said {
		return
	}
	for i, n := range []int{r.b.insns, r.jumps, r.loops, r.calls} {
		r.add(numberFeature(KindShape, uint64(i)<<32|magnitude(n)))
	}
}

// context returns the texts and imports of the functions that i calls and that
// call it, ascending. Functions with many callers have no context worth it.
func (m *Module) context(i int) []Feature {
	if b := m.body(i); b.around != nil {
		return b.around
	}
	out := []Feature{}
	gather := func(others []int32, text, name Kind) {
		if len(others) > maxNeighbours {
			return
		}
		for _, j := range others {
			for _, f := range m.body(int(j)).features {
				switch f.Kind() {
				case KindString:
					out = append(out, f.as(text))
				case KindImport:
					out = append(out, f.as(name))
				}
			}
		}
	}
	gather(m.callees(i), KindCalleeString, KindCalleeImport)
	gather(m.callers(i), KindCallerString, KindCallerImport)
	slices.Sort(out)
	out = slices.Compact(out)
	m.body(i).around = out
	return out
}
