package locate

import (
	"fmt"
	"path"

	"github.com/patch-integration-engine/pie/internal/address"
)

// NotCallable says why a function that is there must not be called.
type NotCallable struct {
	Func string
	Why  string
}

func (e *NotCallable) Error() string {
	return fmt.Sprintf("the function %s cannot be called: %s", e.Func, e.Why)
}

// Callable returns where a function is that a guard in image im may call whenever it
// runs: in im, else in the executable, else in the one library that has it and that
// im or the executable need (DT_NEEDED), so that it stays mapped as long as they do.
// Which of several libraries a program's own call would reach is the dynamic linker's
// decision, and not guessed. Errors: *NotCallable, and those of Find.
func (s *Set) Callable(im *Image, name string) (address.Addr, error) {
	type place struct {
		im *Image
		at address.Addr
	}
	var found []place
	for _, in := range s.scope(im) {
		a, err := s.function(in, name, false)
		switch {
		case absent(err):
			continue
		case err != nil:
			return 0, err
		case in == im || in.IsExe:
			return a, nil
		}
		found = append(found, place{in, a})
	}
	switch {
	case len(found) == 0:
		return 0, &NotCallable{name, "it is not in the symbol tables of the program and its libraries"}
	case len(found) > 1:
		return 0, &NotCallable{name, fmt.Sprintf("%s and %s both have it", found[0].im.Name(), found[1].im.Name())}
	case !s.stays(found[0].im, im):
		return 0, &NotCallable{name, fmt.Sprintf("%s, which has it, may be unloaded: neither the program nor %s needs it", found[0].im.Name(), im.Name())}
	}
	return found[0].at, nil
}

// stays reports whether a library is mapped as long as the program, or im, is: what
// they need, what that needs, and so on, and the dynamic linker.
func (s *Set) stays(library, im *Image) bool {
	exe := s.Exe()
	if path.Base(exe.File.Interp()) == path.Base(library.Path) {
		return true
	}
	seen := map[*Image]bool{exe: true, im: true}
	for work := []*Image{exe, im}; len(work) > 0; {
		at := work[0]
		work = work[1:]
		if at == library {
			return true
		}
		for _, need := range at.File.Needed() {
			for _, other := range s.Images {
				if !seen[other] && (other.SOName == need || path.Base(other.Path) == need) {
					seen[other] = true
					work = append(work, other)
				}
			}
		}
	}
	return false
}
