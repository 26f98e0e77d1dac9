package fingerprint

import (
	"debug/elf"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Where the address of a function is kept says which function it is, whoever compiled it:
// in the row of a table that has a name in it, in the table of a class, in a variable
// that is exported, or handed over together with a text. Its code is not looked at for that.

const (
	// maxPointers bounds the pointers of a file that are looked at, and maxKept those to functions.
	maxPointers, maxKept = 1 << 20, 1 << 16
	// maxStride and maxBeside are, in words, how long a row is at most, and how far a name
	// is from the pointer in it.
	maxStride, maxBeside = 16, 8
	maxMethods           = 256 // functions of a class
	// maxHolders is how many places one function's address may be kept at to tell anything.
	maxHolders = 32
	word       = 8 // bytes
)

// pointers is where a module keeps the addresses of its functions.
type pointers struct {
	to             map[address.Vaddr]address.Vaddr // what is at a place
	of             map[int32][]address.Vaddr       // by function: the places, ascending
	takers         map[int32][]int32               // by function: the functions that take its address
	objects        []object                        // ascending
	rows           map[tableRow]table              // see inTable
	inData, inCode map[Feature]int32               // see pointed
}

// object is a variable that the file exports.
type object struct {
	at   address.Vaddr
	size uint64
	name string
}

// taken is a function whose address is taken in code, and what is handed over with it.
type taken struct {
	fn   int32
	with Feature // 0 for nothing
}

func (m *Module) keeps() *pointers {
	if m.kept != nil {
		return m.kept
	}
	p := &pointers{to: map[address.Vaddr]address.Vaddr{}, of: map[int32][]address.Vaddr{}, takers: map[int32][]int32{}, rows: map[tableRow]table{}}
	m.kept = p
	p.relocated(m)
	if m.file.Type == elf.ET_EXEC {
		p.absolute(m)
	}
	kept := 0
	for _, at := range slices.Sorted(maps.Keys(p.to)) {
		if i := m.at(p.to[at]); i >= 0 && kept < maxKept {
			p.of[int32(i)] = append(p.of[int32(i)], at)
			kept++
		}
	}
	starts := newStarts(m)
	for i := range m.funcs {
		for _, j := range m.image.machine.takes(m, starts, i) {
			if list := p.takers[j]; len(list) < maxHolders && !slices.Contains(list, int32(i)) {
				p.takers[j] = append(list, int32(i))
			}
		}
	}
	p.exported(m)
	return p
}

// relocated notes what the dynamic linker writes into the file's data.
func (p *pointers) relocated(m *Module) {
	relocs, err := m.file.Relocs()
	if err != nil {
		return // what cannot be read tells nothing
	}
	syms, err := m.file.DynSymbols()
	if err != nil {
		syms = nil
	}
	for _, r := range relocs[:min(len(relocs), maxPointers)] {
		name, slot := m.image.machine.named(uint32(r.Type))
		switch {
		case m.image.machine.relative(uint32(r.Type)):
			p.to[r.At] = address.Vaddr(r.Addend)
		case name && !slot && uint64(r.Sym) < uint64(len(syms)) && syms[r.Sym].Defined && !syms[r.Sym].IsIndirect():
			p.to[r.At] = syms[r.Sym].Value.Add(r.Addend)
		}
	}
}

// absolute notes the words of a program at a fixed place that are addresses of functions or
// of constant data.
func (p *pointers) absolute(m *Module) {
	for i := range m.image.segments {
		s := &m.image.segments[i]
		if s.flags&elf.PF_X != 0 {
			continue
		}
		skip := int(-uint64(s.at) % word)
		data := s.bytes(s.at, s.size)
		for off := skip; off+word <= len(data) && len(p.to) < maxPointers; off += word {
			v := address.Vaddr(binary.LittleEndian.Uint64(data[off:]))
			if v >= 0x10000 && m.image.segment(v) != nil {
				p.to[s.at.Add(int64(off))] = v
			}
		}
	}
}

func (p *pointers) exported(m *Module) {
	syms, err := m.file.DynSymbols()
	if err != nil {
		return
	}
	for i := range syms {
		if s := &syms[i]; s.Defined && s.Type == elf.STT_OBJECT && s.Size >= word && !strings.HasPrefix(s.Name, "_ZT") {
			p.objects = append(p.objects, object{s.Value, s.Size, s.Name})
		}
	}
	slices.SortFunc(p.objects, func(a, b object) int {
		if a.at != b.at {
			return int(int64(a.at - b.at))
		}
		return strings.Compare(a.name, b.name)
	})
}

// inData returns what tells of the places in data where the address of function i is kept.
func (m *Module) inData(i int) []Feature {
	p := m.keeps()
	var out []Feature
	for _, at := range p.of[int32(i)][:min(len(p.of[int32(i)]), maxHolders)] {
		out = append(out, p.row(m, at)...)
		out = append(out, p.method(m, at)...)
		out = append(out, p.inObject(at)...)
	}
	return ascending(out)
}

// handed returns what tells of the code that hands the address of function i over.
func (m *Module) handed(i int) []Feature {
	var out []Feature
	for _, j := range m.keeps().takers[int32(i)] {
		out = append(out, m.takenBy(int(j), int32(i))...)
	}
	return ascending(out)
}

func ascending(list []Feature) []Feature {
	slices.Sort(list)
	return slices.Compact(list)
}

// pointed returns which function a place leads to, -1 where it is several; ok is false where
// there is no such place.
func (m *Module) pointed(f Feature) (fn int32, ok bool) {
	p := m.keeps()
	inCode := f.Kind() >= KindHanded
	known := &p.inData
	if inCode {
		known = &p.inCode
	}
	if *known == nil {
		*known = map[Feature]int32{}
		note := func(i int32, places []Feature) {
			for _, f := range places {
				if j, ok := (*known)[f]; ok && j != i {
					(*known)[f] = -1
				} else {
					(*known)[f] = i
				}
			}
		}
		if inCode {
			for i := range p.takers {
				note(i, m.handed(int(i)))
			}
		} else {
			for i := range p.of {
				note(i, m.inData(int(i)))
			}
		}
	}
	fn, ok = (*known)[f]
	return fn, ok
}

// pointersTo returns what tells of places that lead to function i and to no other, ascending.
func (m *Module) pointersTo(i int) []Feature {
	return slices.DeleteFunc(append(m.inData(i), m.handed(i)...), func(f Feature) bool {
		fn, _ := m.pointed(f)
		return fn != int32(i)
	})
}

// pointerFeature is a place so far from what has a name.
func pointerFeature(k Kind, name uint64, distance int64) Feature {
	return feature(k, mix(name+mix(uint64(distance))))
}

// row names the place by the text nearest to it in its row of a table. The text is in its
// row, and not in the one before or after, when it is there in the first row and in the last.
func (p *pointers) row(m *Module, at address.Vaddr) []Feature {
	var out []Feature
	for _, direction := range []int64{-1, 1} {
		for n := int64(1); n <= maxBeside; n++ {
			beside := direction * n * word
			text := m.image.name(p.to[at.Add(beside)])
			if text == nil {
				continue
			}
			if p.inTable(m, at, beside) {
				out = append(out, pointerFeature(KindRow, hashBytes(text), beside))
			}
			break
		}
	}
	return out
}

// tableRow is a place in a table whose rows are so long, with a text so far from it.
type tableRow struct {
	at             address.Vaddr
	stride, beside int16
}

// table is how many rows there are, and whether all have the text.
type table struct {
	rows  int
	whole bool
}

// inTable tells whether the place is in a table, every row of which has a pointer to a
// function and a text so far from it. Of several lengths that rows can have it is the one
// with the most rows: every other row makes a table as well.
func (p *pointers) inTable(m *Module, at address.Vaddr, beside int64) bool {
	best := table{rows: 1}
	for stride := int64(2 * word); stride <= maxStride*word; stride += word {
		if max(beside, -beside) >= stride || !p.leads(m, at.Add(stride)) && !p.leads(m, at.Add(-stride)) {
			continue
		}
		t, known := p.rows[tableRow{at, int16(stride), int16(beside)}]
		if !known {
			t = p.table(m, at, stride, beside)
		}
		if t.rows > best.rows {
			best = t
		}
	}
	return best.whole
}

// leads tells whether there is a pointer to a function at a place.
func (p *pointers) leads(m *Module, at address.Vaddr) bool {
	to, ok := p.to[at]
	return ok && m.at(to) >= 0
}

// table looks at all rows of a table, and keeps the answer for each.
func (p *pointers) table(m *Module, at address.Vaddr, stride, beside int64) table {
	for p.leads(m, at.Add(-stride)) {
		at = at.Add(-stride)
	}
	t := table{whole: true}
	var rows []tableRow
	for ; p.leads(m, at); at = at.Add(stride) {
		t.whole = t.whole && m.image.name(p.to[at.Add(beside)]) != nil
		rows = append(rows, tableRow{at, int16(stride), int16(beside)})
	}
	t.rows = len(rows)
	for _, r := range rows {
		p.rows[r] = t
	}
	return t
}

// method names the place by the class whose table it is in, which begins with a pointer to
// what describes the class (Itanium C++ ABI, 2.5.2): to its name, behind another pointer.
func (p *pointers) method(m *Module, at address.Vaddr) []Feature {
	for n := int64(1); n <= maxMethods; n++ {
		v := at.Add(-n * word)
		if name := m.image.names[v]; strings.HasPrefix(name, "_ZTI") {
			return []Feature{pointerFeature(KindMember, hashBytes([]byte(name[len("_ZTI"):])), n)}
		} else if name != "" {
			continue // a function of another file
		}
		to, ok := p.to[v]
		switch {
		case !ok:
			return nil
		case m.at(to) >= 0:
			continue
		}
		if text := m.image.name(p.to[to.Add(word)]); text != nil {
			return []Feature{pointerFeature(KindMember, hashBytes(text), n)}
		}
		return nil
	}
	return nil
}

// inObject names the place by the exported variable that it is in.
func (p *pointers) inObject(at address.Vaddr) []Feature {
	i, ok := slices.BinarySearchFunc(p.objects, at, func(o object, at address.Vaddr) int { return int(int64(o.at - at)) })
	if !ok {
		i--
	}
	if i < 0 || uint64(at-p.objects[i].at) >= p.objects[i].size {
		return nil
	}
	return []Feature{pointerFeature(KindMember, hashBytes([]byte(p.objects[i].name)), -1-int64(at-p.objects[i].at))}
}

// takenBy names what function j hands over with the address of function i: a text of the
// same call, or its own texts and imports where it takes no other address.
func (m *Module) takenBy(j int, i int32) []Feature {
	b := m.body(j)
	var out []Feature
	alone := true
	for _, t := range b.taken {
		switch {
		case t.fn != i:
			alone = false
		case t.with != 0:
			out = append(out, pointerFeature(KindHanded, t.with.hash(), 0))
		}
	}
	if said := saidBy(b.features); alone && said != 0 {
		out = append(out, pointerFeature(KindTaken, said, 0))
	}
	return out
}

// name returns the C string at v, of two characters at least, as tables have it.
func (im *image) name(v address.Vaddr) []byte {
	if v == 0 {
		return nil
	}
	if s := im.segment(v); s == nil || s.flags&elf.PF_X != 0 {
		return nil
	}
	b := im.constant(v, maxString)
	for i, c := range b {
		switch {
		case c == 0 && i >= leastName:
			return b[:i]
		case c < 0x20 || c >= 0x7f:
			return nil
		}
	}
	return nil
}

// leastName is the least length of a name in a table.
const leastName = 2
