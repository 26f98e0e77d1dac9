package author

import (
	"cmp"
	"debug/dwarf"
	"errors"
	"fmt"
	"go/format"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
)

// Bounds of what is written.
const (
	maxStructs = 64
	maxNested  = 16   // structs in structs
	maxFields  = 4096 // of all structs together
)

var errTooMuch = errors.New("more structs or fields than are written at once: name the fields that are needed, as in TYPE:FIELD,FIELD")

// mirrors collects the Go structs that mirror those of a program.
type mirrors struct {
	info *debuginfo.Info
	near address.Vaddr
	// names are the Go names of structs by the names that the program has for
	// them, of what is written and of what is asked for.
	names  map[string]string
	taken  map[string]bool
	wanted map[dwarf.Offset]request // what is asked for
	done   map[dwarf.Offset]goType  // what is written
	texts  []string
	fields int
	addrs  bool // pointers are addresses, whatever they point to
}

// request is a struct that is asked for.
type request struct {
	layout *debuginfo.Layout
	name   string   // in Go
	fields []string // nil for all
}

func newMirrors(info *debuginfo.Info, near address.Vaddr) *mirrors {
	return &mirrors{info: info, near: near, names: map[string]string{}, taken: map[string]bool{},
		wanted: map[dwarf.Offset]request{}, done: map[dwarf.Offset]goType{}}
}

// Mirrors writes Go structs that lie in memory as those of the program do. Each
// of wanted is the name of a struct, class or typedef, or TYPE:FIELD,FIELD for
// these fields alone. Structs that are part of one are written, too; a pointer to
// one that was asked for has its type. near is a function whose compilation unit
// is looked at first, or 0.
func Mirrors(info *debuginfo.Info, near address.Vaddr, wanted []string) ([]byte, error) {
	m := newMirrors(info, near)
	var order []dwarf.Offset
	for _, w := range wanted {
		name, fields := split(w)
		l, err := info.Layout(name, near)
		if err != nil {
			return nil, err
		}
		if _, twice := m.wanted[l.At]; !twice {
			order = append(order, l.At)
		}
		m.wanted[l.At] = request{l, m.name(name), fields}
	}
	for _, at := range order {
		r := m.wanted[at]
		if _, err := m.write(r.name, r.layout, r.fields, 0); err != nil {
			return nil, err
		}
	}
	return m.formatted()
}

// formatted is what was written, as gofmt has it.
func (m *mirrors) formatted() ([]byte, error) {
	return format.Source([]byte(strings.Join(m.texts, "\n")))
}

// TypeNamed is the name of the struct in one of the wanted that Mirrors takes.
func TypeNamed(wanted string) string {
	name, _ := split(wanted)
	return name
}

// split parts TYPE:FIELD,FIELD, with or without the "struct" that C wants before
// it; a namespace of C++ is not looked at.
func split(wanted string) (name string, fields []string) {
	for _, word := range []string{"struct ", "class ", "union "} {
		wanted = strings.TrimPrefix(wanted, word)
	}
	args := "" // of a template, with namespaces of their own
	if open := strings.IndexByte(wanted, '<'); open > 0 {
		if end := strings.LastIndexByte(wanted, '>'); end > open {
			args, wanted = wanted[open:end+1], wanted[:open]+wanted[end+1:]
		}
	}
	if cut := strings.LastIndex(wanted, "::"); cut >= 0 {
		wanted = wanted[cut+2:]
	}
	name, list, some := strings.Cut(wanted, ":")
	if some {
		fields = strings.Split(list, ",")
	}
	return name + args, fields
}

// name gives a struct of the program a Go name of its own.
func (m *mirrors) name(of string) string {
	if n := m.names[of]; n != "" {
		return n
	}
	n := m.free(of)
	m.names[of] = n
	return n
}

// free is a Go name for a struct of the program that no other has.
func (m *mirrors) free(of string) string {
	n := cmp.Or(typeName(of), "unnamed")
	for k := 2; m.taken[n]; k++ {
		n = fmt.Sprintf("%s%d", cmp.Or(typeName(of), "unnamed"), k)
	}
	m.taken[n] = true
	return n
}

