package locate

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// InFile returns the link-time address of a function of a file, which no
// process need run. fn is a name as Query.Func has it, or an address written
// with 0x. path is for messages. Errors: *NotFound, *Ambiguous, ErrNotCode,
// *Indirect.
func InFile(f *binfile.File, path, fn string) (address.Vaddr, error) {
	if hex, ok := strings.CutPrefix(fn, "0x"); ok {
		v, err := strconv.ParseUint(hex, 16, 64)
		if err != nil {
			return 0, fmt.Errorf("%s is no address", fn)
		}
		if !f.IsCode(address.Vaddr(v)) {
			return 0, fmt.Errorf("%s: %s: %w", path, fn, ErrNotCode)
		}
		return address.Vaddr(v), nil
	}
	t, err := readTables(f)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	all, err := t.lookup(f, parseName(fn))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if len(all) == 0 {
		search := newNearSearch(parseName(fn).base)
		search.tables(&t)
		return 0, &NotFound{Func: fn, Image: path, Near: search.best()}
	}
	chosen, _ := choose(all)
	if len(chosen) > 1 {
		return 0, ambiguous(&Image{Path: path, File: f}, fn, chosen)
	}
	if chosen[0].indirect {
		return 0, &Indirect{Func: fn, Image: path, Why: "only a running process tells which implementation is used; name that one"}
	}
	return chosen[0].vaddr, nil
}

// At describes the function at a place of an image that something else than its
// name told, such as a fingerprint. how is the evidence in words.
func At(im *Image, name string, v address.Vaddr, size uint64, how string) (*Function, error) {
	f := &Function{Name: name, Image: im, Vaddr: v, Entry: v.Addr(im.Bias), How: how}
	if t, err := im.File.GoTable(); err == nil {
		if g := t.At(v); g != nil {
			f.Go = !g.C
			if g.Assembly {
				return nil, fmt.Errorf("%s in %s: %w", name, im.Path, ErrAssembly)
			}
		}
	}
	if err := setText(f, size); err != nil {
		return nil, fmt.Errorf("%s in %s: %w", name, im.Path, err)
	}
	return f, nil
}

// Searched returns the images that a query is about: the library it names, the
// executable it names, or else all. The process must run the executable that is
// named: ErrOtherExe; *NoLibrary.
func (s *Set) Searched(q Query) ([]*Image, error) {
	if q.Exe != "" {
		ok, err := s.p.RunsExe(q.Exe)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("pid %d: %w than %s: %s", s.p.Pid(), ErrOtherExe, q.Exe, s.Exe().Path)
		}
	}
	switch {
	case q.Lib != "":
		return s.libraries(q.Lib)
	case q.Exe != "":
		return s.executables(), nil
	}
	return s.Images, nil
}
