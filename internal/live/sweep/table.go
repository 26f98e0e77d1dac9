package sweep

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Total is the number of cells.
func (s *Sweep) Total() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, steps := range s.cells {
		for _, times := range steps {
			n += times
		}
	}
	return n
}

// kind is what one table is about.
type kind struct {
	program string
	threads int
}

// column is a verb with a death.
type column struct {
	verb  string
	death Death
}

// table is how many cells were run, by state.
type table map[string]map[column]int

// String is a table in Markdown for each program and number of threads: a line for each
// state, a column for each verb, in it how many cells were run, killed + stopped.
func (s *Sweep) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	tables := map[kind]table{}
	for r, steps := range s.cells {
		k := kind{r.Program, r.Threads}
		if tables[k] == nil {
			tables[k] = table{}
		}
		if tables[k][r.State] == nil {
			tables[k][r.State] = map[column]int{}
		}
		for _, times := range steps {
			tables[k][r.State][column{r.Verb, r.Death}] += times
		}
	}
	var b strings.Builder
	for _, k := range slices.SortedFunc(maps.Keys(tables), func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.program, b.program), a.threads-b.threads)
	}) {
		fmt.Fprintf(&b, "\n%s, threads: %d\n\n", k.program, k.threads)
		tables[k].write(&b)
	}
	return b.String()
}

func (t table) write(b *strings.Builder) {
	known := map[string]bool{}
	for _, cells := range t {
		for c := range cells {
			known[c.verb] = true
		}
	}
	verbs := slices.SortedFunc(maps.Keys(known), byVerb)
	b.WriteString("| state | " + strings.Join(verbs, " | ") + " |\n|---|" + strings.Repeat("---|", len(verbs)) + "\n")
	for _, state := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(b, "| %s |", state)
		for _, verb := range verbs {
			fmt.Fprintf(b, " %s + %s |", number(t[state][column{verb, Killed}]), number(t[state][column{verb, Stopped}]))
		}
		b.WriteString("\n")
	}
}

func number(n int) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprint(n)
}

// order is that in which the verbs stand, from what is below to what an operator types.
var order = []string{"attach", "world", "first insert", "insert", "mode", "remove", "repair"}

func byVerb(a, b string) int {
	return cmp.Or(slices.Index(order, a)-slices.Index(order, b), cmp.Compare(a, b))
}
