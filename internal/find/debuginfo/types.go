package debuginfo

import (
	"debug/dwarf"
	"fmt"
	"math"
)

// Kind is what a value of a type is to a calling convention.
type Kind uint8

// Kinds of type.
const (
	Other    Kind = iota // a struct, union or array by value, or unknown
	Void                 // no type
	Signed               // an integer, enumeration or character with a sign
	Unsigned             // one without, or a boolean
	Pointer              // a pointer or reference
	Float
)

// Type is a type as far as a guard needs it.
type Type struct {
	Name string // as written: "ngx_int_t", "char *"; best effort
	Kind Kind
	Size int64 // bytes; −1 when it is not known
	Bool bool  // true or false; Kind is Unsigned
	// Struct is the tag of a struct, union or class by value, behind typedefs.
	Struct string
	// Points is the struct or typedef of one that a pointer points to, or empty.
	Points string
}

// typeOf returns the type of an entry, through typedefs and qualifiers.
func (i *Info) typeOf(e *dwarf.Entry) (Type, error) {
	out := Type{Size: -1}
	for range maxTypes {
		off, ok, err := reference(e, dwarf.AttrType)
		if err != nil {
			return out, err
		}
		if !ok {
			if out.Name == "" {
				out.Name = "void"
			}
			out.Kind, out.Size = Void, 0
			return out, nil
		}
		r := i.data.Reader()
		r.Seek(off)
		next, err := i.next(r)
		if err != nil {
			return out, err
		}
		if next == nil {
			return out, fmt.Errorf("DWARF: a type at the end of the data")
		}
		e = next
		name, err := nameIn(e)
		if err != nil {
			return out, err
		}
		if out.Name == "" {
			out.Name = name
		}
		switch e.Tag {
		case dwarf.TagTypedef, dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagRestrictType, dwarf.TagAtomicType:
			continue
		case dwarf.TagArrayType:
			out.Size, err = i.arraySize(r, e)
			return out, err
		}
		out.Kind = kindOf(e)
		out.Size = sizeOf(e)
		if e.Tag == dwarf.TagEnumerationType {
			out.Kind, err = i.enumKind(r, e)
			return out, err
		}
		if enc, _ := e.Val(dwarf.AttrEncoding).(int64); e.Tag == dwarf.TagBaseType {
			out.Bool = enc == 0x02 // DW_ATE_boolean
		}
		if e.Tag == dwarf.TagStructType || e.Tag == dwarf.TagClassType || e.Tag == dwarf.TagUnionType {
			out.Struct = name
		}
		if out.Kind != Pointer {
			return out, nil
		}
		if out.Points, err = i.structTo(e); err != nil {
			return out, err
		}
		if out.Name == "" {
			to, err := i.pointee(e)
			if err != nil {
				return out, err
			}
			out.Name = to + " *"
		}
		return out, nil
	}
	return out, fmt.Errorf("DWARF: a type of more than %d steps", maxTypes)
}

// pointee names what a pointer points to, one level deep.
func (i *Info) pointee(e *dwarf.Entry) (string, error) {
	for range maxTypes {
		off, ok, err := reference(e, dwarf.AttrType)
		if err != nil {
			return "", err
		}
		if !ok {
			return "void", nil
		}
		r := i.data.Reader()
		r.Seek(off)
		next, err := i.next(r)
		if err != nil || next == nil {
			return "?", err
		}
		e = next
		if name, ok := e.Val(dwarf.AttrName).(string); ok {
			switch e.Tag {
			case dwarf.TagStructType:
				return "struct " + name, nil
			case dwarf.TagUnionType:
				return "union " + name, nil
			}
			return name, nil
		}
	}
	return "?", nil
}

func kindOf(e *dwarf.Entry) Kind {
	switch e.Tag {
	case dwarf.TagPointerType, dwarf.TagReferenceType, dwarf.TagRvalueReferenceType:
		return Pointer
	case dwarf.TagEnumerationType:
		return Unsigned
	case dwarf.TagBaseType:
		return encoded(e)
	}
	return Other
}

