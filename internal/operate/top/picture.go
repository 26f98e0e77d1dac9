package top

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/patch-integration-engine/pie"
)

// Picture is what was read of all processes at one instant.
type Picture struct {
	At       time.Time
	Statuses []pie.ProcessStatus
	Events   []pie.Event // since the picture before
	Err      error
}

// row is one prepatch in the processes of one family, which count together.
type row struct {
	id, exe, mode          string
	state                  string // what is unusual, in parentheses after a space
	pids                   []int
	calls, rejects, errors uint64
	// callRate and rates are per second; rates is of rejected and audited calls,
	// oldest first.
	callRate float64
	rates    []float64
	counters string
}

// key names a row from picture to picture.
func (r *row) key() string { return r.id + " " + r.counters }

// history is how many seconds of rejections are shown.
const history = 60

// rows are the rows of a picture, with what the rows before it knew.
func rows(p Picture, before []*row, took time.Duration) []*row {
	known := map[string]*row{}
	for _, r := range before {
		known[r.key()] = r
	}
	var out []*row
	at := map[string]*row{}
	for _, s := range p.Statuses {
		for _, in := range s.Prepatches {
			r := &row{id: in.ID, counters: in.Counters, exe: base(s.Exe), mode: modeOf(in, p.At), state: stateOf(in)}
			if same := at[r.key()]; same != nil {
				same.pids = append(same.pids, s.Pid)
				continue
			}
			r.pids = []int{s.Pid}
			for _, g := range in.Guards {
				r.calls += g.Calls
				r.rejects += g.Rejects + g.Audited
				r.errors += g.Errors + g.RanLong
			}
			r.rate(known[r.key()], took)
			at[r.key()] = r
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b *row) int { return cmp.Or(strings.Compare(a.id, b.id), a.pids[0]-b.pids[0]) })
	return out
}

// rate adds the last interval to the history.
func (r *row) rate(before *row, took time.Duration) {
	if before == nil || took <= 0 {
		return
	}
	r.callRate = float64(grown(r.calls, before.calls)) / took.Seconds()
	r.rates = append(slices.Clone(before.rates), float64(grown(r.rejects, before.rejects))/took.Seconds())
	if n := len(r.rates); n > history {
		r.rates = r.rates[n-history:]
	}
}

// grown is how much a counter grew; what a process may write into can shrink.
func grown(now, before uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}

func modeOf(p pie.PrepatchStatus, now time.Time) string {
	m := string(p.Mode)
	switch {
	case p.TrialEnd == nil || p.Mode == pie.ModeOff:
	case p.TrialEnd.Before(now):
		m += ", trial over"
	default:
		m += ", trial " + left(p.TrialEnd.Sub(now))
	}
	return m
}

// left is a time in few characters: seconds count at its end only.
func left(d time.Duration) string {
	if d < 2*time.Minute {
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

func stateOf(p pie.PrepatchStatus) string {
	for _, g := range p.Guards {
		switch {
		case g.Lost:
			return " (gone with its library)"
		case !g.Intact && p.State == "altered":
			return " (changed by someone else)"
		case !g.Intact:
			return " (not in place)"
		}
	}
	for _, g := range p.Guards {
		if g.Failing {
			return " (fails on most calls)"
		}
	}
	switch {
	case p.Stopped != "":
		return " (off: " + p.Stopped + ")"
	case p.State != "in":
		return " (" + p.State + ")"
	}
	return ""
}

func base(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[i+1:]
	}
	return cmp.Or(path, "?")
}

// bars are the steps of a sparkline.
var bars = []rune(" ▁▂▃▄▅▆▇█")

// sparkline draws the last values in width cells, scaled to their largest.
func sparkline(values []float64, width int) string {
	if len(values) > width {
		values = values[len(values)-width:]
	}
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(values)))
	for _, v := range values {
		step := 0
		if v > 0 {
			step = min(len(bars)-1, 1+int(v/top*float64(len(bars)-2)+0.5))
		}
		b.WriteRune(bars[step])
	}
	return b.String()
}
