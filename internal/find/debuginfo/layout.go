package debuginfo

import (
	"cmp"
	"debug/dwarf"
	"errors"
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// maxMembers bounds the members of one struct.
const maxMembers = 8192

// Layout is how a struct, class or union lies in memory.
type Layout struct {
	Name    string // as it was asked for
	Size    int64  // bytes; −1 when it is not known
	Union   bool
	At      dwarf.Offset // of its entry, which tells it from others
	Members []Member     // by offset; of a union all at 0
}

// Member is a field of a struct, or a base class.
type Member struct {
	Name   string // empty for an anonymous struct or union
	Offset int64
	Type   Type
	Bits   bool // a bit-field: Offset is that of the bytes that hold it, or −1
	// Of a bit-field whose place is known: its first bit, counted from the least
	// significant one of the struct's first byte, and how many it has; else 0.
	FirstBit, BitSize int64
	// Of an array, Elem is what it is made of and Dims how many there are, the
	// outermost first; Dims is nil otherwise, and Elem the type again.
	Elem Type
	Dims []int64
	// Within tells of a struct by value, or an array of such, where its own
	// layout is: for LayoutAt.
	Within dwarf.Offset
}

// Layout returns the complete struct of a name, a tag or a typedef; that of the
// function at near, when that is not 0 and several are called so.
// ErrUnknownType when there is none.
func (i *Info) Layout(name string, near address.Vaddr) (*Layout, error) {
	var s *dwarf.Entry
	var err error
	if near != 0 {
		s, err = i.findStruct(near, name)
	} else {
		s, err = i.anywhere(name)
	}
	if err != nil {
		return nil, fmt.Errorf("struct %s: %w", name, err)
	}
	return i.layout(name, s)
}

// anywhere looks for a struct in all units, and when there is none also in the structs and
// classes there, as far as the bounds let it.
func (i *Info) anywhere(name string) (*dwarf.Entry, error) {
	s, err := i.structIn(i.data.Reader(), name, false, false)
	if s != nil || err != nil {
		return s, err
	}
	s, err = i.structIn(i.data.Reader(), name, false, true)
	if s == nil && (err == nil || errors.Is(err, errTooMuch)) {
		err = ErrUnknownType
	}
	return s, err
}

// LayoutAt returns the layout of a struct that a Member has.
func (i *Info) LayoutAt(name string, at dwarf.Offset) (*Layout, error) {
	r := i.data.Reader()
	r.Seek(at)
	s, err := i.next(r)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, fmt.Errorf("struct %s: %w", name, ErrUnknownType)
	}
	return i.layout(name, s)
}

// maxNested bounds anonymous structs in anonymous structs.
const maxNested = 16

// Flat returns the members of a struct, by offset, with those of its anonymous
// structs and unions, and of its base classes, among them.
func (i *Info) Flat(l *Layout) ([]Member, error) {
	var out []Member
	if err := i.flatten(&out, l, 0, 0); err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b Member) int { return cmp.Compare(a.Offset, b.Offset) })
	return out, nil
}

