package debuginfo

import (
	"debug/dwarf"
	"errors"
)

// ErrElsewhere says that what DWARF says of the function is in another file in part: dwz
// puts what several files have in common into one (.gnu_debugaltlink), which is not read.
// Without this an argument whose type is there would look like one of no type.
var ErrElsewhere = errors.New("its debug information is in a second file in part (dwz, .gnu_debugaltlink), which is not read: use a build whose debug information dwz did not shorten")

// reference returns the entry that an attribute of e refers to, and whether it has the
// attribute. ErrElsewhere for one in the second file (DW_FORM_GNU_ref_alt).
func reference(e *dwarf.Entry, a dwarf.Attr) (off dwarf.Offset, ok bool, err error) {
	f := e.AttrField(a)
	switch {
	case f == nil:
		return 0, false, nil
	case f.Class == dwarf.ClassReferenceAlt:
		return 0, false, ErrElsewhere
	}
	off, ok = f.Val.(dwarf.Offset)
	return off, ok, nil
}

// nameIn returns the name that e itself has, empty for none. ErrElsewhere for one in the second file
// (DW_FORM_GNU_strp_alt).
func nameIn(e *dwarf.Entry) (string, error) {
	f := e.AttrField(dwarf.AttrName)
	switch {
	case f == nil:
		return "", nil
	case f.Class == dwarf.ClassStringAlt:
		return "", ErrElsewhere
	}
	s, _ := f.Val.(string)
	return s, nil
}
