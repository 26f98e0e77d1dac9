package pie

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Limit is how far a guard certainly looks before it has run too long: in a loop, or in
// a search of memory.
type Limit struct {
	At     string `json:"at,omitempty"`     // "guard.go:14"; empty where the guard does not say
	Rounds uint64 `json:"rounds,omitempty"` // of a loop, over the whole call; 0 for a search
	Bytes  uint64 `json:"bytes,omitempty"`  // that these rounds walk over, or that are searched; 0 where that cannot be told
	Shared bool   `json:"shared,omitempty"` // less is left of it when the guard's other loops and searches run, too
	Beyond string `json:"beyond"`           // what becomes of a call that needs more: "passes", "is rejected"
}

func limitsOf(g compile.Guard, prog *verify.Program) []Limit {
	beyond := "is rejected"
	if g.OnFuel.Pass {
		beyond = "passes unseen"
	}
	var list []Limit
	for _, v := range prog.Limits() {
		l := Limit{Rounds: v.Rounds, Bytes: v.Bytes, Shared: v.Shared, Beyond: beyond}
		if v.Pos.Line > 0 {
			l.At = path.Base(v.Pos.File) + ":" + strconv.Itoa(v.Pos.Line)
		}
		if same := slices.IndexFunc(list, func(m Limit) bool { return l.At != "" && m.At == l.At && (m.Rounds == 0) == (l.Rounds == 0) }); same >= 0 {
			list[same] = list[same].less(l) // a function that was copied into the guard twice
			continue
		}
		list = append(list, l)
	}
	return list
}

// less is the limit that is reached first; as bytes only where both tell.
func (l Limit) less(m Limit) Limit {
	l.Rounds = min(l.Rounds, m.Rounds)
	l.Bytes = min(l.Bytes, m.Bytes)
	return l
}

// String is a sentence for people.
func (l Limit) String() string {
	var b strings.Builder
	at := ""
	if l.At != "" {
		at = " at " + l.At
	}
	switch {
	case l.Rounds == 0:
		fmt.Fprintf(&b, "the search%s looks at up to %d bytes", at, l.Bytes)
	case l.Bytes > 0:
		fmt.Fprintf(&b, "the loop%s looks at up to %d bytes, in %d rounds", at, l.Bytes, l.Rounds)
	default:
		fmt.Fprintf(&b, "the loop%s makes up to %d rounds", at, l.Rounds)
	}
	if l.Shared {
		b.WriteString(", fewer when others of the guard run, too")
	}
	fmt.Fprintf(&b, "; a call that needs more %s", l.Beyond)
	return b.String()
}
