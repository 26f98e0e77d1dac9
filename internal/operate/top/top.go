// Package top is the live view of pie top: prepatches, the processes they are
// in, calls and rejections per second, the last events, and keys to act on them.
//
// The model only draws what it was given and asks for the next picture; reading
// processes and changing guards is done by functions it is made with. Strings
// that come from processes are escaped where they are drawn.
package top

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/patch-integration-engine/pie"
	"github.com/patch-integration-engine/pie/internal/term"
)

// Actions are what the view can do.
type Actions struct {
	Read   func() Picture
	Mode   func(id string, m pie.Mode, pids []int) error
	Remove func(id string, pids []int) error
}

// Run shows the view until the user leaves it, or ctx ends.
func Run(ctx context.Context, a Actions, o ...tea.ProgramOption) error {
	_, err := tea.NewProgram(newModel(a), append(o, tea.WithContext(ctx))...).Run()
	return err
}

// interval is the time between pictures.
const interval = time.Second

// maxEvents is how many of the last events are kept.
const maxEvents = 200

// model is what is shown.
type model struct {
	actions       Actions
	width, height int
	last          Picture
	rows          []*row
	chosen        string // key of the row
	detail        bool
	asking        bool // to remove the chosen one
	events        []pie.Event
	said          string // what came of the last action
}

func newModel(a Actions) model { return model{actions: a, width: 80, height: 24} }

type pictureMsg Picture

type saidMsg string

// Init reads the first picture.
func (m model) Init() tea.Cmd { return m.read }

func (m model) read() tea.Msg { return pictureMsg(m.actions.Read()) }

// Update takes a key, a picture or the terminal's size.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case pictureMsg:
		m.take(Picture(msg))
		return m, tea.Tick(interval, func(time.Time) tea.Msg { return m.read() })
	case saidMsg:
		m.said = string(msg)
	case tea.KeyPressMsg:
		return m.key(msg.String())
	}
	return m, nil
}

func (m *model) take(p Picture) {
	took := time.Duration(0)
	if !m.last.At.IsZero() {
		took = p.At.Sub(m.last.At)
	}
	m.rows = rows(p, m.rows, took)
	m.events = append(m.events, p.Events...)
	if n := len(m.events); n > maxEvents {
		m.events = m.events[n-maxEvents:]
	}
	m.last = p
	if m.row() == nil {
		m.chosen, m.detail, m.asking = "", false, false
		if len(m.rows) > 0 {
			m.chosen = m.rows[0].key()
		}
	}
}

// row is the chosen row, nil when there is none.
func (m *model) row() *row {
	for _, r := range m.rows {
		if r.key() == m.chosen {
			return r
		}
	}
	return nil
}

func (m *model) move(by int) {
	for i, r := range m.rows {
		if r.key() == m.chosen {
			m.chosen = m.rows[min(max(i+by, 0), len(m.rows)-1)].key()
			return
		}
	}
}

// key acts on a key. What changes processes is done for the chosen row alone, and
// removal is asked about.
func (m model) key(k string) (tea.Model, tea.Cmd) {
	r := m.row()
	if m.asking {
		m.asking = false
		if k == "y" && r != nil {
			return m, m.do("removed", r, func() error { return m.actions.Remove(r.id, r.pids) })
		}
		m.said = "not removed"
		return m, nil
	}
	m.said = ""
	switch k {
	case "q", "ctrl+c":
		return m, tea.Quit
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "enter":
		m.detail = r != nil && !m.detail
	case "esc":
		m.detail = false
	case "e", "a", "o":
		if r != nil {
			mode := map[string]pie.Mode{"e": pie.ModeEnforce, "a": pie.ModeAudit, "o": pie.ModeOff}[k]
			return m, m.do(string(mode), r, func() error { return m.actions.Mode(r.id, mode, r.pids) })
		}
	case "r":
		m.asking = r != nil
	}
	return m, nil
}

// do acts in the background and says what came of it.
func (m model) do(what string, r *row, act func() error) tea.Cmd {
	return func() tea.Msg {
		if err := act(); err != nil {
			return saidMsg(fmt.Sprintf("%s: %v", r.id, err))
		}
		return saidMsg(fmt.Sprintf("%s: %s in %d of its processes", r.id, what, len(r.pids)))
	}
}

// View draws the screen.
func (m model) View() tea.View {
	v := tea.NewView(m.text())
	v.AltScreen = true
	return v
}

