package locate

import (
	"cmp"
	"slices"
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
// C++ and Rust the last identifier of it,
// then by edit distance up to a third of its length. It looks where the query
// does.
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
	n := &nearSearch{wanted: wanted, limit: max(1, min(len(wanted), nearLongest)/3), left: maxDemangling, seen: map[string]bool{}}
	if strings.Contains(wanted, "::") {
		n.id = lastIdentifier(wanted)
	}
	return n
}

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
	if n.id != "" && isMangled(name) && strings.Contains(name, n.id) && len(name) <= n.left {
		n.left -= len(name)
		n.add(demangle.Filter(name, demangle.MaxLength(maxDemangled)), 0)
		return
	}
	score := 0
	if len(n.wanted) < 4 || !strings.Contains(name, n.wanted) {
		score = 1 + distance(n.wanted, name, n.limit)
	}
	n.add(name, score)
}

func (n *nearSearch) add(name string, score int) {
	if score > n.limit+1 || n.seen[name] {
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
