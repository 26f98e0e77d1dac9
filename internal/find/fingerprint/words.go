package fingerprint

import (
	"fmt"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
)

// Words tells what a change brought and took, as far as it can be said: texts and
// imports that the function refers to in one build and not in the other, and how many
// instructions it has. What the code does with them is for people to read.
func (c Change) Words(old, new *Module) []string {
	before, after := old.saying(c.Old), new.saying(c.New)
	out := slices.Concat(beyond("+", after.said, before.said), beyond("-", before.said, after.said))
	if c.What == Changed && before.insns != after.insns {
		out = append(out, fmt.Sprintf("%d instructions, before %d", after.insns, before.insns))
	}
	return out
}

// saying is what a function says of itself.
type saying struct {
	said  map[Feature]string
	insns int
}

func (m *Module) saying(v address.Vaddr) saying {
	i := m.at(v)
	if v == 0 || i < 0 {
		return saying{}
	}
	return saying{m.texts(i), m.body(i).insns}
}

// beyond lists what one function says and the other does not, sorted.
func beyond(sign string, one, other map[Feature]string) []string {
	var out []string
	for f, s := range one {
		if _, both := other[f]; both {
			continue
		}
		if f.Kind() == KindString {
			s = fmt.Sprintf("%q", s)
		}
		out = append(out, fmt.Sprintf("%s %v %s", sign, f.Kind(), s))
	}
	slices.Sort(out)
	return out
}
