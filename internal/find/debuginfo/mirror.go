package debuginfo

import (
	"debug/dwarf"
	"errors"
	"fmt"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
)

// ErrUnknownType says that the debug information has no complete struct of the
// name: the mirror could not be checked.
var ErrUnknownType = errors.New("the debug information has no such struct")

// Mismatch says that a mirror is not what the program was compiled with: a
// guard that used it would read other fields than it means.
type Mismatch struct {
	Mirror, Field string
	Msg           string
}

func (e *Mismatch) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("struct %s: %s", e.Mirror, e.Msg)
	}
	return fmt.Sprintf("struct %s, field %s: %s", e.Mirror, e.Field, e.Msg)
}

// CheckMirror compares a mirror struct of a guard with the struct that the
// function at v was compiled with: same offset and size of every named field,
// and not larger. Errors: *Mismatch, ErrUnknownType, ErrNone without DWARF.
func CheckMirror(f *binfile.File, v address.Vaddr, m compile.Mirror) error {
	fn, err := At(f, v)
	if err != nil {
		return err
	}
	return fn.CheckMirror(m)
}

// CheckMirror is CheckMirror of a file that is open.
//
// Names of structs and fields match when they differ in case and underscores
// only, as a Go name may have to. A struct is found by its tag or a typedef;
// blank fields of the mirror are padding. Where the function's unit knows the
// struct only by declaration, the first complete one of the program counts.
func (i *Info) CheckMirror(v address.Vaddr, m compile.Mirror) error {
	s, err := i.findStruct(v, m.Name)
	if err != nil {
		return fmt.Errorf("struct %s: %w", m.Name, err)
	}
	if size := sizeOf(s); size >= 0 && m.Size > size {
		return &Mismatch{m.Name, "", fmt.Sprintf("the mirror has %d bytes, the program's struct %d", m.Size, size)}
	}
	fields, err := i.fields(s)
	if err != nil {
		return err
	}
	for _, want := range m.Fields {
		if want.Name == "_" {
			continue
		}
		got, ok := fields[plain(want.Name)]
		if !ok {
			return &Mismatch{m.Name, want.Name, "the program's struct has no such field"}
		}
		if got.Offset != want.Offset {
			return &Mismatch{m.Name, want.Name, fmt.Sprintf("at offset %d, in the program at %d", want.Offset, got.Offset)}
		}
		if got.Size >= 0 && got.Size != want.Size {
			return &Mismatch{m.Name, want.Name, fmt.Sprintf("of %d bytes, in the program of %d", want.Size, got.Size)}
		}
	}
	return nil
}

// plain is a name without what Go may have to write differently.
func plain(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// spellings are integers as gcc writes them in template arguments, and as people do.
var spellings = strings.NewReplacer("long unsigned int", "unsigned long", "short unsigned int", "unsigned short", "long int", "long", "short int", "short", " ", "")

// instance is plain of a name with template arguments, however they are spaced.
func instance(name string) string { return plain(spellings.Replace(name)) }

// called reports whether a struct of this name is meant. A Go type may go by
// its last element, as in server.client, or without its package.
func called(name, wanted string) bool {
	if strings.HasSuffix(wanted, ">") {
		return strings.HasSuffix(name, ">") && instance(name) == instance(wanted)
	}
	short := name[strings.LastIndexByte(name, '/')+1:]
	return plain(name) == wanted || plain(short) == wanted || plain(short[strings.LastIndexByte(short, '.')+1:]) == wanted
}

// findStruct returns the complete struct of a name: in the unit of the function
// at v, else in any.
func (i *Info) findStruct(v address.Vaddr, name string) (*dwarf.Entry, error) {
	r, _, err := i.unit(v)
	if err != nil {
		return nil, err
	}
	s, err := i.structIn(r, name, true, false)
	if s != nil || err != nil {
		return s, err
	}
	s, err = i.structIn(i.data.Reader(), name, false, false)
	if s != nil || err != nil {
		return s, err
	}
	if r, _, err = i.unit(v); err != nil {
		return nil, err
	}
	if s, err = i.structIn(r, name, true, true); s == nil && err == nil {
		err = ErrUnknownType
	}
	return s, err
}

// structIn looks through the outermost entries from where the reader stands:
// to the end of the unit, or of all units; with inside also through what structs and
// classes declare in themselves.
func (i *Info) structIn(r *dwarf.Reader, name string, unitOnly, inside bool) (*dwarf.Entry, error) {
	wanted := plain(name)
	for {
		e, err := i.next(r)
		if err != nil || e == nil {
			return nil, err
		}
		switch e.Tag {
		case dwarf.TagCompileUnit, dwarf.TagTypeUnit, dwarf.TagPartialUnit:
			if unitOnly {
				return nil, nil
			}
			continue
		case dwarf.TagNamespace:
			continue
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagTypedef:
			if n, ok := e.Val(dwarf.AttrName).(string); ok && called(n, wanted) {
				s, err := i.complete(e)
				if s != nil || err != nil {
					return s, err
				}
			}
			if inside && e.Children && e.Tag != dwarf.TagTypedef {
				continue
			}
		}
		r.SkipChildren()
	}
}

// complete follows typedefs to a struct that is more than declared, or nil.
func (i *Info) complete(e *dwarf.Entry) (*dwarf.Entry, error) {
	for range maxTypes {
		switch e.Tag {
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType:
			if declared, _ := e.Val(dwarf.AttrDeclaration).(bool); declared {
				return nil, nil
			}
			return e, nil
		case dwarf.TagTypedef, dwarf.TagConstType, dwarf.TagVolatileType:
		default:
			return nil, nil
		}
		off, ok, err := reference(e, dwarf.AttrType)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, nil
		}
		r := i.data.Reader()
		r.Seek(off)
		next, err := i.next(r)
		if err != nil || next == nil {
			return nil, err
		}
		e = next
	}
	return nil, nil
}

// fields returns the fields of a struct by plain name, with those of anonymous
// structs in it. Bit-fields, which a mirror cannot have, are left out.
func (i *Info) fields(s *dwarf.Entry) (map[string]compile.Field, error) {
	l, err := i.layout("", s)
	if err != nil {
		return nil, err
	}
	members, err := i.Flat(l)
	if err != nil {
		return nil, err
	}
	out := map[string]compile.Field{}
	for _, m := range members {
		if m.Name != "" && !m.Bits {
			out[plain(m.Name)] = compile.Field{Name: m.Name, Offset: m.Offset, Size: m.Type.Size}
		}
	}
	return out, nil
}
