package locate

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/ianlancetaylor/demangle"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// Bounds of the search for similar names.
const (
	nearMax     = 5
	nearNames   = 300_000
	nearLongest = 96 // bytes of a name that are compared
)

// near returns the names most like one that was not found: first those that
// contain it (a method without its type, a clone of a function that is gone), or of
// C++ and Rust the last identifier of it, then by edit distance, of C++ and Rust
// between last identifiers, up to a third of its length. It looks where the query does.
func (s *Set) near(q Query) []string {
	search := newNearSearch(parseName(q.Func).base)
	for _, im := range s.Images {
		if q.Lib != "" && im.SOName != q.Lib || q.Lib == "" && q.Exe != "" && !im.IsExe {
			continue
		}
		if t, err := s.tables(im); err == nil {
			search.tables(&t)
		}
	}
	return search.best()
}

// elsewhere returns the sonames of libraries that have the function under just that
// name, and where the query does not look.
func (s *Set) elsewhere(q Query) []string {
	var names []string
	n := parseName(q.Func)
	for _, im := range s.Images {
		if im.SOName == "" || im.SOName == q.Lib || im.IsExe || slices.Contains(names, im.SOName) {
			continue
		}
		if t, err := s.tables(im); err == nil && len(t.exact(n)) > 0 {
			names = append(names, im.SOName)
		}
	}
	return names
}

// nearSearch keeps the best of the names it has seen.
type nearSearch struct {
	wanted string
	id     string // the last identifier of the wanted name, when it is of C++ or Rust
	limit  int
	looked int // names compared
	left   int // bytes of mangled names that may still be demangled
	seen   map[string]bool
	found  []nearName
}

type nearName struct {
	name  string
	score int // 0: contains the wanted name; else 1 + distance
}

func newNearSearch(wanted string) *nearSearch {
	n := &nearSearch{wanted: wanted, limit: nearLimit(wanted), left: maxDemangling, seen: map[string]bool{}}
	if strings.Contains(wanted, "::") {
		n.id = lastIdentifier(wanted)
	}
	return n
}

// nearLimit is how far a name may be from the wanted one.
func nearLimit(wanted string) int { return max(1, min(len(wanted), nearLongest)/3) }

func (n *nearSearch) tables(t *tables) {
	for _, syms := range [][]binfile.Symbol{t.dyn, t.sym} {
		for i := range syms {
			if syms[i].IsFunc() {
				n.consider(syms[i].Name)
			}
		}
	}
	if t.golang != nil {
		for i := range t.golang.Funcs {
			n.consider(t.golang.Funcs[i].Name)
		}
	}
}

func (n *nearSearch) consider(name string) {
	if n.looked++; name == "" || n.looked > nearNames {
		return
	}
	wanted, own, limit := n.wanted, name, n.limit
	if isMangled(name) {
		own = mangledIdentifier(name)
		if n.id != "" {
			wanted, limit = n.id, nearLimit(n.id)
		}
	}
	score := 0
	if len(wanted) < 4 || !strings.Contains(name, wanted) {
		score = 1 + distance(wanted, own, limit)
	}
	if score <= limit+1 {
		n.add(n.readable(name), score)
	}
}

// readable is the name as people write it, and as func= takes it.
func (n *nearSearch) readable(name string) string {
	if !isMangled(name) || len(name) > n.left {
		return name
	}
	n.left -= len(name)
	return demangle.Filter(name, demangle.MaxLength(maxDemangled))
}

// mangledIdentifier is the function's own identifier in a mangled name of C++ or older
// Rust, "parse" of _ZN4AnyP3Uri5parseERK4SBuf; empty where it takes more to tell. To
// demangle every name of a program in order to compare it costs seconds.
func mangledIdentifier(name string) string {
	rest, ok := strings.CutPrefix(name, "_Z")
	if !ok {
		return ""
	}
	rest, nested := strings.CutPrefix(rest, "N")
	rest = strings.TrimLeft(rest, "LKVrRO") // internal linkage, or qualifiers of a method
	id := ""
	for {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		size, err := strconv.Atoi(rest[:digits])
		if err != nil || size > len(rest)-digits {
			return id
		}
		if next := rest[digits : digits+size]; !rustHash(next) {
			id = next
		}
		if rest = rest[digits+size:]; !nested {
			return id
		}
	}
}

// rustHash: older Rust ends its names with "h" and 16 digits of a hash.
func rustHash(id string) bool {
	return len(id) == 17 && id[0] == 'h' && strings.Trim(id[1:], "0123456789abcdef") == ""
}

func (n *nearSearch) add(name string, score int) {
	if n.seen[name] {
		return
	}
	n.seen[name] = true
	n.found = append(n.found, nearName{name, score})
	if len(n.found) > 64*nearMax {
		n.best()
	}
}

// best drops all but the best names and returns them.
func (n *nearSearch) best() []string {
	slices.SortStableFunc(n.found, func(a, b nearName) int { return cmp.Or(a.score-b.score, len(a.name)-len(b.name)) })
	n.found = n.found[:min(len(n.found), nearMax)]
	var out []string
	for _, f := range n.found {
		out = append(out, f.name)
	}
	return out
}

// distance is the Levenshtein distance of two names, or limit+1 when it is
// larger than limit.
func distance(a, b string, limit int) int {
	a, b = a[:min(len(a), nearLongest)], b[:min(len(b), nearLongest)]
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	var rows [2][nearLongest + 1]int
	prev, row := &rows[0], &rows[1]
	for j := range len(b) + 1 {
		prev[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			d := prev[j]
			if a[i] != b[j] {
				d = 1 + min(d, prev[j+1], row[j])
			}
			row[j+1] = d
			least = min(least, d)
		}
		if least > limit {
			return limit + 1
		}
		prev, row = row, prev
	}
	return min(prev[len(b)], limit+1)
}