// encoded is the kind that an entry's DW_AT_encoding says (DWARF 5, 7.8, table 7.11).
func encoded(e *dwarf.Entry) Kind {
	switch enc, _ := e.Val(dwarf.AttrEncoding).(int64); enc {
	case 0x05, 0x06, 0x0d: // signed, signed_char, signed_fixed
		return Signed
	case 0x02, 0x07, 0x08, 0x10: // boolean, unsigned, unsigned_char, UTF
		return Unsigned
	case 0x03, 0x04: // complex_float, float
		return Float
	}
	return Other
}

// maxEnumerators bounds those that are looked at for one that is negative.
const maxEnumerators = 4096

// enumKind tells whether an enumeration has a sign: by its encoding, which gcc writes, by
// the type it lies in, else by its enumerators, which r stands before.
func (i *Info) enumKind(r *dwarf.Reader, e *dwarf.Entry) (Kind, error) {
	if k := encoded(e); k != Other {
		return k, nil
	}
	off, ok, err := reference(e, dwarf.AttrType)
	if err != nil {
		return Unsigned, err
	}
	if ok {
		return i.kindAt(off)
	}
	for range maxEnumerators {
		if !e.Children {
			break
		}
		c, err := i.next(r)
		if err != nil {
			return Unsigned, err
		}
		if c == nil || c.Tag == 0 {
			break
		}
		if n, ok := c.Val(dwarf.AttrConstValue).(int64); ok && n < 0 {
			return Signed, nil
		}
		r.SkipChildren()
	}
	return Unsigned, nil
}

// kindAt is the kind of the base type that an enumeration lies in, behind typedefs.
func (i *Info) kindAt(off dwarf.Offset) (Kind, error) {
	for range maxTypes {
		r := i.data.Reader()
		r.Seek(off)
		e, err := i.next(r)
		if err != nil || e == nil {
			return Unsigned, err
		}
		if e.Tag == dwarf.TagBaseType {
			return encoded(e), nil
		}
		next, ok, err := reference(e, dwarf.AttrType)
		if err != nil || !ok {
			return Unsigned, err
		}
		off = next
	}
	return Unsigned, nil
}

func sizeOf(e *dwarf.Entry) int64 {
	if n, ok := e.Val(dwarf.AttrByteSize).(int64); ok && n >= 0 {
		return n
	}
	if kindOf(e) == Pointer {
		return 8
	}
	return -1
}

// arraySize multiplies the element's size by the length of each dimension; −1
// when one is not a constant.
func (i *Info) arraySize(r *dwarf.Reader, array *dwarf.Entry) (int64, error) {
	if n, ok := array.Val(dwarf.AttrByteSize).(int64); ok && n >= 0 {
		return n, nil
	}
	size := int64(1)
	for array.Children {
		e, err := i.next(r)
		if err != nil {
			return -1, err
		}
		if e == nil || e.Tag == 0 {
			break
		}
		n, ok := e.Val(dwarf.AttrCount).(int64)
		if !ok {
			upper, known := e.Val(dwarf.AttrUpperBound).(int64)
			if !known || upper < -1 || upper == math.MaxInt64 {
				return -1, nil
			}
			n = upper + 1
		}
		if n < 0 || n > 0 && size > math.MaxInt64/n {
			return -1, nil
		}
		size *= n
		r.SkipChildren()
	}
	if i.left -= 16; i.left < 0 { // arrays of arrays of arrays
		return -1, errTooMuch
	}
	element, err := i.elementSize(array)
	if err != nil || element < 0 || element > 0 && size > math.MaxInt64/element {
		return -1, err
	}
	return size * element, nil
}

// elementSize is the size of an array's element; an array of arrays has more
// dimensions instead, so an element that is an array again is not followed.
func (i *Info) elementSize(array *dwarf.Entry) (int64, error) {
	e := array
	for range maxTypes {
		off, ok, err := reference(e, dwarf.AttrType)
		if err != nil {
			return -1, err
		}
		if !ok {
			return -1, nil
		}
		r := i.data.Reader()
		r.Seek(off)
		next, err := i.next(r)
		if err != nil || next == nil {
			return -1, err
		}
		e = next
		switch e.Tag {
		case dwarf.TagTypedef, dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagRestrictType, dwarf.TagAtomicType:
			continue
		}
		return sizeOf(e), nil
	}
	return -1, nil
}
