package sweep

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func names(n int, kinds ...string) (list []string) {
	for i := range n {
		list = append(list, kinds[i%len(kinds)])
	}
	return list
}

// strictlyRising tells that a list is sorted and has nothing twice.
func strictlyRising(steps []int) bool {
	return slices.IsSorted(steps) && len(slices.Compact(slices.Clone(steps))) == len(steps)
}

// Whatever there are of steps, a thorough choice has each once, or, where they are many,
// the first and the last of each kind; and a sample is in range and has nothing twice.
func TestChoices(t *testing.T) {
	for _, n := range []int{1, 2, 10, manySteps, manySteps + 1, 700} {
		rnd := rand.New(rand.NewPCG(1, uint64(n)))
		steps := thorough(names(n, "seize", "interrupt", "wait"), rnd)
		if !strictlyRising(steps) || n <= manySteps && len(steps) != n+1 || n > manySteps && len(steps) != 1+3*ofAKind {
			t.Errorf("%d steps: %v", n, steps)
		}
		for _, want := range []int{0, 1, n} {
			if !slices.Contains(steps, want) {
				t.Errorf("%d steps: no %d in %v", n, want, steps)
			}
		}
		for _, sample := range []int{1, 3, n, 2 * n} {
			steps := apart(n, sample, rnd)
			if len(steps) != min(n, sample) || steps[0] < 1 || steps[len(steps)-1] > n || !strictlyRising(steps) {
				t.Errorf("%d of %d steps: %v", sample, n, steps)
			}
		}
	}
}

// A run that is made in slices runs each cell once, and its table has them all.
func TestSlices(t *testing.T) {
	var log strings.Builder
	r := Row{"remove", "C", "read", 64, Stopped}
	first := newSweep(&log)
	for step := range 5 {
		first.Ran(r, step, 30*time.Millisecond)
	}
	second := newSweep(&log)
	if err := second.read(strings.NewReader(log.String())); err != nil {
		t.Fatal(err)
	}
	if left := second.left(r, []int{0, 3, 5, 6}); fmt.Sprint(left) != "[5 6]" {
		t.Errorf("left are %v", left)
	}
	second.RanAll(r)
	third := newSweep(&log)
	if err := third.read(strings.NewReader(log.String())); err != nil || !third.whole[r] || third.Total() != 5 {
		t.Errorf("%v: %d cells of a whole row, %v", err, third.Total(), third.whole)
	}
	second.Ran(Row{"insert", "C", "read", 64, Killed}, 5, 0)
	const want = "\nC, threads: 64\n\n| state | insert | remove |\n|---|---|---|\n| read | 1 + – | – + 5 |\n"
	if got := second.String(); got != want || second.Total() != 6 {
		t.Errorf("%d cells: %q", second.Total(), got)
	}
	if err := second.read(strings.NewReader("remove/C/read/x/stopped\t1\t2\n")); err == nil {
		t.Error("a line that is none is taken")
	}
}
