package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/patch-integration-engine/pie"
)

// modeWords is "enforce, trial until 02:24", with the date when it is not today.
func modeWords(m pie.Mode, trialEnd *time.Time, now time.Time) string {
	if trialEnd == nil || m == pie.ModeOff {
		return string(m)
	}
	if trialEnd.Before(now) {
		return fmt.Sprintf("%s, trial ended at %s: rejects nothing", m, clock(*trialEnd, now))
	}
	return fmt.Sprintf("%s, trial until %s", m, clock(*trialEnd, now))
}

func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// copiesWords is "2 of 2 copies".
func copiesWords(c pie.Copies) string {
	return fmt.Sprintf("%d of %s", c.Guarded, plural(c.All, "copy", "copies"))
}

// seenLabel introduces what a rejected client sees.
func seenLabel(m pie.Mode) string {
	if m == pie.ModeEnforce {
		return "rejected clients see:"
	}
	return "rejected clients would see:"
}

// milliseconds is "0.4 ms", "12 ms".
func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 0.1:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

func baseName(path string) string {
	if path == "" {
		return "?"
	}
	return filepath.Base(path)
}

// exeNames lists the base names of the executables, each once. Of a process that
// had ended before it was looked at no name is known.
func exeNames(ps []pie.ProcessReport) string {
	var names []string
	for _, p := range ps {
		if n := baseName(p.Exe); !slices.Contains(names, n) && (p.Exe != "" || p.State != pie.StateGone) {
			names = append(names, n)
		}
	}
	return strings.Join(names, ", ")
}

func displayID(id string) string {
	if id == pie.AnyID {
		return "every prepatch"
	}
	return id
}

// grouped is "4,812,331".
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for k := len(s) - 3; k > 0; k -= 3 {
		s = s[:k] + "," + s[k:]
	}
	return s
}

// sizeWords is "812 B", "1.2 KiB", "34 MiB".
func sizeWords(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, k := float64(n)/unit, 0
	for f >= unit && k < 3 {
		f, k = f/unit, k+1
	}
	return strings.Replace(fmt.Sprintf("%.1f %s", f, []string{"KiB", "MiB", "GiB", "TiB"}[k]), ".0 ", " ", 1)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
