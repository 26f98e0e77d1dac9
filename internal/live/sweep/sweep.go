// Package sweep decides which cells a kill sweep runs, keeps a log of those that were
// run, and prints them as a table. Only tests use it: those of tracee and of insert,
// whose spies die in the middle of what they do to a victim.
//
// A Row is what is done to whom: a verb, the victim's program, the state its threads are
// in, how many they are, and how the doer ends. A cell is one step of a row, after which
// it ends; step 0 stands for a moment that no step names. What is run of a row depends on
// the flags:
//
//   - nothing given: a few steps, far apart, others in every row. This is what CI runs.
//   - PIE_TEST_LONG=1: every step. Where threads make the steps many, of each kind of
//     request the first, the last and one in between.
//   - -sweep.count N: N cells in all, drawn by -sweep.seed.
//
// With -sweep.log FILE a long run can be made in slices: cells that stand in the log are
// not run again, and after -sweep.time no new one is begun.
package sweep

import (
	"bufio"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	seed  = flag.Uint64("sweep.seed", 1, "what a sweep draws its cells by")
	count = flag.Int("sweep.count", 0, "cells of a sweep, in all; 0: as many as there are, or a sample")
	limit = flag.Duration("sweep.time", 0, "after this time a sweep begins no other cell; 0: no limit")
	file  = flag.String("sweep.log", "", "`file` that a sweep appends its cells to, and whose cells it does not run again")
)

// long asks for every cell.
var long = os.Getenv("PIE_TEST_LONG") != ""

// Death is how the doer ends.
type Death string

// Killed is SIGKILL, Stopped SIGSTOP until the watchdog ends it.
const (
	Killed  Death = "killed"
	Stopped Death = "stopped"
)

// Row is a row of cells.
type Row struct {
	Verb, Program, State string
	Threads              int
	Death                Death
}

// String is "VERB/PROGRAM/STATE/THREADS/DEATH".
func (r Row) String() string {
	return strings.Join([]string{r.Verb, r.Program, r.State, strconv.Itoa(r.Threads), string(r.Death)}, "/")
}

func parseRow(s string) (Row, error) {
	f := strings.Split(s, "/")
	if len(f) != 5 {
		return Row{}, fmt.Errorf("%q is no row of a sweep", s)
	}
	n, err := strconv.Atoi(f[3])
	return Row{f[0], f[1], f[2], n, Death(f[4])}, err
}

// Sweep is one run. It is safe for concurrent use.
type Sweep struct {
	until time.Time
	mu    sync.Mutex
	log   io.Writer
	cells map[Row]map[int]int // how often each step was run, by this run and those logged
	whole map[Row]bool        // rows of which every step was
}

// wholeRow stands in the log instead of a step, where every step of a row was run.
const wholeRow = "whole"

// Open reads the log, if there is one, and has the table printed when the test ends.
func Open(t *testing.T) *Sweep {
	t.Helper()
	s := newSweep(io.Discard)
	if *limit > 0 {
		s.until = time.Now().Add(*limit)
	}
	if *file != "" {
		f, err := os.OpenFile(*file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := s.read(f); err != nil {
			t.Fatalf("%s: %v", *file, err)
		}
		s.log = f
	}
	t.Cleanup(func() { t.Logf("%d cells\n%v", s.Total(), s) })
	return s
}

func newSweep(log io.Writer) *Sweep {
	return &Sweep{cells: map[Row]map[int]int{}, whole: map[Row]bool{}, log: log}
}

// read takes the lines "ROW STEP MILLISECONDS" and "ROW whole" of a log.
func (s *Sweep) read(r io.Reader) error {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Split(lines.Text(), "\t")
		row, err := parseRow(f[0])
		if err != nil {
			return err
		}
		if len(f) == 2 && f[1] == wholeRow {
			s.whole[row] = true
			continue
		}
		step, err := strconv.Atoi(f[min(1, len(f)-1)])
		if err != nil {
			return err
		}
		s.note(row, step)
	}
	return nil
}

func (s *Sweep) note(r Row, step int) {
	if s.cells[r] == nil {
		s.cells[r] = map[int]int{}
	}
	s.cells[r][step]++
}

// Ran records that a cell was run and its victim found well; after took it went on.
func (s *Sweep) Ran(r Row, step int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(r, step)
	fmt.Fprintf(s.log, "%v\t%d\t%d\n", r, step, took.Milliseconds())
}

// RanAll records that every step was run that Steps chose of a row.
func (s *Sweep) RanAll(r Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole[r] = true
	fmt.Fprintf(s.log, "%v\t%s\n", r, wholeRow)
}

// Over tells that no other cell is to be begun.
func (s *Sweep) Over() bool { return !s.until.IsZero() && time.Now().After(s.until) }

// Samples tells that only some cells of some rows are to be run: CI.
func (s *Sweep) Samples() bool { return !long && *count == 0 }

// Wants tells whether there is anything to run of a row that is one of rows; sample is how
// many cells CI runs of it.
func (s *Sweep) Wants(r Row, rows, sample int) bool {
	switch {
	case s.Over():
		return false
	case *count > 0:
		return s.drawn(r, rows) > 0
	case long:
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.whole[r]
	}
	return sample > 0
}

// drawn is how many of the cells that are drawn fall to a row.
func (s *Sweep) drawn(r Row, rows int) int {
	n := *count / rows
	if random(r).IntN(rows) < *count%rows {
		n++
	}
	return n
}

// random is what is drawn by for a row.
func random(r Row) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.String()))
	return rand.New(rand.NewPCG(*seed, h.Sum64()))
}

// Steps chooses the steps to run of a row that Wants wants, whose steps have names. Step n
// is the one behind which a doer ends that counts its steps from 1; 0 is a moment that the
// caller draws.
func (s *Sweep) Steps(r Row, rows int, names []string, sample int) []int {
	rnd := random(r)
	switch {
	case *count > 0:
		list := make([]int, s.drawn(r, rows))
		for i := range list {
			list[i] = rnd.IntN(len(names) + 1)
		}
		return list
	case long:
		return s.left(r, thorough(names, rnd))
	}
	return apart(len(names), sample, rnd)
}

// left leaves out what the log has.
func (s *Sweep) left(r Row, steps []int) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(steps, func(step int) bool { return s.cells[r][step] > 0 })
}

// apart is n of the steps 1 to last, at about equal distances.
func apart(last, n int, rnd *rand.Rand) (steps []int) {
	n = min(n, last)
	for i := range n {
		from, to := i*last/n, (i+1)*last/n
		steps = append(steps, 1+from+rnd.IntN(to-from))
	}
	return steps
}

// manySteps is what a row has at most without there being many threads.
const manySteps = 160

// ofAKind is how many steps of one name are run where there are many.
const ofAKind = 3

// thorough is every step and a moment between them; where they are many, of each name the
// first, the last and one more.
func thorough(names []string, rnd *rand.Rand) []int {
	steps := []int{0}
	if len(names) <= manySteps {
		for i := range names {
			steps = append(steps, i+1)
		}
		return steps
	}
	kinds := map[string][]int{}
	for i, name := range names {
		kinds[name] = append(kinds[name], i+1)
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		all := kinds[name]
		if n := len(all); n > ofAKind {
			all = []int{all[0], all[1+rnd.IntN(n-2)], all[n-1]}
		}
		steps = append(steps, all...)
	}
	slices.Sort(steps)
	return steps
}
