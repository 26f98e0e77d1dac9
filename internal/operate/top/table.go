package top

import (
	"fmt"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/term"
)

// column is one before the sparkline, which takes what is left of the width.
type column struct {
	name  string
	right bool
	of    func(*row) string
}

// columns are what is shown where there is room. Below, which of them a narrower
// screen does without.
var columns = []column{
	{"PREPATCH", false, func(r *row) string { return r.id }},
	{"EXE", false, func(r *row) string { return r.exe }},
	{"PROCS", true, func(r *row) string { return fmt.Sprint(len(r.pids)) }},
	{"MODE", false, func(r *row) string { return r.mode + r.state }},
	{"CALLS/S", true, func(r *row) string { return number(r.callRate) }},
	{"REJECTED", true, func(r *row) string { return fmt.Sprint(r.rejects) }},
	{"ERRORS", true, func(r *row) string { return fmt.Sprint(r.errors) }},
}

// expendable are columns by how soon they are left out: what a prepatch is, does and
// has rejected is looked at first.
var expendable = []string{"PROCS", "CALLS/S", "EXE", "ERRORS"}

// cells of the column, its name first.
func (c column) cells(shown []*row) []string {
	out := []string{c.name}
	for _, r := range shown {
		out = append(out, term.Escape(c.of(r)))
	}
	return out
}

// fitting leaves columns out, and then shortens the mode, until the numbers fit into
// width.
func fitting(shown []*row, width int) (kept [][]string, right []bool) {
	left := slices.Clone(columns)
	for _, name := range expendable {
		if tableWidth(left, shown) <= width {
			break
		}
		left = slices.DeleteFunc(left, func(c column) bool { return c.name == name })
	}
	over := tableWidth(left, shown) - width
	for _, c := range left {
		cells := c.cells(shown)
		if c.name == "MODE" && over > 0 {
			room := max(len("enforce"), widest(cells)-over)
			for i := range cells {
				cells[i] = cut(cells[i], room)
			}
		}
		kept, right = append(kept, cells), append(right, c.right)
	}
	return kept, right
}

// tableWidth is how wide columns are, with the gaps that beside makes.
func tableWidth(columns []column, shown []*row) int {
	n := 0
	for _, c := range columns {
		n += 2 + widest(c.cells(shown))
		if c.right {
			n--
		}
	}
	return n
}

func widest(cells []string) int {
	n := 0
	for _, c := range cells {
		n = max(n, len([]rune(c)))
	}
	return n
}

func (m model) table() []string {
	if len(m.rows) == 0 {
		return []string{"no prepatch is in any process; pie scan tells what could be guarded"}
	}
	lines := []string{" "}
	most := max(1, m.height-9)
	first := 0
	for i, r := range m.rows {
		if r.key() == m.chosen && i >= most {
			first = i - most + 1
		}
	}
	shown := m.rows[first:min(first+most, len(m.rows))]
	for _, r := range shown {
		mark := " "
		if r.key() == m.chosen {
			mark = ">"
		}
		lines = append(lines, mark)
	}
	kept, right := fitting(shown, m.width)
	for i, cells := range kept {
		beside(lines, cells, right[i])
	}
	return m.sparklines(lines, shown)
}

// beside appends a column to lines, all of them then being as long.
func beside(lines, cells []string, right bool) {
	width, gap := widest(cells), "  "
	if lines[0] == " " {
		gap = " " // behind the mark of the chosen row
	}
	for i, c := range cells {
		space := strings.Repeat(" ", width-len([]rune(c)))
		if right {
			lines[i] += " " + space + c
		} else {
			lines[i] += gap + c + space
		}
	}
}

// leastSpark is the narrowest sparkline, in seconds; where there is less room there
// is none.
const leastSpark = 8

func (m model) sparklines(lines []string, shown []*row) []string {
	width := min(history, m.width-len([]rune(lines[0]))-2)
	if width < leastSpark {
		return lines
	}
	title := fmt.Sprintf("REJECTED/S, LAST %d S", width)
	if len(title) > width {
		title = "REJECTED/S"[:min(width, len("REJECTED/S"))]
	}
	lines[0] += "  " + title
	for i, r := range shown {
		lines[i+1] += "  " + sparkline(r.rates, width)
	}
	return lines
}
