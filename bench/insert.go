package main

import (
	"fmt"
	"strconv"
	"time"
)

// insert prints how long a whole `pie insert` into a real nginx takes, master and
// two workers, from the start of the command to its end.
func (b *bench) insert() error {
	fmt.Print("\n## Wall time of `pie insert` into nginx (master and two workers)\n\n| repeats | median ms | all |\n|---|---|---|\n")
	var wall []float64
	for range b.repeat {
		took, err := b.insertOnce()
		if err != nil {
			return err
		}
		wall = append(wall, took.Seconds()*1e3)
	}
	fmt.Printf("| %d | %.1f | %.1f |\n", b.repeat, median(wall), wall)
	return nil
}

func (b *bench) insertOnce() (time.Duration, error) {
	_, pid, stop, err := b.startNginx()
	if err != nil {
		return 0, err
	}
	defer stop()
	start := time.Now()
	err = b.pie("insert", "CVE-2024-7347", "--pid", strconv.Itoa(pid), "--yes")
	return time.Since(start), err
}
