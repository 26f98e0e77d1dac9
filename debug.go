package pie

import (
	"errors"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
)

// debugNotes says what debug information knows about guard g in front of f:
// where f was inlined, so that the guard does not see the call (inlined counts
// these places), and which of its structs could not be compared with the
// program's. A struct that is laid out
// otherwise than the guard believes is a *debuginfo.Mismatch: the guard would
// read other fields than it means. verdicts are what the guard can say; one that does
// not give back what the function returns is a *Refusal. guarded are the functions this prepatch
// stands in front of; what is inlined there is seen by their guards.
func debugNotes(f locate.Function, g compile.Guard, verdicts []bpf.Verdict, guarded map[string]bool) (notes []string, inlined int, err error) {
	info, err := debuginfo.At(f.Image.File, f.Vaddr)
	if errors.Is(err, debuginfo.ErrNone) {
		return uncheckedMirrors(g, "has no debug information"), 0, nil
	}
	if err != nil {
		return []string{fmt.Sprintf("the debug information of %s cannot be read: %v", f.Image.Name(), err)}, 0, nil
	}
	if err := checkResult(info, f, verdicts); err != nil {
		return nil, 0, err
	}
	if err := checkRewrites(info, f, verdicts); err != nil {
		return nil, 0, err
	}
	for _, m := range g.Mirrors {
		err := info.CheckMirror(m)
		var mismatch *debuginfo.Mismatch
		switch {
		case errors.As(err, &mismatch):
			return nil, 0, err
		case err != nil:
			notes = append(notes, fmt.Sprintf("the struct %s could not be compared with the program's: %v", m.Name, err))
		}
	}
	copies, err := info.Inlined()
	if err != nil && !errors.Is(err, debuginfo.ErrNone) {
		notes = append(notes, fmt.Sprintf("where %s was inlined could not be told: %v", f.Name, err))
	}
	for _, c := range copies {
		if !guarded[c.In] {
			inlined++
			notes = append(notes, fmt.Sprintf("%s is also inlined in %s at %v, where this guard does not see it", f.Name, c.In, c.At))
		}
	}
	return notes, inlined, nil
}

// uncheckedMirrors notes structs whose layout rests on the prepatch alone.
func uncheckedMirrors(g compile.Guard, why string) []string {
	if len(g.Mirrors) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the program %s: that its structs are as %s has them was not checked", why, g.Name)}
}
