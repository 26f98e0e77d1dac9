package debuginfo

import (
	"debug/dwarf"
	"slices"
	"strings"
)

// Attributes by which a unit refers to a file of its own (DWARF 5, 7.5.4, and what GNU
// tools wrote before).
const (
	attrDwoName    = dwarf.Attr(0x76)
	attrGNUDwoName = dwarf.Attr(0x2130)
)

// Lacks says in words why types may be missing from debug information that is there: it
// is in other files, which are not read, or was never made. It is empty where nothing of
// the kind is seen.
func (i *Info) Lacks() string {
	r := i.data.Reader()
	typed := false
	for {
		unit, err := i.next(r)
		if err != nil || unit == nil {
			break
		}
		if unit.Val(attrDwoName) != nil || unit.Val(attrGNUDwoName) != nil {
			return "types are in .dwo files (-gsplit-dwarf), which are not read: compile with -g alone"
		}
		typed = typed || i.hasType(r, unit)
		r.Seek(unit.Offset)
		if _, err := i.next(r); err != nil {
			break
		}
		r.SkipChildren()
	}
	switch {
	case i.second:
		return "a part of it is in a second file, which is not there or not read (dwz, .gnu_debugaltlink)"
	case !typed:
		return "it has lines and functions only (-g1, -gline-tables-only): compile with -g"
	}
	return ""
}

// maxLooked bounds the entries of one unit that are looked at for a type.
const maxLooked = 1000

// hasType reports whether one of the first entries of a unit is a type.
func (i *Info) hasType(r *dwarf.Reader, unit *dwarf.Entry) bool {
	for n := 0; unit.Children && n < maxLooked; n++ {
		e, err := i.next(r)
		if err != nil || e == nil || e.Tag == 0 {
			return false
		}
		switch e.Tag {
		case dwarf.TagBaseType, dwarf.TagStructType, dwarf.TagClassType, dwarf.TagTypedef, dwarf.TagPointerType:
			return true
		}
		r.SkipChildren()
	}
	return false
}

// maxLike bounds the names that are suggested.
const maxLike = 5

// Like returns names of structs that somebody may have meant who wrote name: those that
// have it in them, the shortest first.
func (i *Info) Like(name string) []string {
	wanted, _, _ := strings.Cut(plain(name), "<")
	var list []string
	r := i.data.Reader()
	for wanted != "" {
		e, err := i.next(r)
		if err != nil || e == nil {
			break
		}
		switch e.Tag {
		case dwarf.TagCompileUnit, dwarf.TagTypeUnit, dwarf.TagPartialUnit, dwarf.TagNamespace:
			continue
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType:
			declared, _ := e.Val(dwarf.AttrDeclaration).(bool)
			if n, ok := e.Val(dwarf.AttrName).(string); ok && !declared && strings.Contains(plain(n), wanted) && !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
		r.SkipChildren()
	}
	slices.SortStableFunc(list, func(a, b string) int { return len(a) - len(b) })
	return list[:min(len(list), maxLike)]
}
