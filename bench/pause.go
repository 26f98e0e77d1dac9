package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A stopper is something that stops every thread of a process for a while.
type stopper struct {
	name string
	stop func(b *bench, t *target) error
}

func stoppers() []stopper {
	return []stopper{
		{"nothing (the machine's own noise)", func(*bench, *target) error { time.Sleep(50 * time.Millisecond); return nil }},
		{"bare C seize–interrupt–detach", func(b *bench, t *target) error { return exec.Command(b.path("stopper"), t.pid()).Run() }},
		{"a Go program that does nothing", func(b *bench, _ *target) error { return exec.Command(b.path("nothing")).Run() }},
		{"pie insert", func(b *bench, t *target) error {
			return b.pie("insert", "bench/testdata/guards/compare.go", "--pid", t.pid(), "--yes")
		}},
		{"kernel uprobe, registered and taken out", uprobe},
		{"gdb attach, break, detach", func(_ *bench, t *target) error {
			return exec.Command("gdb", "-q", "-nx", "-batch", "-p", t.pid(), "-ex", "break compare", "-ex", "delete", "-ex", "detach").Run()
		}},
	}
}

// pause prints what the target's own threads felt while each tool did its work.
func (b *bench) pause() error {
	fmt.Print("\n## Pause, as the target's threads feel it\n\n| threads | tool | largest gap of a busy thread ms | largest lateness of a sleeper ms | EINTR seen | wall ms |\n|---|---|---|---|---|---|\n")
	for _, threads := range []int{1, 16, 128, 1000} {
		for _, s := range stoppers() {
			var gap, late, wall []float64
			interrupted := 0
			for range b.repeat {
				g, took, err := b.once(s, threads)
				if err != nil {
					return fmt.Errorf("%s at %d threads: %w", s.name, threads, err)
				}
				gap, late, wall = append(gap, g.gap/1e3), append(late, g.late/1e3), append(wall, took.Seconds()*1e3)
				interrupted += g.interrupted
			}
			fmt.Printf("| %d | %s | %.2f | %.2f | %d | %.1f |\n", threads, s.name, median(gap), median(late), interrupted, median(wall))
		}
	}
	return nil
}

func (b *bench) once(s stopper, threads int) (gaps, time.Duration, error) {
	t, err := b.start("pause", threads)
	if err != nil {
		return gaps{}, 0, err
	}
	defer t.stop()
	time.Sleep(300 * time.Millisecond)
	if _, err := t.gaps(); err != nil {
		return gaps{}, 0, err
	}
	start := time.Now()
	if err := s.stop(b, t); err != nil {
		return gaps{}, 0, err
	}
	took := time.Since(start)
	time.Sleep(20 * time.Millisecond)
	g, err := t.gaps()
	return g, took, err
}

// uprobe registers a kernel uprobe on the guarded function through tracefs.
func uprobe(b *bench, t *target) error {
	trace := b.path("tracefs")
	if _, err := os.Stat(filepath.Join(trace, "uprobe_events")); err != nil {
		if err := os.MkdirAll(trace, 0o700); err != nil {
			return err
		}
		if out, err := exec.Command("mount", "-t", "tracefs", "tracefs", trace).CombinedOutput(); err != nil {
			return fmt.Errorf("mounting tracefs: %w: %s", err, out)
		}
		b.atEnd(func() { exec.Command("umount", trace).Run() })
	}
	symbols, err := exec.Command("nm", b.path("target")).Output()
	if err != nil {
		return err
	}
	var offset uint64
	for line := range strings.Lines(string(symbols)) {
		if strings.HasSuffix(line, " T compare\n") {
			// The linker's usual layout: text is mapped where its offset says.
			if _, err := fmt.Sscanf(line, "%x", &offset); err != nil {
				return err
			}
		}
	}
	write := func(file, text string) error {
		f, err := os.OpenFile(filepath.Join(trace, file), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(text)
		return err
	}
	if err := write("uprobe_events", fmt.Sprintf("p:piebench/compare %s:%#x\n", b.path("target"), offset)); err != nil {
		return err
	}
	defer write("uprobe_events", "-:piebench/compare\n")
	if err := write("events/piebench/compare/enable", "1"); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond)
	return write("events/piebench/compare/enable", "0")
}