func (i *Info) flatten(out *[]Member, l *Layout, base int64, depth int) error {
	if depth > maxNested || len(*out) > maxMembers {
		return errTooMuch
	}
	for _, m := range l.Members {
		if m.Offset >= 0 {
			m.Offset += base
			m.FirstBit += 8 * base
		}
		if m.Name != "" || m.Within == 0 || m.Dims != nil || m.Elem.Kind == Pointer {
			*out = append(*out, m)
			continue
		}
		inner, err := i.LayoutAt(l.Name, m.Within)
		if err != nil {
			return err
		}
		if err := i.flatten(out, inner, m.Offset, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (i *Info) layout(name string, s *dwarf.Entry) (*Layout, error) {
	l := &Layout{Name: name, Size: sizeOf(s), Union: s.Tag == dwarf.TagUnionType, At: s.Offset}
	if !s.Children {
		return l, nil
	}
	r := i.data.Reader()
	r.Seek(s.Offset)
	if _, err := i.next(r); err != nil {
		return nil, err
	}
	for {
		e, err := i.next(r)
		if err != nil {
			return nil, err
		}
		if e == nil || e.Tag == 0 {
			break
		}
		if e.Tag == dwarf.TagMember || e.Tag == dwarf.TagInheritance {
			m, placed, err := i.member(e, l.Union)
			if err != nil {
				return nil, err
			}
			if placed {
				l.Members = append(l.Members, m)
			}
		}
		if len(l.Members) > maxMembers {
			return nil, errTooMuch
		}
		r.SkipChildren()
	}
	slices.SortStableFunc(l.Members, func(a, b Member) int { return cmp.Compare(a.Offset, b.Offset) })
	return l, nil
}

// member reads one member; placed is false for static members and virtual bases.
func (i *Info) member(e *dwarf.Entry, union bool) (m Member, placed bool, err error) {
	if m.Name, err = nameIn(e); err != nil {
		return m, false, err
	}
	m.Bits = e.Val(dwarf.AttrBitSize) != nil
	m.Offset, placed = e.Val(dwarf.AttrDataMemberLoc).(int64)
	if placed && m.Bits {
		m.FirstBit, m.BitSize = firstBit(e, m.Offset)
	}
	if !placed && m.Bits {
		m.Offset, placed = -1, true
		if at, ok := e.Val(dwarf.AttrDataBitOffset).(int64); ok && at >= 0 {
			m.Offset = at / 8
			m.FirstBit = at
			m.BitSize, _ = e.Val(dwarf.AttrBitSize).(int64)
		}
	}
	if !placed && union && e.Val(dwarf.AttrExternal) == nil {
		placed = true
	}
	if !placed {
		return m, false, nil
	}
	if m.Type, err = i.typeOf(e); err != nil {
		return m, false, err
	}
	err = i.elements(&m, e)
	return m, true, err
}

// firstBit places a bit-field as DWARF 2 to 4 do: by how far its highest bit is from that
// of the bytes that hold it (DWARF 4, 5.5.6).
func firstBit(e *dwarf.Entry, offset int64) (first, size int64) {
	holds, _ := e.Val(dwarf.AttrByteSize).(int64)
	from, known := e.Val(dwarf.AttrBitOffset).(int64)
	size, _ = e.Val(dwarf.AttrBitSize).(int64)
	first = 8*(offset+holds) - from - size
	if !known || holds <= 0 || size <= 0 || first < 0 {
		return 0, 0
	}
	return first, size
}

// elements fills in what an array is made of, and which struct a member has by
// value.
func (i *Info) elements(m *Member, e *dwarf.Entry) error {
	m.Elem = m.Type
	for range maxTypes {
		off, ok, err := reference(e, dwarf.AttrType)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		r := i.data.Reader()
		r.Seek(off)
		next, err := i.next(r)
		if err != nil || next == nil {
			return err
		}
		switch next.Tag {
		case dwarf.TagArrayType:
			dims, err := i.dimensions(r, next)
			if err != nil {
				return err
			}
			m.Dims = append(m.Dims, dims...)
			if m.Elem, err = i.typeOf(next); err != nil {
				return err
			}
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType:
			m.Within = next.Offset
			return nil
		case dwarf.TagPointerType:
			return nil
		}
		e = next
	}
	return nil
}

// dimensions returns the length of each dimension of an array; −1 when one is
// not a constant.
func (i *Info) dimensions(r *dwarf.Reader, array *dwarf.Entry) ([]int64, error) {
	var dims []int64
	for array.Children && len(dims) < maxTypes {
		e, err := i.next(r)
		if err != nil {
			return nil, err
		}
		if e == nil || e.Tag == 0 {
			break
		}
		n, ok := e.Val(dwarf.AttrCount).(int64)
		if !ok {
			upper, known := e.Val(dwarf.AttrUpperBound).(int64)
			if n = upper + 1; !known || n < 0 {
				n = -1
			}
		}
		dims = append(dims, n)
		r.SkipChildren()
	}
	return dims, nil
}

// structTo names the struct that a pointer points to, empty for something else.
func (i *Info) structTo(pointer *dwarf.Entry) (string, error) {
	name, e := "", pointer
	for range maxTypes {
		off, ok, err := reference(e, dwarf.AttrType)
		if err != nil {
			return "", err
		}
		if !ok {
			return "", nil
		}
		r := i.data.Reader()
		r.Seek(off)
		next, err := i.next(r)
		if err != nil || next == nil {
			return "", err
		}
		e = next
		if n, ok := e.Val(dwarf.AttrName).(string); ok && name == "" {
			name = n
		}
		switch e.Tag {
		case dwarf.TagStructType, dwarf.TagClassType:
			return name, nil
		case dwarf.TagTypedef, dwarf.TagConstType, dwarf.TagVolatileType:
			continue
		}
		return "", nil
	}
	return "", nil
}
