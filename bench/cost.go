package main

import (
	"fmt"
	"path/filepath"
)

// cost prints what a guard adds to a call: the guarded function against its twin,
// which has the same bytes on the same alignment, and beside it what a detour written
// by hand adds; all in one process and at one time.
func (b *bench) cost() error {
	fmt.Print("\n## Added per call\n\n| guard | threads | bare call ns | hand-written detour ns | guard ns (median) | call, × the detour's | all repeats |\n|---|---|---|---|---|---|---|\n")
	for _, threads := range []int{1, 8} {
		for _, guard := range []string{"compare", "field", "text"} {
			var twin, added, detour, ratio []float64
			for range b.repeat {
				c, err := b.added(guard, threads)
				if err != nil {
					return err
				}
				twin, added, detour, ratio = append(twin, c.twin), append(added, c.added), append(detour, c.detour), append(ratio, c.ratio)
			}
			byHand, times := "", ""
			if median(detour) != 0 {
				byHand, times = fmt.Sprintf("%+.2f", median(detour)), fmt.Sprintf("%.2f", median(ratio))
			}
			fmt.Printf("| %s | %d | %.2f | %s | %+.2f | %s | %+.2f |\n", guard, threads, median(twin), byHand, median(added), times, added)
		}
	}
	return nil
}

func (b *bench) added(guard string, threads int) (costs, error) {
	t, err := b.start("cost", threads)
	if err != nil {
		return costs{}, err
	}
	defer t.stop()
	if _, err := t.costs(); err != nil { // warm up
		return costs{}, err
	}
	prepatch := filepath.Join("bench/testdata/guards", guard+".go")
	if err := b.pie("insert", prepatch, "--pid", t.pid(), "--yes"); err != nil {
		return costs{}, err
	}
	after, err := t.costs()
	if err != nil {
		return costs{}, err
	}
	return after[guard], nil
}
