package object

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"
)

// misplaced returns what is wrong with where PIE_GUARD stands, nil for nothing. What follows
// it is put into its section, be that a function beside the guard, a table or, for the
// compiler only warns, nothing at all.
func misplaced(name string, f *elf.File) error {
	symbols, err := f.Symbols()
	if err != nil {
		return nil // none: what the file lacks is said by who reads it
	}
	outside := "" // a function that is not static and has no PIE_GUARD
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && elf.ST_BIND(s.Info) == elf.STB_GLOBAL && sectionOf(f, s) == ".text" {
			outside = s.Name
			break
		}
	}
	const instead = "write it right before the guard, and declare other functions static"
	guards := 0
	for _, s := range symbols {
		if !strings.HasPrefix(sectionOf(f, s), guardSection) {
			continue
		}
		switch elf.ST_TYPE(s.Info) {
		case elf.STT_OBJECT:
			return &Error{File: name, Msg: fmt.Sprintf("PIE_GUARD stands before the variable %s", s.Name), Instead: instead}
		case elf.STT_FUNC:
			guards++
			if elf.ST_BIND(s.Info) == elf.STB_LOCAL && outside != "" {
				return &Error{File: name, Msg: fmt.Sprintf("PIE_GUARD stands before %s, which is static, and %s has none", s.Name, outside), Instead: instead}
			}
		}
	}
	if guards == 0 && outside != "" && !slices.ContainsFunc(f.Sections, isGuards) {
		return &Error{File: name, Msg: fmt.Sprintf("no PIE_GUARD stands before %s, or before any other function", outside), Instead: instead}
	}
	return nil
}

func isGuards(s *elf.Section) bool { return strings.HasPrefix(s.Name, guardSection) }

// sectionOf is the name of the section a symbol is in; empty for none.
func sectionOf(f *elf.File, s elf.Symbol) string {
	if int(s.Section) >= len(f.Sections) {
		return ""
	}
	return f.Sections[s.Section].Name
}
