package locate

import (
	"cmp"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// Bounds of the search for similar names.
const (
	nearMax     = 5
	nearNames   = 300_000
	nearLongest = 96 // bytes of a name that are compared
)

// near returns the names most like one that was not found: first those that
// contain it (a method without its type, a clone of a function that is gone),
// then by edit distance up to a third of its length.
func (t *tables) near(wanted string) []string {
	type scored struct {
		name  string
		score int
	}
	var best []scored
	limit := max(1, min(len(wanted), nearLongest)/3)
	seen := map[string]bool{}
	consider := func(name string) {
		if name == "" || len(seen) > nearNames || seen[name] {
			return
		}
		seen[name] = true
		score := 0
		if len(wanted) < 4 || !strings.Contains(name, wanted) {
			score = 1 + distance(wanted, name, limit)
			if score > limit+1 {
				return
			}
		}
		best = append(best, scored{name, score})
		if len(best) > 64*nearMax {
			slices.SortStableFunc(best, func(a, b scored) int { return cmp.Or(a.score-b.score, len(a.name)-len(b.name)) })
			best = best[:nearMax]
		}
	}
	for _, syms := range [][]binfile.Symbol{t.dyn, t.sym} {
		for i := range syms {
			if syms[i].IsFunc() {
				consider(syms[i].Name)
			}
		}
	}
	if t.golang != nil {
		for i := range t.golang.Funcs {
			consider(t.golang.Funcs[i].Name)
		}
	}
	slices.SortStableFunc(best, func(a, b scored) int { return cmp.Or(a.score-b.score, len(a.name)-len(b.name)) })
	var out []string
	for _, s := range best[:min(len(best), nearMax)] {
		out = append(out, s.name)
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