// goType is a type in Go: its text, its size and alignment in bytes.
type goType struct {
	text        string
	size, align int64
}

// write writes one struct, unless that was done, and returns its type.
func (m *mirrors) write(name string, l *debuginfo.Layout, fields []string, depth int) (goType, error) {
	if t, ok := m.done[l.At]; ok {
		return t, nil
	}
	if len(m.texts) >= maxStructs || depth > maxNested {
		return goType{}, errTooMuch
	}
	if l.Size < 0 {
		return goType{}, fmt.Errorf("struct %s: its size is not known", l.Name)
	}
	place := len(m.texts)
	m.texts = append(m.texts, "")
	members, err := m.info.Flat(l)
	if err != nil {
		return goType{}, err
	}
	if fields != nil {
		if members, err = chosen(members, l.Name, fields); err != nil {
			return goType{}, err
		}
	}
	body := &body{total: l.Size, used: map[string]bool{}}
	for _, f := range members {
		if m.fields++; m.fields > maxFields {
			return goType{}, errTooMuch
		}
		if f.Bits || f.Offset < body.at || l.Union && fields == nil {
			body.leave(f)
			continue
		}
		t, err := m.fieldType(name, f, depth)
		if err != nil {
			return goType{}, err
		}
		body.field(f, t)
	}
	body.pad(l.Size)
	what := "struct"
	if l.Union {
		what = "union"
	}
	m.texts[place] = fmt.Sprintf("// %s is the program's %s %s, %d bytes.\n%stype %s struct {\n%s}\n", name, what, comment(l.Name), l.Size, body.leftOut(), name, body.text.String())
	m.done[l.At] = goType{name, l.Size, body.align}
	return m.done[l.At], nil
}

// chosen keeps the members of these names.
func chosen(members []debuginfo.Member, of string, fields []string) ([]debuginfo.Member, error) {
	var out []debuginfo.Member
	for _, name := range fields {
		at := slices.IndexFunc(members, func(f debuginfo.Member) bool { return f.Name == name })
		if at < 0 {
			var known []string
			for _, f := range members[:min(len(members), 40)] {
				known = append(known, f.Name)
			}
			return nil, fmt.Errorf("struct %s has no field %q; it has %s", of, name, strings.Join(known, ", "))
		}
		if members[at].Bits {
			return nil, fmt.Errorf("struct %s: %s is a bit-field, which a mirror cannot have: mirror the bytes around it", of, name)
		}
		out = append(out, members[at])
	}
	slices.SortStableFunc(out, func(a, b debuginfo.Member) int { return cmp.Compare(a.Offset, b.Offset) })
	return out, nil
}

// fieldType is the Go type of a member; of size 0 when it cannot be had.
func (m *mirrors) fieldType(parent string, f debuginfo.Member, depth int) (goType, error) {
	element, err := m.elementType(parent, f, depth)
	if err != nil || element.size <= 0 {
		return goType{}, err
	}
	for _, n := range slices.Backward(f.Dims) {
		if n <= 0 || element.size > 1<<40/n {
			return goType{}, nil // a flexible array is behind the struct
		}
		element.text, element.size = fmt.Sprintf("[%d]%s", n, element.text), element.size*n
	}
	return element, nil
}

func (m *mirrors) elementType(parent string, f debuginfo.Member, depth int) (goType, error) {
	t := f.Elem
	switch {
	case t.Kind == debuginfo.Pointer:
		if n := m.names[t.Points]; n != "" && t.Points != "" && !m.addrs {
			return goType{"*" + n, 8, 8}, nil
		}
		return goType{"libpie.Addr", 8, 8}, nil
	case t.Bool && t.Size == 1:
		return goType{"bool", 1, 1}, nil
	case t.Size != 1 && t.Size != 2 && t.Size != 4 && t.Size != 8:
	case t.Kind == debuginfo.Signed:
		return goType{fmt.Sprintf("int%d", 8*t.Size), t.Size, t.Size}, nil
	case t.Kind == debuginfo.Unsigned, t.Kind == debuginfo.Float:
		return goType{fmt.Sprintf("uint%d", 8*t.Size), t.Size, t.Size}, nil
	}
	if f.Within != 0 && t.Kind == debuginfo.Other {
		return m.nested(parent, f, depth)
	}
	return goType{fmt.Sprintf("[%d]byte", t.Size), t.Size, 1}, nil
}

