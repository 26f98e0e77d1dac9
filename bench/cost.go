package main

import (
	"fmt"
	"path/filepath"
)

// cost prints what a guard adds to a call: the guarded function against its twin
// in the same process and time, minus the same difference before the guard.
func (b *bench) cost() error {
	fmt.Print("\n## Added per call\n\n| guard | threads | bare call ns | added ns (median) | all repeats |\n|---|---|---|---|---|\n")
	for _, threads := range []int{1, 8} {
		for _, guard := range []string{"compare", "field", "text"} {
			var added, bare []float64
			for range b.repeat {
				a, twin, err := b.added(guard, threads)
				if err != nil {
					return err
				}
				added, bare = append(added, a), append(bare, twin)
			}
			fmt.Printf("| %s | %d | %.2f | %+.2f | %+.2f |\n", guard, threads, median(bare), median(added), added)
		}
	}
	return nil
}

func (b *bench) added(guard string, threads int) (added, bare float64, err error) {
	t, err := b.start("cost", threads)
	if err != nil {
		return 0, 0, err
	}
	defer t.stop()
	if _, err := t.costs(); err != nil { // warm up
		return 0, 0, err
	}
	before, err := t.costs()
	if err != nil {
		return 0, 0, err
	}
	prepatch := filepath.Join("bench/testdata/guards", guard+".go")
	if err := b.pie("insert", prepatch, "--pid", t.pid(), "--yes"); err != nil {
		return 0, 0, err
	}
	after, err := t.costs()
	if err != nil {
		return 0, 0, err
	}
	x, y := before[guard], after[guard]
	return (y.function - y.twin) - (x.function - x.twin), y.twin, nil
}