// text is the screen, no line longer or more than it has room for.
func (m model) text() string {
	lines := m.head()
	body := m.table()
	if m.detail {
		body = m.inspect()
	}
	lines = append(lines, body...)
	foot := m.foot()
	if room := m.height - len(lines) - len(foot) - 2; room > 0 {
		lines = append(lines, m.eventLines(room)...)
	}
	for len(lines) < m.height-len(foot) {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, min(len(lines), m.height-len(foot)))], foot...)
	for i, l := range lines {
		lines[i] = cut(l, m.width)
	}
	return strings.Join(lines, "\n")
}

func (m model) head() []string {
	procs := map[int]bool{}
	rate := 0.0
	for _, r := range m.rows {
		for _, pid := range r.pids {
			procs[pid] = true
		}
		if n := len(r.rates); n > 0 {
			rate += r.rates[n-1]
		}
	}
	at := ""
	if !m.last.At.IsZero() {
		at = m.last.At.Local().Format("15:04:05")
	}
	noun := "processes"
	if len(procs) == 1 {
		noun = "process"
	}
	line := fmt.Sprintf("pie top  %s  %d guarded %s  %.0f rejected/s", at, len(procs), noun, rate)
	if m.last.Err != nil {
		line += "  " + term.Escape(m.last.Err.Error())
	}
	return []string{line, ""}
}

// inspect shows the chosen row process by process, guard by guard.
func (m model) inspect() []string {
	r := m.row()
	if r == nil {
		return nil
	}
	out := []string{fmt.Sprintf("%s in %s, %s   (esc: back)", term.Escape(r.id), term.Escape(r.exe), term.Escape(r.mode)), ""}
	for _, s := range m.last.Statuses {
		for _, p := range s.Prepatches {
			if p.ID != r.id || p.Counters != r.counters {
				continue
			}
			out = append(out, fmt.Sprintf("  pid %-8d since %s", s.Pid, p.Inserted.Local().Format("2006-01-02 15:04:05")))
			for _, g := range p.Guards {
				out = append(out, m.guardLines(g)...)
			}
		}
	}
	return out
}

// guardLines are what one guard did: one line, or two where it is too long.
func (m model) guardLines(g pie.GuardStatus) []string {
	what := fmt.Sprintf("    %-32s %s", term.Escape(g.Function), g.Site)
	did := fmt.Sprintf("calls %d  rejected %d  audited %d  errors %d  ran long %d", g.Calls, g.Rejects, g.Audited, g.Errors, g.RanLong)
	if line := what + "  " + did; len([]rune(line)) <= m.width {
		return []string{line}
	}
	return []string{what, "      " + did}
}

// seen are the events that belong to what is shown: of one prepatch while that is
// inspected.
func (m model) seen() []pie.Event {
	r := m.row()
	if !m.detail || r == nil {
		return m.events
	}
	var own []pie.Event
	for _, e := range m.events {
		if e.ID == r.id {
			own = append(own, e)
		}
	}
	return own
}

func (m model) eventLines(room int) []string {
	out := []string{"", "last events"}
	events := m.seen()
	if len(events) == 0 {
		return append(out, "  none")
	}
	for _, e := range events[max(0, len(events)-room):] {
		args := make([]string, len(e.Args))
		for i, a := range e.Args {
			args[i] = fmt.Sprintf("%#x", a)
		}
		out = append(out, fmt.Sprintf("  %s  %-18s %-8s %s[%d]  %s(%s)", e.Time.Local().Format("15:04:05.000"), term.Escape(e.ID), e.Kind, term.Escape(base(e.Exe)), e.Pid, term.Escape(e.Function), strings.Join(args, ", ")))
	}
	return out
}

func (m model) foot() []string {
	line := "↑↓ choose · enter inspect · e enforce · a audit · o off · r remove · q quit"
	if m.width < len([]rune(line)) {
		line = "↑↓ enter · e a o r · q quit"
	}
	if m.asking {
		if r := m.row(); r != nil {
			line = fmt.Sprintf("take %s out of %d processes? y/N", term.Escape(r.id), len(r.pids))
		}
	}
	return []string{term.Escape(m.said), line}
}

// number is a rate in few characters.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.1fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	case v >= 10 || v == 0:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// cut bounds a line to width cells.
func cut(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return strings.TrimRight(s, " ")
	}
	return string(runes[:max(0, width-1)]) + "…"
}