// nested is the type of a struct that is part of another.
func (m *mirrors) nested(parent string, f debuginfo.Member, depth int) (goType, error) {
	switch tag := f.Elem.Struct; {
	case tag == "string":
		return goType{"libpie.GoString", 16, 8}, nil
	case strings.HasPrefix(tag, "[]"):
		return goType{"libpie.GoSlice", 24, 8}, nil
	case tag == "runtime.iface" || tag == "runtime.eface":
		return goType{"libpie.GoInterface", 16, 8}, nil
	}
	l, err := m.info.LayoutAt(f.Elem.Name, f.Within)
	if err != nil {
		return goType{}, err
	}
	if l.Union || l.Size <= 0 {
		return goType{fmt.Sprintf("[%d]byte", max(l.Size, 0)), l.Size, 1}, nil
	}
	if r, ok := m.wanted[l.At]; ok {
		return m.write(r.name, l, r.fields, depth+1)
	}
	if t, ok := m.done[l.At]; ok {
		return t, nil
	}
	l.Name = cmp.Or(f.Elem.Name, parent+exported(identifier(f.Name)))
	return m.write(m.free(l.Name), l, nil, depth+1)
}

// body is the inside of a struct.
type body struct {
	text      strings.Builder
	at, total int64
	align     int64
	used      map[string]bool
	left      []string // what is left out, and where it is
}

// maxLeft bounds the members that are said to be left out.
const maxLeft = 16

// leave notes a member that is padding in the mirror.
func (b *body) leave(f debuginfo.Member) {
	if f.Name == "" || f.Type.Size == 0 {
		return
	}
	where := fmt.Sprintf("at %d", f.Offset)
	switch {
	case f.Bits && f.BitSize > 0:
		where = fmt.Sprintf("bits %d to %d from byte %d", f.FirstBit%8, f.FirstBit%8+f.BitSize-1, f.FirstBit/8)
	case f.Bits:
		where = "bits"
	case f.Offset >= b.total:
		where = fmt.Sprintf("from %d on", f.Offset)
	}
	b.left = append(b.left, comment(f.Name)+" ("+where+")")
}

// leftOut is a comment that tells of them.
func (b *body) leftOut() string {
	if len(b.left) == 0 {
		return ""
	}
	list := b.left
	if len(list) > maxLeft {
		list = append(slices.Clone(list[:maxLeft]), "…")
	}
	return "// Left out: " + strings.Join(list, ", ") + ".\n"
}

// field adds a member, with padding in front of it. What Go would align
// otherwise than the program becomes bytes.
func (b *body) field(f debuginfo.Member, t goType) {
	name := identifier(f.Name)
	if t.size <= 0 || f.Offset+t.size > b.total || name == "" {
		b.leave(f)
		return
	}
	if b.used[name] {
		if name = exported(name); b.used[name] {
			b.leave(f)
			return
		}
	}
	if f.Offset%t.align != 0 || b.total%t.align != 0 {
		t = goType{fmt.Sprintf("[%d]byte", t.size), t.size, 1}
	}
	b.used[name] = true
	b.pad(f.Offset)
	written := f.Type.Name
	if len(f.Dims) > 0 {
		written = f.Elem.Name
	}
	fmt.Fprintf(&b.text, "\t%s %s", name, t.text)
	if written = comment(written); written != "" {
		fmt.Fprintf(&b.text, " // %s", written)
	}
	b.text.WriteByte('\n')
	b.at = f.Offset + t.size
	b.align = max(b.align, t.align)
}

// pad adds padding up to an offset.
func (b *body) pad(to int64) {
	b.align = max(b.align, 1)
	if to > b.at {
		fmt.Fprintf(&b.text, "\t_ [%d]byte\n", to-b.at)
		b.at = to
	}
}
