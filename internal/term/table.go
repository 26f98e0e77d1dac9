package term

import (
	"io"
	"strings"
	"unicode/utf8"
)

// A Table is rows of cells, aligned by column. Cells are plain text; Write
// escapes them.
type Table struct {
	rows  [][]string
	right map[int]bool
}

// Right aligns the given columns to the right: numbers.
func (t *Table) Right(columns ...int) *Table {
	if t.right == nil {
		t.right = map[int]bool{}
	}
	for _, c := range columns {
		t.right[c] = true
	}
	return t
}

// Row adds a row.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = Escape(c)
	}
	t.rows = append(t.rows, row)
}

// Write prints the rows to w, each after indent, columns two spaces apart.
func (t *Table) Write(w io.Writer, indent string) error {
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, row := range t.rows {
		if _, err := io.WriteString(w, t.line(row, widths, indent)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) line(row []string, widths []int, indent string) string {
	var b strings.Builder
	b.WriteString(indent)
	for i, c := range row {
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
		if i > 0 {
			b.WriteString("  ")
		}
		if t.right[i] {
			b.WriteString(pad + c)
		} else {
			b.WriteString(c + pad)
		}
	}
	return strings.TrimRight(b.String(), " ") + "\n"
}
