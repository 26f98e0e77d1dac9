package fingerprint

import (
	"debug/elf"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/behaviour"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// executable is a module as package behaviour executes it.
type executable struct {
	m       *Module
	linked  map[address.Vaddr]uint64 // addresses of the file that the dynamic linker writes
	stubs   map[uint64]stubTarget
	callees map[uint64]behaviour.Callee
	ends    map[endAt]bool
}

type stubTarget struct {
	name string
	to   uint64
}

// endAt is a question whether a function never returns, asked at a depth of calls.
type endAt struct{ fn, depth int }

const (
	// writtenOutSmall is how many instructions a function has that compilers write out in its
	// callers, and writtenOutOnce one that is called once.
	writtenOutSmall, writtenOutOnce = 25, 300
	// endDepth is how many calls deep it is looked whether a function returns, and endSize the
	// bytes of a function that is looked through for that.
	endDepth, endSize = 3, 4096
)

// runner executes the module's functions; nil where it is not for x86-64.
func (m *Module) runner() *behaviour.Runner {
	if m.executes != nil || m.Machine() != elf.EM_X86_64 {
		return m.executes
	}
	e := &executable{m: m, linked: map[address.Vaddr]uint64{}, stubs: map[uint64]stubTarget{}, callees: map[uint64]behaviour.Callee{}, ends: map[endAt]bool{}}
	for at, to := range m.keeps().to {
		e.linked[at] = uint64(to)
	}
	for at, to := range m.image.own {
		e.linked[at] = uint64(to)
	}
	m.executes = behaviour.NewRunner(e)
	return m.executes
}

func (e *executable) Fixed() bool { return e.m.file.Type == elf.ET_EXEC }

func (e *executable) Code(v uint64, n int) []byte {
	s := e.m.image.segment(address.Vaddr(v))
	if s == nil || s.flags&elf.PF_X == 0 {
		return nil
	}
	return s.bytes(address.Vaddr(v), uint64(n))
}

func (e *executable) Data(v uint64, n int) ([]byte, bool) {
	if s := e.m.image.segment(address.Vaddr(v)); s != nil {
		return s.bytes(address.Vaddr(v), uint64(n)), s.flags&elf.PF_W != 0
	}
	for i := range e.m.file.Segments { // what is not in the file is 0
		s := &e.m.file.Segments[i]
		if s.Type == elf.PT_LOAD && address.Vaddr(v) >= s.Vaddr && v-uint64(s.Vaddr) < s.Memsz {
			return make([]byte, n), true
		}
	}
	return nil, false
}

func (e *executable) Linked(v uint64) (string, uint64, bool) {
	if to, ok := e.linked[address.Vaddr(v)]; ok {
		return "", to, true
	}
	name, ok := e.m.image.names[address.Vaddr(v)]
	return name, 0, ok && name != ""
}

func (e *executable) Stub(v uint64) (string, uint64) {
	t, ok := e.stubs[v]
	if !ok {
		if slot, is := e.m.image.slot(address.Vaddr(v)); is && e.m.at(address.Vaddr(v)) < 0 {
			if t.to = uint64(e.m.image.own[slot]); t.to == 0 {
				t.name = e.m.image.names[slot]
			}
		}
		e.stubs[v] = t
	}
	return t.name, t.to
}

func (e *executable) Text(v uint64) []byte { return e.m.image.text(address.Vaddr(v)) }

func (e *executable) Same(a, b uint64) bool {
	i := e.m.around(address.Vaddr(a))
	return i >= 0 && i == e.m.around(address.Vaddr(b))
}

func (e *executable) Callee(v uint64) behaviour.Callee {
	c, ok := e.callees[v]
	if ok {
		return c
	}
	i := e.m.at(address.Vaddr(v))
	if i < 0 {
		c.Enter = true // a part that was split off
	} else {
		n := e.m.body(i).insns
		c.Enter = n <= writtenOutSmall || n <= writtenOutOnce && len(e.m.callers(i)) <= 1 && !e.m.exported(i)
		c.NoReturn = e.neverReturns(i, 0)
		reads := e.m.reads(i)
		for k, r := range argumentRegisters {
			if reads.Has(r) {
				c.Reads |= 1 << k
			}
		}
	}
	e.callees[v] = c
	return c
}

// neverReturns tells whether function i never returns: every way through it ends in a call of
// one that does not.
func (e *executable) neverReturns(i, depth int) bool {
	q := endAt{i, depth}
	never, ok := e.ends[q]
	if !ok {
		f := &e.m.funcs[i]
		never = depth < endDepth && f.size <= endSize && e.allEnd(f, depth)
		e.ends[q] = never
	}
	return never
}

// allEnd follows all ways through a function.
func (e *executable) allEnd(f *function, depth int) bool {
	code := append([]byte(nil), e.m.image.code(f.at, f.size)...)
	seen := make([]bool, len(code))
	for work := []int{0}; len(work) > 0; {
		off := work[len(work)-1]
		work = work[:len(work)-1]
		for off >= 0 && off < len(code) && !seen[off] {
			seen[off] = true
			in, err := amd64.Decode(code[off:], address.Addr(f.at)+address.Addr(off))
			if err != nil {
				return false
			}
			target, ends := e.goesOn(&in, f, depth)
			if target >= 0 {
				work = append(work, target)
			}
			switch {
			case !ends:
				off += in.Len
			case in.Flow == amd64.FlowReturn || in.Flow == amd64.FlowIndirectJump || in.Flow == amd64.FlowJump && target < 0 && !e.leadsNowhere(&in, depth):
				return false
			default:
				off = -1
			}
		}
	}
	return true
}

// goesOn tells where an instruction leads inside its function, -1 for nowhere, and whether
// what is behind it is not reached by it.
func (e *executable) goesOn(in *amd64.Inst, f *function, depth int) (target int, ends bool) {
	target = -1
	switch in.Flow {
	case amd64.FlowJump, amd64.FlowCond:
		if to := address.Vaddr(in.Target); to >= f.at && uint64(to-f.at) < f.size {
			target = int(to - f.at)
		}
	}
	switch in.Flow {
	case amd64.FlowReturn, amd64.FlowIndirectJump, amd64.FlowJump, amd64.FlowTrap:
		return target, true
	case amd64.FlowCall:
		return target, e.leadsNowhere(in, depth)
	}
	return target, false
}

// leadsNowhere tells whether a call or jump goes to a function that never returns.
func (e *executable) leadsNowhere(in *amd64.Inst, depth int) bool {
	v := uint64(in.Target)
	name, own := e.Stub(v)
	if name != "" {
		return behaviour.NoReturn(name)
	}
	if own != 0 {
		v = own
	}
	i := e.m.at(address.Vaddr(v))
	return i >= 0 && e.neverReturns(i, depth+1)
}
